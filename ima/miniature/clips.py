"""Clips of the miniature world: eight 48×48 frames of one to three objects that do something."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ima.miniature.scenes import (
    CanvasArray,
    RgbPixels,
    add_sensor_noise,
    draw_background,
    draw_colour,
    paint_object,
)
from ima.miniature.world import Entity

_CLIP_WIDTH = 48
CLIP_FRAMES = 8
_MOTION_DIRECTIONS = {
    "moves left": (-1.0, 0.0),
    "moves right": (1.0, 0.0),
    "moves up": (0.0, -1.0),
    "moves down": (0.0, 1.0),
}
_ObjectPath = npt.NDArray[np.float64]


def _draw_object_path(motion: str, rng: np.random.Generator) -> _ObjectPath:
    """Return ``(frame, [x, y, radius, visible])`` of one object, before checks for overlap."""
    time = np.linspace(0.0, 1.0, CLIP_FRAMES)
    radius = np.full(CLIP_FRAMES, rng.uniform(5.0, 7.0))
    visible = np.ones(CLIP_FRAMES)
    offset = np.zeros((CLIP_FRAMES, 2))
    if motion in _MOTION_DIRECTIONS:
        offset = np.outer(time - 0.5, _MOTION_DIRECTIONS[motion]) * rng.uniform(13.0, 18.0)
    elif motion in {"grows", "shrinks"}:
        radius = np.linspace(rng.uniform(3.5, 4.5), rng.uniform(7.5, 9.0), CLIP_FRAMES)
        radius = radius if motion == "grows" else radius[::-1]
    elif motion == "blinks":
        visible = ((np.arange(CLIP_FRAMES) + rng.integers(4)) // 2 % 2).astype(float)
    reach = np.abs(offset).max(axis=0) + radius.max() + 0.5
    centre = rng.uniform(reach, _CLIP_WIDTH - reach)
    return np.column_stack([centre + offset, radius, visible])


def place_clip_objects(
    entities: tuple[Entity, ...], rng: np.random.Generator
) -> list[tuple[Entity, _ObjectPath]]:
    """Give each object a path on which it meets no other, from left to right at the start."""
    while True:
        placed: list[tuple[Entity, _ObjectPath]] = []
        for entity in entities:
            for _ in range(30):
                path = _draw_object_path(entity.attributes["motion"], rng)
                if all(_apart(path, other) for _, other in placed):
                    placed.append((entity, path))
                    break
        if len(placed) == len(entities):
            return sorted(placed, key=lambda item: float(item[1][0, 0]))


def _apart(a: _ObjectPath, b: _ObjectPath) -> bool:
    distance = np.hypot(*(a[:, :2] - b[:, :2]).T)
    return bool((distance > a[:, 2] + b[:, 2]).all())


def render_clip(
    placed: list[tuple[Entity, _ObjectPath]], rng: np.random.Generator
) -> tuple[RgbPixels, CanvasArray]:
    """Draw a clip.

    Returns
    -------
    pixels : ndarray
        ``(frame, height, width, channel)`` uint8.
    coverage : ndarray
        ``(object, frame, height, width)`` in [0, 1]; an object that is invisible while it blinks
        covers nothing.
    """
    base = draw_background(_CLIP_WIDTH, rng)
    colours = [draw_colour(entity.attributes["colour"], rng) for entity, _ in placed]
    frames = np.empty((CLIP_FRAMES, _CLIP_WIDTH, _CLIP_WIDTH, 3), np.uint8)
    coverage = np.zeros((len(placed), CLIP_FRAMES, _CLIP_WIDTH, _CLIP_WIDTH))
    for t in range(CLIP_FRAMES):
        canvas = base.copy()
        for i, (entity, path) in enumerate(placed):
            x, y, radius, visible = path[t]
            if visible:
                coverage[i, t] = paint_object(
                    canvas, shape=entity.noun, rgb=colours[i], x=x, y=y, radius=radius
                )
        frames[t] = add_sensor_noise(canvas, rng)
    return frames, coverage
