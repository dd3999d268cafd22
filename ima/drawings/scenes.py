"""Scenes: where the drawings of a content stand, who drew them, and the picture they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ima.drawings.contents import Content
from ima.drawings.grounds import paint_ground
from ima.drawings.habits import HELD_OUT_DRAWINGS, TESTED_ARTISTS
from ima.drawings.sources import ARTISTS
from ima.drawings.sprites import SIZE_STEP, load_sprite, measure_sprite

PICTURE_WIDTH = 224
Box = tuple[int, int, int, int]
#: Longest sides of drawings in pixels, by how many drawings there are.
_SIDES = {1: (88, 148), 2: (72, 116), 3: (64, 96), 4: (56, 84), 5: (52, 76)}
#: How much of the smaller of two boxes may lie under the other.
_MAX_OVERLAP = 0.08
#: A drawing that was exchanged keeps its centre, and may cover a little more.
_MAX_OVERLAP_EXCHANGED = 0.2
_N_TRIES = 40
MARGIN = 3
#: In training, the outlier among the artists drew one kind in ten.
_OUTLIER_RATE = 0.1
#: Kinds are left of each other where all centres are, by this many pixels.
_CLEARLY = 40
_SHADOW, _SHADOW_OFFSET = 0.3, (2, 4)


@dataclass(frozen=True)
class Drawing:
    """One drawing in a picture.

    Parameters
    ----------
    noun, artist : str
        What is drawn, and who drew it.
    side : int
        Pixels of its longest side.
    flipped : bool
        Whether left and right are exchanged.
    box : (int, int, int, int)
        Left, top, right and bottom in pixels, right and bottom exclusive.
    """

    noun: str
    artist: str
    side: int
    flipped: bool
    box: Box

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of its box, x and y."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclass(frozen=True)
class Kind:
    """All drawings of one noun in a picture.

    Parameters
    ----------
    noun, artist : str
        What is drawn, and who drew it.
    boxes : tuple of (int, int, int, int)
        The box of each drawing, from left to right.
    """

    noun: str
    artist: str
    boxes: tuple[Box, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.boxes)

    @property
    def centres(self) -> tuple[float, ...]:
        """Horizontal centres of the boxes."""
        return tuple((box[0] + box[2]) / 2 for box in self.boxes)

    def to_record(self) -> dict[str, Any]:
        """Return the kind as JSON-serialisable values."""
        return {
            "noun": self.noun,
            "count": self.count,
            "artist": self.artist,
            "boxes": [list(box) for box in self.boxes],
        }


@dataclass(frozen=True)
class Scene:
    """A picture before it is painted.

    Parameters
    ----------
    ground : str
        What everything stands on.
    drawings : tuple of Drawing
        In the order in which they are painted.
    seed : tuple of int
        Seed of the ground's texture.
    """

    ground: str
    drawings: tuple[Drawing, ...]
    seed: tuple[int, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds, from left to right by the mean of their centres."""
        nouns = dict.fromkeys(drawing.noun for drawing in self.drawings)
        kinds = []
        for noun in nouns:
            same = sorted(
                (d for d in self.drawings if d.noun == noun), key=lambda d: (d.centre, d.box)
            )
            kinds.append(Kind(noun, same[0].artist, tuple(d.box for d in same)))
        return tuple(sorted(kinds, key=lambda kind: (sum(kind.centres) / kind.count, kind.noun)))

    @property
    def content(self) -> Content:
        """What it shows."""
        return Content(tuple((kind.noun, kind.count) for kind in self.kinds), self.ground)

    def list_relations(self) -> list[tuple[int, str, int]]:
        """Return the relations (i, ``"left of"``, j) that hold clearly between kinds i and j."""
        kinds = self.kinds
        return [
            (i, "left of", j)
            for i, a in enumerate(kinds)
            for j, b in enumerate(kinds)
            if i != j and max(a.centres) + _CLEARLY <= min(b.centres)
        ]

    def make_truth(self) -> dict[str, Any]:
        """Return the ground truth, JSON-serialisable."""
        kinds = self.kinds
        unseen = any(HELD_OUT_DRAWINGS.get(kind.noun) == kind.artist for kind in kinds)
        return {
            "world": "drawings",
            "entities": [kind.to_record() for kind in kinds],
            "ground": self.ground,
            "relations": [list(relation) for relation in self.list_relations()],
            "novel": unseen or self.content.holds_unseen_pair,
        }

    def render(self) -> npt.NDArray[np.uint8]:
        """Paint the picture.

        Returns
        -------
        ndarray
            ``(height, width, channel)`` uint8, 224 pixels wide and high.

        Raises
        ------
        PartAbsentError
            If the drawings were not fetched.
        """
        rng = np.random.default_rng(self.seed)
        canvas = Image.fromarray(paint_ground(self.ground, width=PICTURE_WIDTH, rng=rng))
        for drawing in self.drawings:
            paste_sprite(
                canvas,
                load_sprite(
                    drawing.noun, drawing.artist, side=drawing.side, flipped=drawing.flipped
                ),
                (drawing.box[0], drawing.box[1]),
            )
        return np.asarray(canvas)


