"""Tux Paint's stamps: cut-outs of photos and drawings, each with a caption that its maker wrote."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ima.data.samples import Sample
from ima.drawings.installed import choose_split, find_installed, paste_on_paper
from ima.drawings.mentions import count_named
from ima.drawings.wording import IMAGE_PROMPT

STAMPS_DATASET = "tuxpaint-image-caption"
_FOLDER, _PACKAGE = "usr/share/tuxpaint/stamps", "tuxpaint-stamps-default"
#: Letters, digits and coins, which only show themselves.
_OMITTED = "symbols"
_LARGEST = 176


def list_stamp_samples(split: str) -> Iterator[Sample]:
    """Yield the stamps of a split, by the names of their files.

    Their truth holds ``nouns``, the nouns of the world of drawings that the caption names.

    Raises
    ------
    PartAbsentError
        If the package is not installed.

    Examples
    --------
    >>> next(list_stamp_samples("test")).references  # doctest: +SKIP
    ('a Sumatran tiger',)
    """
    root = find_installed(_FOLDER, package=_PACKAGE, dataset=STAMPS_DATASET)
    for path in sorted(root.rglob("*.png")):
        key = path.relative_to(root).with_suffix("").as_posix()
        text = path.with_suffix(".txt")
        is_mirror = path.stem.endswith(("_mirror", "_flip", "_mirror_flip"))
        if key.startswith(_OMITTED) or is_mirror or not text.is_file():
            continue
        caption = _read_caption(text)
        if not caption or choose_split(key) != split:
            continue
        nouns = sorted(count_named(caption))
        yield Sample(
            id=key,
            modality="image",
            task="caption",
            prompt=IMAGE_PROMPT,
            references=(caption,),
            truth={"world": "stamps", "file": key, "nouns": nouns},
            media=partial(_load, path),
        )


def _read_caption(path: Path) -> str:
    """Return the English caption, on the first line, as the rest of a sentence."""
    caption = path.read_text(encoding="utf-8").split("\n", 1)[0].strip().rstrip(".!")
    first, _, rest = caption.partition(" ")
    return f"{first.lower()} {rest}" if first in {"A", "An", "The", "Some"} else caption


def _load(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as cutout:
        picture: npt.NDArray[np.uint8] = paste_on_paper([cutout], largest=_LARGEST)[0]
    return picture
