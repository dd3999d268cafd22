"""Codes as further words of SmolLM2 (TEAL), and the control without codes: their recipes.

What is trained: input rows through a perceptron, output rows, places, and a decoder of 64 by 64
pixels. What stays frozen: DINOv2 and SmolLM2. The codebook of 512 and the control were trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ima.data.samples import Sample, convert_to_uint8
from ima.drawings.kept_parts import get_features_folder, keep_trained_part
from ima.drawings.pictures import describe_drawing, make_caption_sample
from ima.drawings.several_drawings import list_pictures
from ima.models import load_model
from ima.models.code_model import CODES_FOLDER
from ima.models.codes import CodeConfig, CodeConnector
from ima.models.frozen import FrozenModel
from ima.training.codes import CodePictures, CodeRecipe, ReadingRecipe, train_codes
from ima.training.features import EncoderTokenStore
from ima.training.loop import TrainingRecipe, TrainingResult

_TRAINING = TrainingRecipe(
    steps=2000, learning_rate=1e-3, seed=71, warmup=50, probe_every=100, save_every=50
)
#: Pictures whose tokens are read from the store at once.
_READ_AT_ONCE = 256


@dataclass(frozen=True)
class DrawingsCodeRecipe:
    """The recipe of a training of codes between parts of the pretrained zoo.

    Parameters
    ----------
    base : str
        The model whose encoder and language model are used; its connector is not.
    samples : int
        Pictures of the training split; one for each 25 of them in the validation split.
    codes : CodeRecipe
        Hyperparameters.
    reading : ReadingRecipe
        A first stage, and vectors of tiles.
    autocast_after : int or None
        The first step in bfloat16, where the hardware is faster with it.
    """

    base: str
    samples: int
    codes: CodeRecipe
    reading: ReadingRecipe
    autocast_after: int | None = None


_CODES = DrawingsCodeRecipe(
    base="smollm2/dinov2/image-caption",
    samples=5000,
    codes=CodeRecipe(_TRAINING, codes=None, width=768),
    # As many steps, and the learning rates, of the single connector between the same parts.
    reading=ReadingRecipe(word_steps=1500, first_rate=0.2, last_rate=4.0, place_rate=4.0),
    autocast_after=100,
)
#: By name in the zoo, a training; all read the same pictures in the same order.
CODE_RECIPES: Mapping[str, DrawingsCodeRecipe] = MappingProxyType(
    {
        f"{CODES_FOLDER}/smollm2-{name}": replace(_CODES, codes=replace(_CODES.codes, codes=size))
        for name, size in {
            "teal-128": 128,
            "teal-512": 512,
            "teal-2048": 2048,
            "dense": None,
        }.items()
    }
)


def train_drawings_codes(name: str) -> Path:
    """Train one of :data:`CODE_RECIPES`, unless the zoo holds it; a stopped run continues.

    Parameters
    ----------
    name : str
        Its folder in the zoo.

    Returns
    -------
    Path
        The folder, which :func:`ima.models.code_model.load_code_model` loads.

    Raises
    ------
    PartAbsentError
        If a part that is needed was not fetched.

    Examples
    --------
    >>> train_drawings_codes("codes/smollm2-teal-512")  # doctest: +SKIP
    PosixPath('data/zoo/codes/smollm2-teal-512')
    """
    recipe = CODE_RECIPES[name]
    base = load_model(recipe.base)
    record = {**asdict(recipe), "parts": base.card["parts"]}
    return keep_trained_part(name, partial(_train, name, recipe, base), recipe=record)


def _train(
    name: str, recipe: DrawingsCodeRecipe, base: FrozenModel, state_path: Path
) -> tuple[dict[str, Tensor], dict[str, Any], TrainingResult]:
    """Train codes; return the weights, the card's own entries, and the result."""
    sizes = {
        "train": recipe.samples,
        "validation": max(recipe.codes.batch_size, recipe.samples // 25),
    }
    pictures = {
        split: open_drawn_pictures(base, split, n=n, recipe=recipe.codes)
        for split, n in sizes.items()
    }
    modules, configuration, result = train_codes(
        base,
        **pictures,
        recipe=recipe.codes,
        name=name,
        state_path=state_path,
        autocast_after=recipe.autocast_after,
        reading=recipe.reading,
    )
    entries = {
        "kind": CODES_FOLDER,
        "class": CodeConnector.__name__,
        "setup": base.setup,
        "task": "caption",
        "dataset": "drawings-image-caption",
        "model": recipe.base,
        "command": f"ima zoo pretrained --only '{CODES_FOLDER}/*'",
        "made_of": base.card["made_of"],
        "parts": base.card["parts"],
        "parameters": sum(own.numel() for own in modules.parameters()),
        "configuration": configuration,
        "steps": recipe.codes.training.steps,
    }
    return modules.state_dict(), entries, result


def open_drawn_pictures(
    base: FrozenModel, split: str, *, n: int, recipe: CodeRecipe
) -> CodePictures:
    """Open pictures of a split as a training of codes reads them.

    Parameters
    ----------
    base : FrozenModel
        Its encoder reads the pictures; its tokens are kept on disk.
    split : str
        ``train`` or ``validation``.
    n : int
        Number of pictures.
    recipe : CodeRecipe
        Tiles and pixels of a picture. A picture is drawn from its caption.

    Raises
    ------
    PartAbsentError
        If the drawings were not fetched.

    Examples
    --------
    >>> open_drawn_pictures(base, "train", n=64, recipe=recipe).tiles.shape  # doctest: +SKIP
    torch.Size([64, 16, 384])
    """
    tower: Any = base.perception
    samples = [make_caption_sample(situation) for situation in list_pictures(split, n=n)]
    key = tower.describe_reading()
    store = EncoderTokenStore(get_features_folder(), samples, tower.tokens, key=key)
    sizes = CodeConfig(encoder_width=1, hidden=1, side=recipe.side, output_norm=1.0)
    reader = CodeConnector(sizes)
    tiles = [
        reader.pool_tiles(store.read(range(start, min(start + _READ_AT_ONCE, n))).float()).half()
        for start in range(0, n, _READ_AT_ONCE)
    ]
    return CodePictures(
        tiles=torch.cat(tiles),
        pixels=_shrink_pictures(samples, side=recipe.pixels),
        captions=samples,
        descriptions=[describe_drawing(own) for own in samples],
    )


def _shrink_pictures(samples: Sequence[Sample], *, side: int) -> Tensor:
    """Return small pictures, ``(sample, height, width, channel)`` uint8."""
    small = [
        np.asarray(
            Image.fromarray(convert_to_uint8(own.load())).resize((side, side), Image.Resampling.BOX)
        )
        for own in samples
    ]
    return torch.from_numpy(np.stack(small))
