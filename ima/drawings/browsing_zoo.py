"""Two passes between parts of the pretrained zoo, and one pass as the control: their recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ima.data.picture_questions import make_blank_pixels
from ima.data.samples import Sample
from ima.drawings.kept_parts import get_features_folder, keep_trained_part
from ima.drawings.pictures import make_caption_sample
from ima.drawings.several_drawings import list_pictures, make_drawing_question_drawer
from ima.interventions.browsing import BROWSING_FOLDER, TwoPassModel, make_two_pass_model
from ima.models import load_model
from ima.models.frozen import FrozenModel
from ima.training.features import EncoderTokenStore
from ima.training.loop import TrainingRecipe, TrainingResult
from ima.training.two_passes import (
    TwoPassRecipe,
    count_trained_weights,
    select_trained_state,
    train_two_passes,
)

_TRAINING = TrainingRecipe(
    steps=800, learning_rate=1e-3, seed=61, warmup=50, probe_every=100, save_every=100
)


@dataclass(frozen=True)
class DrawingsBrowsingRecipe:
    """The recipe of a training between parts of the pretrained zoo.

    Parameters
    ----------
    base : str
        The model whose connector the training starts from.
    queries : int
        Perceptual tokens of each picture: fewer than the kinds of things that a picture can show,
        with their numbers and their background.
    pictures : int
        Largest number of pictures before a question.
    samples : int
        Pictures of the training split; a tenth of it in the validation split.
    two_passes : TwoPassRecipe
        Hyperparameters.
    unit_length : bool
        Whether a normalised condition has length one. A first training, in which it had length 24,
        added vectors sixty times as long as the queries, and the second pass read nothing.
    autocast_after : int or None
        The first step in bfloat16, where the hardware is faster with it.
    """

    base: str
    queries: int
    pictures: int
    samples: int
    two_passes: TwoPassRecipe
    unit_length: bool = True
    autocast_after: int | None = None


_TWO_PASSES = DrawingsBrowsingRecipe(
    base="smollm2/dinov2/image-qa",
    queries=3,
    pictures=3,
    samples=2000,
    two_passes=TwoPassRecipe(_TRAINING, batch_size=16),
    autocast_after=100,
)
#: By name in the zoo, a training; both start from the same weights and read the same questions.
BROWSING_RECIPES: Mapping[str, DrawingsBrowsingRecipe] = MappingProxyType(
    {
        f"{BROWSING_FOLDER}/smollm2-two-pass": _TWO_PASSES,
        f"{BROWSING_FOLDER}/smollm2-one-pass": replace(
            _TWO_PASSES, two_passes=replace(_TWO_PASSES.two_passes, second_pass=False)
        ),
    }
)


class StoredQuestions:
    """Questions about pictures of one split, whose encoder tokens a file keeps.

    Parameters
    ----------
    two_pass : TwoPassModel
        Its encoder reads the pictures.
    split : str
        The split.
    n : int
        Number of pictures.
    pictures : int
        Largest number of pictures before a question.
    features : Path
        Folder of the file.

    Examples
    --------
    >>> source = StoredQuestions(
    ...     two_pass, "train", n=2000, pictures=3, features=Path("features")
    ... )  # doctest: +SKIP
    >>> source.read_tokens([0, 1]).shape  # doctest: +SKIP
    torch.Size([2, 65, 384])
    """

    def __init__(
        self, two_pass: TwoPassModel, split: str, *, n: int, pictures: int, features: Path
    ) -> None:
        tower: Any = two_pass.model.perception
        situations = list_pictures(split, n=n)
        self.drawer = make_drawing_question_drawer(situations)
        self.pictures, self._select = pictures, tower.select_tokens
        samples = [make_caption_sample(situation) for situation in situations]
        key = tower.describe_reading()
        self._store = EncoderTokenStore(features, samples, tower.tokens, key=key)
        blank = make_blank_pixels(samples[0].load().shape)
        nothing = replace(samples[0], id="blank", media=lambda: blank, digest=None)
        with torch.no_grad():
            self.blank = self._select(tower.tokens([nothing]).float())[0]

    def draw(self, n: int, *, rng: np.random.Generator) -> list[tuple[tuple[int, ...], Sample]]:
        """Draw questions about two or more pictures."""
        return self.drawer.draw_rows(n, pictures=self.pictures, rng=rng)

    def read_tokens(self, pictures: Sequence[int]) -> Tensor:
        """Return the tokens of pictures, ``(picture, position, width)``."""
        tokens: Tensor = self._select(self._store.read(pictures))
        return tokens


def train_drawings_browsing(name: str) -> Path:
    """Train one of :data:`BROWSING_RECIPES`, unless the zoo holds it; a stopped run continues.

    Parameters
    ----------
    name : str
        Its folder in the zoo.

    Returns
    -------
    Path
        The folder, which :func:`ima.interventions.browsing.load_two_pass_model` loads.

    Raises
    ------
    PartAbsentError
        If a part that is needed was not fetched.

    Examples
    --------
    >>> train_drawings_browsing("browsing/smollm2-two-pass")  # doctest: +SKIP
    PosixPath('data/zoo/browsing/smollm2-two-pass')
    """
    recipe = BROWSING_RECIPES[name]
    base = load_model(recipe.base)
    record = {**asdict(recipe), "base_sha256": base.card["sha256"]}
    return keep_trained_part(name, partial(_train, name, recipe, base), recipe=record)


def _train(
    name: str, recipe: DrawingsBrowsingRecipe, base: FrozenModel, state_path: Path
) -> tuple[dict[str, Tensor], dict[str, Any], TrainingResult]:
    """Train two passes; return the weights, the card's own entries, and the result."""
    two_pass = make_two_pass_model(
        base,
        queries=recipe.queries,
        pictures=recipe.pictures,
        unit_length=recipe.unit_length,
        name=name,
    )
    sizes = {"train": recipe.samples, "validation": max(2, recipe.samples // 10)}
    sources = {
        split: StoredQuestions(
            two_pass, split, n=n, pictures=recipe.pictures, features=get_features_folder()
        )
        for split, n in sizes.items()
    }
    result = train_two_passes(
        two_pass,
        **sources,
        recipe=recipe.two_passes,
        name=name,
        state_path=state_path,
        autocast_after=recipe.autocast_after,
    )
    entries = {
        "kind": "browsing",
        "class": type(two_pass.connector).__name__,
        "setup": base.setup,
        "task": "qa",
        "dataset": "drawings-image-caption",
        "model": recipe.base,
        "base": base.card["sha256"],
        "command": f"ima zoo pretrained --only '{BROWSING_FOLDER}/*'",
        "made_of": base.card["made_of"],
        "parts": base.card["parts"],
        "parameters": count_trained_weights(two_pass, recipe.two_passes),
        "configuration": two_pass.condition.config.model_dump(),
        "steps": recipe.two_passes.training.steps,
    }
    return select_trained_state(two_pass, recipe.two_passes), entries, result