def paste_sprite(canvas: Image.Image, sprite: Image.Image, corner: tuple[int, int]) -> None:
    """Paste a sprite and its shadow, which sets a white animal off from snow.

    Parameters
    ----------
    canvas : PIL.Image.Image
        The picture, changed in place.
    sprite : PIL.Image.Image
        Mode RGBA.
    corner : (int, int)
        Left and top in pixels.

    Examples
    --------
    >>> canvas = Image.new("RGB", (8, 8))
    >>> paste_sprite(canvas, Image.new("RGBA", (2, 2), (255, 0, 0, 255)), (3, 3))
    >>> canvas.getpixel((4, 4))
    (255, 0, 0)
    """
    alpha = sprite.getchannel("A")
    shifted = (corner[0] + _SHADOW_OFFSET[0], corner[1] + _SHADOW_OFFSET[1])
    canvas.paste((20, 24, 32), shifted, alpha.point([round(_SHADOW * a) for a in range(256)]))
    canvas.paste(sprite, corner, alpha)


def choose_artist(noun: str, *, split: str, unseen: bool, rng: np.random.Generator) -> str:
    """Draw who drew a noun.

    Parameters
    ----------
    noun : str
        The noun.
    split : str
        Training alone shows the artist whose style is an outlier.
    unseen : bool
        Whether to take the drawing that is held out.
    rng : numpy.random.Generator
        Source of randomness.

    Examples
    --------
    >>> choose_artist("dog", split="test", unseen=True, rng=np.random.default_rng(0))
    'fluent'
    """
    held_out = HELD_OUT_DRAWINGS.get(noun)
    if unseen and held_out is not None:
        return held_out
    if rng.random() < _OUTLIER_RATE and split == "train":
        return ARTISTS[-1]
    known = [artist for artist in TESTED_ARTISTS if artist != held_out]
    return known[int(rng.integers(len(known)))]


def compute_overlap(a: Box, b: Box) -> float:
    """Return how much of the smaller box lies in the other, from 0 to 1.

    Examples
    --------
    >>> compute_overlap((0, 0, 10, 10), (5, 0, 25, 10))
    0.5
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / smaller


def place_content(
    content: Content,
    *,
    split: str,
    unseen: bool = False,
    seed: tuple[int, ...],
    rng: np.random.Generator,
) -> Scene:
    """Give each drawing of a content an artist, a size and a free place.

    Parameters
    ----------
    content : Content
        What to show.
    split : str
        Split of the scene, for the choice of artists.
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
    >>> rng = np.random.default_rng(0)
    >>> content = Content((("dog", 2),), "grass")
    >>> scene = place_content(content, split="test", seed=(0,), rng=rng)  # doctest: +SKIP
    >>> scene.kinds[0].count  # doctest: +SKIP
    2
    """
    n_drawings = sum(count for _, count in content.kinds)
    low, high = _SIDES[n_drawings]
    wanted: list[tuple[str, str, int]] = []
    for noun, count in content.kinds:
        artist = choose_artist(noun, split=split, unseen=unseen, rng=rng)
        side = rng.uniform(low, high)
        wanted += [(noun, artist, round_side(side * rng.uniform(0.9, 1.1))) for _ in range(count)]
    while True:
        placed: list[Drawing] = []
        for noun, artist, side in wanted:
            boxes = [drawing.box for drawing in placed]
            box = _find_place(measure_sprite(noun, artist, side=side), boxes, rng)
            if box is None:
                break
            placed.append(Drawing(noun, artist, side, bool(rng.random() < 0.5), box))
        if len(placed) == len(wanted):
            return Scene(content.ground, tuple(placed), seed)
        wanted = [(noun, artist, round_side(0.94 * side)) for noun, artist, side in wanted]


def round_side(side: float) -> int:
    """Round the longest side of a drawing to a multiple of four pixels.

    Examples
    --------
    >>> round_side(61.5)
    60
    """
    return max(SIZE_STEP, SIZE_STEP * round(side / SIZE_STEP))


def _find_place(
    size: tuple[int, int], others: Sequence[Box], rng: np.random.Generator
) -> Box | None:
    width, height = size
    for _ in range(_N_TRIES):
        left = int(rng.integers(MARGIN, PICTURE_WIDTH - MARGIN - width + 1))
        top = int(rng.integers(MARGIN, PICTURE_WIDTH - MARGIN - height + 1))
        box = (left, top, left + width, top + height)
        if all(compute_overlap(box, other) <= _MAX_OVERLAP for other in others):
            return box
    return None


def exchange_drawing(
    scene: Scene,
    noun: str,
    other: str,
    *,
    split: str,
    unseen: bool = False,
    rng: np.random.Generator,
) -> Scene | None:
    """Return the same scene with another noun in the place of the only drawing of a noun.

    Parameters
    ----------
    scene : Scene
        The scene.
    noun : str
        A noun that it shows once.
    other : str
        The noun to show instead, with the same centre, longest side and orientation.
    split : str
        Split of the scene, for the choice of the artist.
    unseen : bool
        Whether to take a held-out drawing.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Scene or None
        None if the new drawing would cover too much of another.

    Examples
    --------
    >>> exchange_drawing(scene, "dog", "cat", split="test", rng=rng)  # doctest: +SKIP
    """
    drawings = list(scene.drawings)
    (place,) = (i for i, drawing in enumerate(drawings) if drawing.noun == noun)
    old = drawings[place]
    artist = choose_artist(other, split=split, unseen=unseen, rng=rng)
    size = measure_sprite(other, artist, side=old.side)
    corner = [
        min(max(round(c - length / 2), MARGIN), PICTURE_WIDTH - MARGIN - length)
        for c, length in zip(old.centre, size, strict=True)
    ]
    box = (corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])
    rest = [drawing.box for drawing in scene.drawings if drawing is not old]
    if any(compute_overlap(box, other_box) > _MAX_OVERLAP_EXCHANGED for other_box in rest):
        return None
    drawings[place] = Drawing(other, artist, old.side, old.flipped, box)
    return Scene(scene.ground, tuple(drawings), scene.seed)
