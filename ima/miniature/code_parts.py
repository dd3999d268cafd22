"""Train codes as further words of a frozen language model (TEAL), and the control, for the zoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cache, partial
from typing import Any

import torch

from ima.data.samples import Sample
from ima.miniature import connectors
from ima.miniature.cards import make_card, make_data_record
from ima.miniature.datasets import describe_scene
from ima.miniature.examination import use_zoo_root
from ima.miniature.materials import TrainingMaterials
from ima.miniature.pools import build_pool
from ima.miniature.workshop import ZooPart
from ima.models import load_model
from ima.models.code_model import CODES_FOLDER
from ima.models.codes import CodeConfig, CodeConnector
from ima.models.zoo import WEIGHTS_FILE, hash_state_dict
from ima.training.codes import CodePictures, CodeRecipe, train_codes
from ima.training.loop import TrainingRecipe, save_weights

#: The model whose encoder and language model all recipes share; its connector is not used.
_BASE = "llama-mini/vit/image-caption"
_NEEDS = {
    "language": "language/llama-mini", "encoder": "encoders/vit", "base": f"connectors/{_BASE}",
}  # fmt: skip
_MODALITY = "image"
#: Training pictures at full size and at least, and validation pictures.
_POOL_SIZE, _LEAST_POOL_SIZE, _N_VALIDATION_PICTURES = 6000, 200, 160
_TRAINING = TrainingRecipe(
    steps=400, learning_rate=3e-3, seed=71, warmup=40, probe_every=80, save_every=20
)
#: Sizes of the codebook.
CODEBOOK_SIZES = (32, 128, 512)
#: By name, a training; all read the same pictures and captions in the same order.
CODE_RECIPES: Mapping[str, CodeRecipe] = {
    **{f"teal-{size}": CodeRecipe(_TRAINING, codes=size) for size in CODEBOOK_SIZES},
    "dense": CodeRecipe(_TRAINING, codes=None),
}


def make_code_parts(materials: TrainingMaterials) -> list[ZooPart]:
    """Return the parts of the zoo that this module trains: three codebooks, and the control.

    Examples
    --------
    >>> [part.name for part in make_code_parts(materials)]  # doctest: +SKIP
    ['codes/teal-32', 'codes/teal-128', 'codes/teal-512', 'codes/dense']
    """
    plan, parts = materials.workshop.plan, []
    sizes = {
        "train": max(_LEAST_POOL_SIZE, round(_POOL_SIZE * plan.ratio)),
        "validation": _N_VALIDATION_PICTURES,
    }

    @cache
    def open_pictures(split: str) -> CodePictures:
        side = next(iter(CODE_RECIPES.values())).side
        return _open_pictures(materials, split, n=sizes[split], side=side)

    for name, recipe in CODE_RECIPES.items():
        own = replace(recipe, training=plan.scale_recipe(recipe.training))
        settings = asdict(own)
        record = {**settings.pop("training"), **settings, "pool": sizes["train"]}
        make = partial(_make, materials, name, own, open_pictures)
        parts.append(ZooPart(f"{CODES_FOLDER}/{name}", record, make, needs=_NEEDS))
    return parts


def _open_pictures(materials: TrainingMaterials, split: str, *, n: int, side: int) -> CodePictures:
    """Render pictures of a split and read the features of their tiles."""
    pool = build_pool(_MODALITY, split, n=n)
    encoder = materials.load_encoder(_NEEDS["encoder"].rpartition("/")[2])
    tokens = connectors.encode_pool(encoder, pool, device=materials.workshop.plan.device)
    width = tokens.shape[-1]
    reader = CodeConnector(CodeConfig(encoder_width=width, hidden=1, side=side, output_norm=1.0))
    captions, descriptions = [], []
    for number, situation in enumerate(pool.situations):
        [[(prompt, caption)]] = connectors.make_caption_turns(situation)
        captions.append(Sample(str(number), "image", "caption", prompt, (caption,)))
        text = describe_scene(situation.get_entities())
        descriptions.append(Sample(str(number), "text", "caption", text, ()))
    return CodePictures(
        tiles=reader.pool_tiles(tokens.float()).half(),
        pixels=torch.from_numpy(pool.media),
        captions=captions,
        descriptions=descriptions,
    )


def _make(
    materials: TrainingMaterials,
    name: str,
    recipe: CodeRecipe,
    open_pictures: Callable[[str], CodePictures],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    workshop, part = materials.workshop, f"{CODES_FOLDER}/{name}"
    with use_zoo_root(workshop.place):
        base = load_model(_BASE, device=workshop.plan.device)
    modules, configuration, result = train_codes(
        base,
        train=open_pictures("train"),
        validation=open_pictures("validation"),
        recipe=recipe,
        name=name,
        state_path=workshop.get_checkpoint_path(part),
    )
    folder = workshop.get_part_folder(part)
    save_weights(modules.state_dict(), folder / WEIGHTS_FILE)
    connector = modules["connector"]
    card = make_card(name, "codes", connector, folder, recipe=record, result=result)
    dataset = f"mini-{_MODALITY}-caption"
    card["data"] |= make_data_record(dataset, n=record["pool"])
    return card | {
        "setup": "ST",
        "modality": _MODALITY,
        "task": "caption",
        "dataset": dataset,
        "model": _BASE,
        "command": f"ima zoo train --keep --only '{CODES_FOLDER}/*'",
        "parameters": sum(own.numel() for own in modules.parameters()),
        "configuration": configuration,
        "parts": {role: record["parts"][role] for role in ("language", "encoder")},
        "made_of": {role: _NEEDS[role] for role in ("language", "encoder")},
        "language_state": hash_state_dict(base.language.state_dict()),
    }
