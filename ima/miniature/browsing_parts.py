"""Train two passes over several pictures, and one pass as the control, for the zoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ima.data.picture_questions import make_blank_pixels
from ima.data.samples import Sample
from ima.interventions.browsing import BROWSING_FOLDER, make_two_pass_model
from ima.miniature import connectors, multitask
from ima.miniature.cards import make_card, make_data_record
from ima.miniature.examination import use_zoo_root
from ima.miniature.materials import TrainingMaterials
from ima.miniature.pools import build_pool
from ima.miniature.several_pictures import make_question_drawer
from ima.miniature.workshop import ZooPart
from ima.models import load_model
from ima.models.encoders import read_encoder_tokens, scale_images
from ima.models.llava import drop_cls_token
from ima.models.zoo import WEIGHTS_FILE, hash_state_dict
from ima.training.loop import TrainingRecipe, save_weights
from ima.training.two_passes import (
    TwoPassRecipe,
    count_trained_weights,
    select_trained_state,
    train_two_passes,
)

#: The model whose connector both trainings start from: the one with queries.
_BASE = "llava-mini-4"
_NEEDS = multitask.FROZEN_PARTS | {"base": f"multitask/{_BASE}"}
#: Perceptual tokens of each picture: fewer than the objects that a picture can show.
_N_QUERIES = 2
_MOST_PICTURES = 3
#: Training pictures at full size and at least, and validation pictures.
_POOL_SIZE, _LEAST_POOL_SIZE, _N_VALIDATION_PICTURES = 8000, 400, 600
_TRAINING = TrainingRecipe(
    steps=1100, learning_rate=1.5e-3, seed=61, warmup=40, probe_every=100, save_every=50
)
_TWO_PASSES = TwoPassRecipe(_TRAINING, frozen_layers=2)
#: By name, a training; both start from the same weights and read the same questions.
BROWSING_RECIPES: Mapping[str, TwoPassRecipe] = {
    "two-pass": _TWO_PASSES,
    "one-pass": replace(_TWO_PASSES, second_pass=False),
}


class PoolQuestions:
    """Questions about rendered pictures of one split, for a training.

    Parameters
    ----------
    split : str
        The split.
    n : int
        Number of pictures.
    encoder : CLIPVisionModel
        Reads the pictures, all at once.

    Examples
    --------
    >>> PoolQuestions("train", n=64, encoder=encoder).blank.shape  # doctest: +SKIP
    torch.Size([64, 128])
    """

    def __init__(self, split: str, *, n: int, encoder: Any) -> None:
        pool = build_pool(multitask.MULTITASK_MODALITY, split, n=n)
        self.drawer = make_question_drawer(pool.situations)
        self.tokens = drop_cls_token(connectors.encode_pool(encoder, pool, device="cpu"))
        self.blank = _encode_blank(encoder, shape=pool.media.shape[1:])

    def draw(self, n: int, *, rng: np.random.Generator) -> list[tuple[tuple[int, ...], Sample]]:
        """Draw questions about two or more pictures."""
        return self.drawer.draw_rows(n, pictures=_MOST_PICTURES, rng=rng)

    def read_tokens(self, pictures: Sequence[int]) -> Tensor:
        """Return the tokens of pictures, ``(picture, patch, width)``."""
        return self.tokens[list(pictures)].float()


@torch.no_grad()
def _encode_blank(encoder: Any, *, shape: Sequence[int]) -> Tensor:
    """Return the tokens of a picture that shows nothing."""
    values = torch.from_numpy(scale_images([make_blank_pixels(shape)]))
    return drop_cls_token(read_encoder_tokens(encoder, values))[0].float()


def make_browsing_parts(materials: TrainingMaterials) -> list[ZooPart]:
    """Return the parts of the zoo that this module trains: two passes, and the control.

    Examples
    --------
    >>> [part.name for part in make_browsing_parts(materials)]  # doctest: +SKIP
    ['browsing/two-pass', 'browsing/one-pass']
    """
    plan, parts = materials.workshop.plan, []
    sizes = {
        "train": max(_LEAST_POOL_SIZE, round(_POOL_SIZE * plan.ratio)),
        "validation": _N_VALIDATION_PICTURES,
    }

    @cache
    def open_questions(split: str) -> PoolQuestions:
        encoder = materials.load_encoder(multitask.MULTITASK_ENCODER)
        return PoolQuestions(split, n=sizes[split], encoder=encoder)

    for name, recipe in BROWSING_RECIPES.items():
        own = replace(recipe, training=plan.scale_recipe(recipe.training))
        settings = asdict(own)
        record = {
            **settings.pop("training"),
            **settings,
            "pool": sizes["train"],
            "queries": _N_QUERIES,
            "pictures": _MOST_PICTURES,
        }
        parts.append(
            ZooPart(
                f"{BROWSING_FOLDER}/{name}",
                record,
                partial(_make, materials, name, own, open_questions),
                needs=_NEEDS,
            )
        )
    return parts


def _make(
    materials: TrainingMaterials,
    name: str,
    recipe: TwoPassRecipe,
    open_questions: Callable[[str], PoolQuestions],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    workshop, part = materials.workshop, f"{BROWSING_FOLDER}/{name}"
    with use_zoo_root(workshop.place):
        base = load_model(_BASE, device=workshop.plan.device)
    two_pass = make_two_pass_model(
        base, queries=record["queries"], pictures=record["pictures"], injection="all", name=name
    )
    result = train_two_passes(
        two_pass,
        train=open_questions("train"),
        validation=open_questions("validation"),
        recipe=recipe,
        name=name,
        state_path=workshop.get_checkpoint_path(part),
    )
    folder = workshop.get_part_folder(part)
    save_weights(select_trained_state(two_pass, recipe), folder / WEIGHTS_FILE)
    # Of the language model that all connectors share, not of the model that holds it.
    language, _ = materials.get_language_model(multitask.MULTITASK_LANGUAGE)
    dataset = f"mini-{multitask.MULTITASK_MODALITY}-caption"
    card = make_card(name, "browsing", two_pass.connector, folder, recipe=record, result=result)
    card["data"] |= make_data_record(dataset, n=record["pool"])
    return card | {
        "setup": "MT",
        "modality": multitask.MULTITASK_MODALITY,
        "task": "qa",
        "dataset": dataset,
        "model": _BASE,
        "base": record["parts"]["base"],
        "command": f"ima zoo train --keep --only '{BROWSING_FOLDER}/*'",
        "parameters": count_trained_weights(two_pass, recipe),
        "configuration": two_pass.condition.config.model_dump(),
        "parts": {role: sha256 for role, sha256 in record["parts"].items() if role != "base"},
        "made_of": {role: part for role, part in _NEEDS.items() if role != "base"},
        "language_state": hash_state_dict(language.state_dict()),
    }
