"""Grounds: grass, road, sand, sky and snow as textures, each one different."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

_Plane = npt.NDArray[np.float32]
_Texture = npt.NDArray[np.float32]


def paint_ground(ground: str, *, width: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Paint a ground that fills a picture.

    Parameters
    ----------
    ground : str
        ``"grass"``, ``"road"``, ``"sand"``, ``"sky"`` or ``"snow"``.
    width : int
        Pixels of width and height.
    rng : numpy.random.Generator
        Draws tint, light and structure.

    Returns
    -------
    ndarray
        ``(height, width, channel)`` uint8.

    Examples
    --------
    >>> grass = paint_ground("grass", width=224, rng=np.random.default_rng(0))
    >>> grass.shape, bool(grass[..., 1].mean() > grass[..., 0].mean())
    ((224, 224, 3), True)
    """
    texture = _PAINTERS[ground](width, rng)
    return np.clip(texture, 0, 255).astype(np.uint8)


def _smooth(width: int, cells: tuple[int, int], rng: np.random.Generator) -> _Plane:
    """Return noise ``(height, width)`` of about unit deviation, with so many (rows, columns)."""
    coarse = Image.fromarray(rng.standard_normal(cells, dtype=np.float32))
    return np.asarray(coarse.resize((width, width), Image.Resampling.BICUBIC))


def _grain(width: int, rng: np.random.Generator) -> _Plane:
    return rng.standard_normal((width, width), dtype=np.float32)


def _tint(rgb: tuple[int, int, int], rng: np.random.Generator, spread: float) -> _Texture:
    shift = rng.uniform(-spread, spread) + rng.uniform(-spread / 3, spread / 3, 3)
    return np.asarray(np.asarray(rgb, np.float32) + shift, np.float32)


def _shade(rgb: _Texture, light: _Plane, weights: tuple[float, float, float]) -> _Texture:
    """Return one colour under a light: ``(height, width, channel)``."""
    return rgb + light[..., None] * np.asarray(weights, np.float32)


def _paint_grass(width: int, rng: np.random.Generator) -> _Texture:
    blades = _smooth(width, (width // 7, width), rng)
    light = 13 * blades + 9 * _smooth(width, (6, 6), rng) + 4 * _grain(width, rng)
    return _shade(_tint((92, 148, 52), rng, 14), light, (0.9, 1.1, 0.55))


def _paint_sand(width: int, rng: np.random.Generator) -> _Texture:
    rows = np.linspace(0, rng.uniform(40, 70), width, dtype=np.float32)[:, None]
    ripples = np.sin(rows + 2.2 * _smooth(width, (4, 4), rng))
    light = 6 * ripples + 6 * _grain(width, rng) + 4 * _smooth(width, (5, 5), rng)
    return _shade(_tint((222, 190, 132), rng, 12), light, (1.0, 1.0, 0.9))


def _paint_snow(width: int, rng: np.random.Generator) -> _Texture:
    drifts = np.minimum(_smooth(width, (7, 3), rng), 0.5)
    light = 9 * drifts + 2 * _grain(width, rng)
    texture = _shade(_tint((232, 239, 248), rng, 6), light, (1.0, 0.8, 0.35))
    flakes = rng.integers(2, width - 2, (2, 60))
    for step in (0, 1):
        texture[flakes[0] + step, flakes[1]] = texture[flakes[0], flakes[1] + step] = 255
    return texture


def _paint_sky(width: int, rng: np.random.Generator) -> _Texture:
    fall = np.linspace(-1, 1, width, dtype=np.float32)[:, None] * np.ones(width, np.float32)
    sky = _shade(_tint((112, 176, 236), rng, 12), fall, (38, 26, 9))
    clouds = _smooth(width, (6, 4), rng) + 0.25 * _smooth(width, (20, 14), rng)
    cover = np.clip(1.6 * (clouds - 0.75), 0, 0.85)[..., None]
    return np.asarray(sky + cover * (250 - sky), np.float32)


def _paint_road(width: int, rng: np.random.Generator) -> _Texture:
    light = 9 * _grain(width, rng) + 4 * _smooth(width, (6, 6), rng)
    road = _shade(_tint((92, 92, 96), rng, 10), light, (1.0, 1.0, 1.0))
    middle, half = width // 2 + int(rng.integers(-24, 25)), int(rng.integers(2, 5))
    dashes = (np.arange(width) + int(rng.integers(50))) % 50 < 28
    paint = np.asarray((235, 200, 70) if rng.random() < 0.5 else (232, 232, 228), np.float32)
    road[middle - half : middle + half, dashes] = paint
    edge, line = int(rng.integers(6, 14)), np.float32(225)
    road[edge : edge + 4] = road[width - edge - 4 : width - edge] = line
    return road if rng.random() < 0.5 else np.ascontiguousarray(road.transpose(1, 0, 2))


_PAINTERS: dict[str, Callable[[int, np.random.Generator], _Texture]] = {
    "grass": _paint_grass,
    "road": _paint_road,
    "sand": _paint_sand,
    "sky": _paint_sky,
    "snow": _paint_snow,
}
