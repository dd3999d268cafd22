"""Sprites: the drawings of the fetched part, as images that are decoded once."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageOps

from ima.drawings.rendering import INDEX_FILE, SPRITES_FILE
from ima.drawings.sources import DRAWINGS_PART
from ima.errors import PartError
from ima.files import read_json
from ima.packages import find_part
from ima.packages.shelf import ROOT_VARIABLE

#: Resized sprites that are kept; one has up to 90 kB.
_N_KEPT = 2048
#: Longest sides are multiples of this many pixels, so that resized sprites are met again.
SIZE_STEP = 4


def _find_folder() -> Path:
    # A look at the part's files for each of thousands of samples would cost more than drawing.
    return _find_folder_once(os.environ.get(ROOT_VARIABLE, ""))


@cache
def _find_folder_once(root: str) -> Path:
    del root
    return find_part(DRAWINGS_PART)


@cache
def _read_sizes(folder: Path) -> Mapping[tuple[str, str], tuple[int, int]]:
    drawings = read_json(folder / INDEX_FILE)["drawings"]
    return {
        (noun, artist): (int(width), int(height))
        for noun, entry in drawings.items()
        for artist, (width, height) in entry["sizes"].items()
    }


@cache
def _decode_sprite(folder: Path, noun: str, artist: str) -> Image.Image:
    with zipfile.ZipFile(folder / SPRITES_FILE) as sprites:
        png = sprites.read(f"{artist}/{noun}.png")
    return Image.open(io.BytesIO(png)).convert("RGBA")


def measure_sprite(noun: str, artist: str, *, side: int) -> tuple[int, int]:
    """Return width and height in pixels of a drawing whose longest side has a given length.

    Raises
    ------
    PartAbsentError
        If the drawings were not fetched.

    Examples
    --------
    >>> measure_sprite("giraffe", "noto", side=100)  # doctest: +SKIP
    (51, 100)
    """
    return _measure_sprite(_find_folder(), noun, artist, side)


@lru_cache(maxsize=8 * _N_KEPT)
def _measure_sprite(folder: Path, noun: str, artist: str, side: int) -> tuple[int, int]:
    sizes = _read_sizes(folder)
    if (noun, artist) not in sizes:
        message = f"The fetched drawings lack {noun!r} by {artist!r}; fetch them again: "
        raise PartError(message + DRAWINGS_PART.get_command() + " --force")
    width, height = sizes[noun, artist]
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def load_sprite(noun: str, artist: str, *, side: int, flipped: bool = False) -> Image.Image:
    """Return a drawing whose longest side has a given length.

    Parameters
    ----------
    noun, artist : str
        What is drawn, and who drew it.
    side : int
        Pixels of the longest side.
    flipped : bool
        Whether left and right are exchanged.

    Returns
    -------
    PIL.Image.Image
        Mode RGBA. It is shared: do not change it.

    Raises
    ------
    PartAbsentError
        If the drawings were not fetched.

    Examples
    --------
    >>> load_sprite("giraffe", "noto", side=100).size  # doctest: +SKIP
    (51, 100)
    """
    return _resize_sprite(_find_folder(), noun, artist, side, flipped)


@lru_cache(maxsize=_N_KEPT)
def _resize_sprite(folder: Path, noun: str, artist: str, side: int, flipped: bool) -> Image.Image:
    sprite = _decode_sprite(folder, noun, artist)
    size = _measure_sprite(folder, noun, artist, side)
    resized = sprite.resize(size, Image.Resampling.LANCZOS)
    return ImageOps.mirror(resized) if flipped else resized
