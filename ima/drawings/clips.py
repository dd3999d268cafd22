"""Clips: drawings that move, grow, shrink, spin, appear and disappear in eight frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ima.drawings.actions import ACTIONS, ClipContent
from ima.drawings.contents import holds_unseen_pair
from ima.drawings.grounds import paint_ground
from ima.drawings.habits import HELD_OUT_DRAWINGS
from ima.drawings.scenes import (
    MARGIN,
    PICTURE_WIDTH,
    Box,
    choose_artist,
    compute_overlap,
    paste_sprite,
    round_side,
)
from ima.drawings.sprites import load_sprite, measure_sprite

N_FRAMES = 8
#: Longest sides in pixels, by how many drawings there are; a thing that grows or shrinks has its
#: side at one end, and half of it at the other.
_SIDES = {1: (72, 108), 2: (60, 92), 3: (52, 76)}
_GROWTH, _GROWN = 0.45, 1.35
_DISTANCES = (70, 100)
#: Degrees from frame to frame, by how many steps the turn takes.
_TURN_STEPS = {7: 45.0, 3: 60.0}
_MAX_OVERLAP, _MAX_OVERLAP_EXCHANGED = 0.06, 0.2
_N_TRIES = 60


@dataclass(frozen=True)
class Frame:
    """One drawing in one frame: centre and longest side in pixels, angle in degrees."""

    x: int
    y: int
    side: int
    angle: float
    visible: bool


@dataclass(frozen=True)
class Mover:
    """One drawing in a clip.

    Parameters
    ----------
    noun, artist : str
        What is drawn, and who drew it.
    flipped : bool
        Whether left and right are exchanged.
    frames : tuple of Frame
        What it does.
    """

    noun: str
    artist: str
    flipped: bool
    frames: tuple[Frame, ...]

    def find_boxes(self) -> list[Box]:
        """Return its box in each frame, whether it is visible there or not."""
        return [_find_box(self.noun, self.artist, frame) for frame in self.frames]


@dataclass(frozen=True)
class Clip:
    """A clip before it is painted.

    Parameters
    ----------
    content : ClipContent
        What happens; its kinds are in the order of time, or from left to right if together.
    movers : tuple of Mover
        The drawings, in the order in which they are painted.
    seed : tuple of int
        Seed of the ground's texture.
    """

    content: ClipContent
    movers: tuple[Mover, ...]
    seed: tuple[int, ...]

    def make_truth(self) -> dict[str, Any]:
        """Return the ground truth, JSON-serialisable."""
        entities = []
        for noun, count, action in self.content.kinds:
            movers = [mover for mover in self.movers if mover.noun == noun]
            boxes = [
                [
                    list(box) if frame.visible else None
                    for box, frame in zip(mover.find_boxes(), mover.frames, strict=True)
                ]
                for mover in movers
            ]
            entities.append(
                {
                    "noun": noun,
                    "count": count,
                    "action": action,
                    "artist": movers[0].artist,
                    "boxes": boxes,
                }
            )
        unseen = any(HELD_OUT_DRAWINGS.get(mover.noun) == mover.artist for mover in self.movers)
        return {
            "world": "drawings",
            "entities": entities,
            "ground": self.content.ground,
            "in_turn": self.content.in_turn,
            "relations": [[0, "before", 1]] if self.content.in_turn else [],
            "novel": unseen or holds_unseen_pair(self.content.nouns),
        }

    def render(self) -> npt.NDArray[np.uint8]:
        """Paint the clip.

        Returns
        -------
        ndarray
            ``(frame, height, width, channel)`` uint8: eight frames, 224 pixels wide and high.

        Raises
        ------
        PartAbsentError
            If the drawings were not fetched.
        """
        rng = np.random.default_rng(self.seed)
        ground = Image.fromarray(paint_ground(self.content.ground, width=PICTURE_WIDTH, rng=rng))
        return np.stack([self._paint_frame(ground.copy(), t) for t in range(N_FRAMES)])

    def _paint_frame(self, canvas: Image.Image, time: int) -> npt.NDArray[np.uint8]:
        for mover in self.movers:
            frame = mover.frames[time]
            if not frame.visible:
                continue
            sprite = load_sprite(mover.noun, mover.artist, side=frame.side, flipped=mover.flipped)
            if frame.angle:
                sprite = sprite.rotate(frame.angle, resample=Image.Resampling.BICUBIC, expand=True)
            paste_sprite(canvas, sprite, _find_corner(frame, *sprite.size))
        return np.asarray(canvas)


def _find_box(noun: str, artist: str, frame: Frame) -> Box:
    width, height = measure_sprite(noun, artist, side=frame.side)
    if frame.angle:
        sine, cosine = (abs(f(math.radians(frame.angle))) for f in (math.sin, math.cos))
        width, height = (
            math.ceil(width * cosine + height * sine),
            math.ceil(width * sine + height * cosine),
        )
    left, top = _find_corner(frame, width, height)
    return left, top, left + width, top + height


def _find_corner(frame: Frame, width: int, height: int) -> tuple[int, int]:
    # Rounded down, so that a path that is shifted by whole pixels has shifted corners.
    return frame.x - (width + 1) // 2, frame.y - (height + 1) // 2


def place_clip(
    content: ClipContent,
    *,
    split: str,
    unseen: bool = False,
    seed: tuple[int, ...],
    rng: np.random.Generator,
) -> Clip:
    """Give each drawing of a clip an artist, a size and a free path.

    Parameters
    ----------
    content : ClipContent
        What happens.
    split : str
        Split of the clip, for the choice of artists.
    unseen : bool
        Whether to take held-out drawings.
    seed : tuple of int
        Seed of the ground's texture.
    rng : numpy.random.Generator
        Source of randomness.

    Raises
    ------
    PartAbsentError
        If the drawings were not fetched.

    Examples
    --------
    >>> content = ClipContent((("dog", 1, "spin"),), False, "snow")
    >>> clip = place_clip(content, split="test", seed=(0,), rng=rng)  # doctest: +SKIP
    >>> clip.render().shape  # doctest: +SKIP
    (8, 224, 224, 3)
    """
    n_drawings = sum(count for _, count, _ in content.kinds)
    scale = 1.0
    artists = [choose_artist(noun, split=split, unseen=unseen, rng=rng) for noun in content.nouns]
    while True:
        movers: list[Mover] = []
        for turn, ((noun, count, action), artist) in enumerate(
            zip(content.kinds, artists, strict=True)
        ):
            side = scale * rng.uniform(*_SIDES[n_drawings])
            span = (0, N_FRAMES - 1)
            if content.in_turn:
                span = ((0, N_FRAMES // 2 - 1), (N_FRAMES // 2, N_FRAMES - 1))[turn]
            for _ in range(count):
                still = Mover(noun, artist, bool(rng.random() < 0.5), ())
                mover = _find_path(still, action, side=side, span=span, others=movers, rng=rng)
                if mover is not None:
                    movers.append(mover)
        if len(movers) == n_drawings:
            return Clip(_order_kinds(content, movers), tuple(movers), seed)
        scale *= 0.95


def _order_kinds(content: ClipContent, movers: Sequence[Mover]) -> ClipContent:
    """Return the content with its kinds from left to right, unless they act in turn."""
    if content.in_turn:
        return content

    def find_start(kind: tuple[str, int, str]) -> float:
        return float(np.mean([mover.frames[0].x for mover in movers if mover.noun == kind[0]]))

    return replace(content, kinds=tuple(sorted(content.kinds, key=find_start)))


def _find_path(
    still: Mover,
    action: str,
    *,
    side: float,
    span: tuple[int, int],
    others: Sequence[Mover],
    rng: np.random.Generator,
) -> Mover | None:
    """Return a drawing with a path on which it stays inside and off the others; None if none."""
    occupied = [mover.find_boxes() for mover in others]
    for _ in range(_N_TRIES):
        mover = replace(still, frames=_draw_path(action, side=side, span=span, rng=rng))
        boxes = np.array(mover.find_boxes())
        low = MARGIN - boxes[:, :2].min(axis=0)
        high = PICTURE_WIDTH - MARGIN - boxes[:, 2:].max(axis=0)
        if (low > high).any():
            return None
        x, y = (int(each) for each in rng.integers(low, high + 1))
        moved = [tuple(box) for box in np.add(boxes, (x, y, x, y)).tolist()]
        if _stays_off(moved, occupied, _MAX_OVERLAP):
            return replace(
                mover, frames=tuple(replace(f, x=f.x + x, y=f.y + y) for f in mover.frames)
            )
    return None


def _draw_path(
    action: str, *, side: float, span: tuple[int, int], rng: np.random.Generator
) -> tuple[Frame, ...]:
    """Return what a drawing does around the origin, between a first and a last frame."""
    steps = span[1] - span[0]
    progress = np.clip((np.arange(N_FRAMES) - span[0]) / steps, 0, 1)
    distance = rng.uniform(*_DISTANCES)
    dx, dy = ACTIONS[action].direction
    turn = steps * _TURN_STEPS[steps] * (1.0 if rng.random() < 0.5 else -1.0)
    frames = []
    for p in progress.tolist():
        size = side
        if action in {"grow", "shrink"}:
            done = p if action == "grow" else 1 - p
            size = _GROWN * side * (_GROWTH + (1 - _GROWTH) * done)
        angle = turn * p if action == "spin" else 0.0
        visible = {"appear": p >= 0.5, "disappear": p < 0.5}.get(action, True)
        x, y = round(distance * p * dx), round(distance * p * dy)
        frames.append(Frame(x, y, round_side(size), angle, visible))
    return tuple(frames)


def _stays_off(boxes: Sequence[Box], others: Sequence[Sequence[Box]], limit: float) -> bool:
    return all(
        compute_overlap(box, other) <= limit
        for path in others
        for box, other in zip(boxes, path, strict=True)
    )


def exchange_mover(
    clip: Clip,
    noun: str,
    other: str,
    *,
    split: str,
    unseen: bool = False,
    rng: np.random.Generator,
) -> Clip | None:
    """Return the same clip with another noun in the place of the only drawing of a noun.

    Parameters
    ----------
    clip : Clip
        The clip.
    noun, other : str
        A noun that it shows once, and the noun to show instead, which does the same.
    split : str
        Split of the clip, for the choice of the artist.
    unseen : bool
        Whether to take a held-out drawing.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Clip or None
        None if the new drawing would leave the frame or cover too much of another.

    Examples
    --------
    >>> exchange_mover(clip, "dog", "cat", split="test", rng=rng)  # doctest: +SKIP
    """
    (old,) = (mover for mover in clip.movers if mover.noun == noun)
    artist = choose_artist(other, split=split, unseen=unseen, rng=rng)
    new = replace(old, noun=other, artist=artist)
    boxes = new.find_boxes()
    inside = all(min(box) >= 0 and max(box) <= PICTURE_WIDTH for box in boxes)
    rest = [mover.find_boxes() for mover in clip.movers if mover is not old]
    if not inside or not _stays_off(boxes, rest, _MAX_OVERLAP_EXCHANGED):
        return None
    kinds = tuple((other if kind[0] == noun else kind[0], *kind[1:]) for kind in clip.content.kinds)
    movers = tuple(new if mover is old else mover for mover in clip.movers)
    return replace(clip, content=replace(clip.content, kinds=kinds), movers=movers)
