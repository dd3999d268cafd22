"""Data that a Debian package installs: where it is, and which split a file belongs to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ima.drawings.scenes import PICTURE_WIDTH
from ima.errors import PartAbsentError

_PAPER = (255, 255, 255)
#: Which split each tenth of all files belongs to.
_SPLIT_OF_TENTH = (*["train"] * 3, "calibration", "validation", *["test"] * 5)


def find_installed(folder: str, *, package: str, dataset: str) -> Path:
    """Return a folder that a Debian package installs, under ``$IMA_DEBIAN_ROOT`` or ``/``.

    Raises
    ------
    PartAbsentError
        If it is missing.

    Examples
    --------
    >>> find_installed("usr/bin", package="base-files", dataset="none").name
    'bin'
    """
    root = Path(os.environ.get("IMA_DEBIAN_ROOT", "/"))
    path = root / folder
    if not path.is_dir():
        raise PartAbsentError(
            f"The data set {dataset!r} is made of the Debian package {package}, and {path} is "
            f"missing. Install the package (apt install {package}), or unpack it elsewhere "
            "(dpkg-deb -x) and set IMA_DEBIAN_ROOT to that folder."
        )
    return path


def choose_split(key: str) -> str:
    """Return the split of the files that have this key: half of all keys are for testing.

    Examples
    --------
    >>> choose_split("animals/birds/owl")
    'validation'
    """
    return _SPLIT_OF_TENTH[int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10]


def paste_on_paper(cutouts: Sequence[Image.Image], *, largest: int) -> npt.NDArray[np.uint8]:
    """Paste cut-outs of one size on white squares of 224 pixels, each in the middle.

    Parameters
    ----------
    cutouts : sequence of PIL.Image.Image
        Pictures with transparency.
    largest : int
        Pixels of the longer side after scaling.

    Returns
    -------
    ndarray
        Dims (picture, height, width, channel), uint8.

    Examples
    --------
    >>> paste_on_paper([Image.new("RGBA", (10, 20))], largest=100).shape
    (1, 224, 224, 3)
    """
    pages = []
    for cutout in cutouts:
        scale = largest / max(cutout.size)
        width, height = (max(1, round(side * scale)) for side in cutout.size)
        scaled = cutout.convert("RGBA").resize((width, height), Image.Resampling.BICUBIC)
        page = Image.new("RGB", (PICTURE_WIDTH, PICTURE_WIDTH), _PAPER)
        page.paste(
            scaled, ((PICTURE_WIDTH - width) // 2, (PICTURE_WIDTH - height) // 2), mask=scaled
        )
        pages.append(np.asarray(page, dtype=np.uint8))
    return np.stack(pages)
