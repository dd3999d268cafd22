"""Images and clips of the miniature world.

An image has 64×64 pixels and shows one to four objects. A clip has eight frames of 48×48 pixels and
shows one to three objects, each with a motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ima.miniature.world import Entity

_RgbPixels = npt.NDArray[np.uint8]
_CanvasArray = npt.NDArray[np.float64]

_IMAGE_WIDTH = 64
_OBJECT_RADII = {"small": (5.5, 6.5), "big": (8.5, 10.0)}
#: No object has its centre within this many pixels of a line between two quadrants.
_MIDDLE_BAND = 3.0
_CLIP_WIDTH = 48
CLIP_FRAMES = 8
_MOTION_DIRECTIONS = {
    "moves left": (-1.0, 0.0), "moves right": (1.0, 0.0),
    "moves up": (0.0, -1.0), "moves down": (0.0, 1.0),
}  # fmt: skip
COLOUR_RGB = {
    "red": (215, 40, 45), "green": (40, 165, 65), "blue": (45, 85, 220), "yellow": (235, 215, 50),
    "purple": (130, 55, 170), "orange": (240, 135, 25), "pink": (245, 150, 195),
    "white": (240, 240, 240),
}  # fmt: skip


def compute_shape_distance(  # noqa: PLR0911 - one line per shape
    shape: str, x: _CanvasArray, y: _CanvasArray, radius: float
) -> _CanvasArray:
    """Return the approximate signed distance to the outline of a shape.

    Parameters
    ----------
    shape : str
        A noun of the image domain (:func:`ima.miniature.world.get_domain`).
    x, y : ndarray
        Offsets from the centre in pixels, y downwards.
    radius : float
        Radius in pixels.

    Returns
    -------
    ndarray
        Negative inside, in pixels.

    Examples
    --------
    >>> centre = np.zeros(1)
    >>> float(compute_shape_distance("circle", centre, centre, 10.0)[0])
    -9.5
    """
    rho, ax, ay = np.hypot(x, y), np.abs(x), np.abs(y)
    if shape == "circle":
        return rho - 0.95 * radius
    if shape == "square":
        return np.maximum(ax, ay) - 0.82 * radius
    if shape == "diamond":
        return (ax * 1.25 + ay - 1.05 * radius) / 1.6
    if shape == "triangle":
        return np.maximum((1.7 * ax - 0.95 * (y + radius)) / 1.947, y - 0.7 * radius)
    if shape == "cross":
        arm = 0.3 * radius
        return np.minimum(np.maximum(ax - radius, ay - arm), np.maximum(ay - radius, ax - arm))
    if shape == "ring":
        return np.abs(rho - 0.76 * radius) - 0.22 * radius
    if shape == "star":
        turn = (np.arctan2(x, -y) * 5 / (2 * np.pi)) % 1.0
        tip = np.abs(turn - 0.5) * 2
        return rho - radius * (0.38 + 0.7 * tip**2)
    lobes = np.hypot(ax - 0.47 * radius, y + 0.35 * radius) - 0.5 * radius
    point = (1.05 * ax + 0.93 * y - 0.9 * radius) / 1.4
    return np.minimum(lobes, np.maximum(point, -0.25 * radius - y))


def _paint_object(
    canvas: _CanvasArray, shape: str, rgb: _CanvasArray, place: Sequence[float]
) -> _CanvasArray:
    """Paint one anti-aliased object onto the canvas ``(height, width, channel)``, in place.

    Returns
    -------
    ndarray
        The coverage ``(height, width)`` in [0, 1].
    """
    x, y, radius = place
    rows, columns = np.mgrid[0 : canvas.shape[0], 0 : canvas.shape[1]].astype(float)
    distance = compute_shape_distance(shape, columns - x, rows - y, radius)
    coverage = np.clip(0.5 - distance, 0.0, 1.0)
    canvas += coverage[..., None] * (rgb - canvas)
    return coverage


def _draw_background(width: int, rng: np.random.Generator) -> _CanvasArray:
    """Return a dark background ``(height, width, channel)`` with a random tint and gradient."""
    base = rng.uniform(25, 95) + rng.uniform(-14, 14, 3)
    ramp = np.linspace(-1, 1, width)
    slope = rng.uniform(-18, 18, 2)
    plane = slope[0] * ramp[:, None] + slope[1] * ramp[None, :]
    return np.asarray(base + plane[..., None])


def _add_sensor_noise(canvas: _CanvasArray, rng: np.random.Generator) -> _RgbPixels:
    """Add sensor noise and return uint8 pixels."""
    noise = rng.normal(0.0, rng.uniform(2.0, 7.0), canvas.shape)
    return np.clip(np.rint(canvas + noise), 0, 255).astype(np.uint8)


def _draw_colour(name: str, rng: np.random.Generator) -> _CanvasArray:
    """Return the RGB value of a colour name with a small random deviation."""
    return np.asarray(COLOUR_RGB[name], float) + rng.uniform(-12, 12, 3)


#: Entity, x, y and radius in pixels.
_PlacedObject = tuple[Entity, float, float, float]
_ObjectPath = npt.NDArray[np.float64]


def place_image_objects(
    entities: tuple[Entity, ...], rng: np.random.Generator
) -> list[_PlacedObject]:
    """Give each object of an image a free position and a radius.

    Returns
    -------
    list of (Entity, float, float, float)
        The entity with its ``place`` (the quadrant of its centre), x, y and radius in pixels, from
        left to right.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "size": "big"})
    >>> ((placed, x, y, radius),) = place_image_objects((ring,), np.random.default_rng(0))
    >>> placed.attributes["place"], round(x), round(y)
    ('top left', 22, 12)
    """
    while True:
        placed: list[_PlacedObject] = []
        for entity in entities:
            radius = rng.uniform(*_OBJECT_RADII[entity.attributes["size"]])
            for _ in range(40):
                x, y = rng.uniform(radius + 0.5, _IMAGE_WIDTH - radius - 0.5, 2)
                centred = min(abs(x - _IMAGE_WIDTH / 2), abs(y - _IMAGE_WIDTH / 2)) < _MIDDLE_BAND
                if not centred and all(
                    np.hypot(x - px, y - py) > radius + pr + 0.5 for _, px, py, pr in placed
                ):
                    break
            else:
                break
            vertical = "top" if y < _IMAGE_WIDTH / 2 else "bottom"
            horizontal = "left" if x < _IMAGE_WIDTH / 2 else "right"
            attributes = {**entity.attributes, "place": f"{vertical} {horizontal}"}
            placed.append((replace(entity, attributes=attributes), float(x), float(y), radius))
        if len(placed) == len(entities):
            return sorted(placed, key=lambda item: item[1])


def render_image(
    placed: list[_PlacedObject], rng: np.random.Generator
) -> tuple[_RgbPixels, _CanvasArray]:
    """Render an image.

    Parameters
    ----------
    placed : list of (Entity, float, float, float)
        From :func:`place_image_objects`.
    rng : numpy.random.Generator
        Draws background, exact colours and noise.

    Returns
    -------
    pixels : ndarray
        ``(height, width, channel)`` uint8.
    coverage : ndarray
        ``(object, height, width)`` in [0, 1]: the fraction of each pixel that the object covers.

    Examples
    --------
    >>> ring, rng = Entity("ring", {"colour": "red", "size": "big"}), np.random.default_rng(0)
    >>> pixels, coverage = render_image(place_image_objects((ring,), rng), rng)
    >>> pixels.shape, coverage.shape
    ((64, 64, 3), (1, 64, 64))
    """
    canvas = _draw_background(_IMAGE_WIDTH, rng)
    coverage = [
        _paint_object(canvas, entity.noun, _draw_colour(entity.attributes["colour"], rng), place)
        for entity, *place in placed
    ]
    return _add_sensor_noise(canvas, rng), np.stack(coverage)


def _draw_object_path(motion: str, rng: np.random.Generator) -> _ObjectPath:
    """Return ``(frame, [x, y, radius, visible])`` of one object, which may overlap another."""
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
    """Give each object of a clip a path on which it touches no other object.

    Returns
    -------
    list of (Entity, ndarray)
        The entity and its path ``(frame, [x, y, radius, visible])`` in pixels, from left to right
        in the first frame.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "motion": "moves right"})
    >>> ((_, path),) = place_clip_objects((ring,), np.random.default_rng(0))
    >>> path.shape, bool((np.diff(path[:, 0]) > 0).all())
    ((8, 4), True)
    """
    while True:
        placed: list[tuple[Entity, _ObjectPath]] = []
        for entity in entities:
            for _ in range(30):
                path = _draw_object_path(entity.attributes["motion"], rng)
                if all(_never_touch(path, other) for _, other in placed):
                    placed.append((entity, path))
                    break
        if len(placed) == len(entities):
            return sorted(placed, key=lambda item: float(item[1][0, 0]))


def _never_touch(a: _ObjectPath, b: _ObjectPath) -> bool:
    distance = np.hypot(*(a[:, :2] - b[:, :2]).T)
    return bool((distance > a[:, 2] + b[:, 2]).all())


def render_clip(
    placed: list[tuple[Entity, _ObjectPath]], rng: np.random.Generator
) -> tuple[_RgbPixels, _CanvasArray]:
    """Render a clip.

    Parameters
    ----------
    placed : list of (Entity, ndarray)
        From :func:`place_clip_objects`.
    rng : numpy.random.Generator
        Draws background, exact colours and noise.

    Returns
    -------
    pixels : ndarray
        ``(frame, height, width, channel)`` uint8.
    coverage : ndarray
        ``(object, frame, height, width)`` in [0, 1]; zero in the frames in which a blinking object
        is invisible.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "motion": "grows"})
    >>> rng = np.random.default_rng(0)
    >>> pixels, coverage = render_clip(place_clip_objects((ring,), rng), rng)
    >>> pixels.shape, coverage.shape
    ((8, 48, 48, 3), (1, 8, 48, 48))
    """
    base = _draw_background(_CLIP_WIDTH, rng)
    colours = [_draw_colour(entity.attributes["colour"], rng) for entity, _ in placed]
    frames = np.empty((CLIP_FRAMES, _CLIP_WIDTH, _CLIP_WIDTH, 3), np.uint8)
    coverage = np.zeros((len(placed), CLIP_FRAMES, _CLIP_WIDTH, _CLIP_WIDTH))
    for t in range(CLIP_FRAMES):
        canvas = base.copy()
        for i, (entity, path) in enumerate(placed):
            *place, visible = path[t]
            if visible:
                coverage[i, t] = _paint_object(canvas, entity.noun, colours[i], place)
        frames[t] = _add_sensor_noise(canvas, rng)
    return frames, coverage
