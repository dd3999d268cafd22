"""Clips of the miniature world: eight 48×48 frames of one to three objects that do something."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ima.miniature.scenes import Floats, Pixels, background, colour_of, finish, paint
from ima.miniature.world import Entity

WIDTH = 48
FRAMES = 8
DIRECTIONS = {
    "moves left": (-1.0, 0.0),
    "moves right": (1.0, 0.0),
    "moves up": (0.0, -1.0),
    "moves down": (0.0, 1.0),
}
Path = npt.NDArray[np.float64]


def draw_path(motion: str, rng: np.random.Generator) -> Path:
    """Return ``(frame, [x, y, radius, visible])`` of one object, before checks for overlap."""
    time = np.linspace(0.0, 1.0, FRAMES)
    radius = np.full(FRAMES, rng.uniform(5.0, 7.0))
    visible = np.ones(FRAMES)
    offset = np.zeros((FRAMES, 2))
    if motion in DIRECTIONS:
        offset = np.outer(time - 0.5, DIRECTIONS[motion]) * rng.uniform(13.0, 18.0)
    elif motion in {"grows", "shrinks"}:
        radius = np.linspace(rng.uniform(3.5, 4.5), rng.uniform(7.5, 9.0), FRAMES)
        radius = radius if motion == "grows" else radius[::-1]
    elif motion == "blinks":
        visible = ((np.arange(FRAMES) + rng.integers(4)) // 2 % 2).astype(float)
    reach = np.abs(offset).max(axis=0) + radius.max() + 0.5
    centre = rng.uniform(reach, WIDTH - reach)
    return np.column_stack([centre + offset, radius, visible])


def place_objects(
    entities: tuple[Entity, ...], rng: np.random.Generator
) -> list[tuple[Entity, Path]]:
    """Give each object a path on which it meets no other, from left to right at the start."""
    while True:
        placed: list[tuple[Entity, Path]] = []
        for entity in entities:
            for _ in range(30):
                path = draw_path(entity.attributes["motion"], rng)
                if all(_apart(path, other) for _, other in placed):
                    placed.append((entity, path))
                    break
        if len(placed) == len(entities):
            return sorted(placed, key=lambda item: float(item[1][0, 0]))


def _apart(a: Path, b: Path) -> bool:
    distance = np.hypot(*(a[:, :2] - b[:, :2]).T)
    return bool((distance > a[:, 2] + b[:, 2]).all())


def render(placed: list[tuple[Entity, Path]], rng: np.random.Generator) -> tuple[Pixels, Floats]:
    """Draw a clip.

    Returns
    -------
    pixels : ndarray
        ``(frame, height, width, channel)`` uint8.
    coverage : ndarray
        ``(object, frame, height, width)`` in [0, 1]; an object that is invisible while it blinks
        covers nothing.
    """
    base = background(WIDTH, rng)
    colours = [colour_of(entity.attributes["colour"], rng) for entity, _ in placed]
    frames = np.empty((FRAMES, WIDTH, WIDTH, 3), np.uint8)
    coverage = np.zeros((len(placed), FRAMES, WIDTH, WIDTH))
    for t in range(FRAMES):
        canvas = base.copy()
        for i, (entity, path) in enumerate(placed):
            x, y, radius, visible = path[t]
            if visible:
                coverage[i, t] = paint(
                    canvas, shape=entity.noun, rgb=colours[i], x=x, y=y, radius=radius
                )
        frames[t] = finish(canvas, rng)
    return frames, coverage
