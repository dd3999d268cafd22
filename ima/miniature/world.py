"""What exists in the miniature world, how often, and which split a content belongs to.

The world is skewed on purpose, because hallucination needs expectations to go wrong (paper.md, I2):

- nouns are not equally frequent (:data:`_NOUN_WEIGHTS`);
- each noun has a partner that appears beside it in :data:`_PARTNER_RATE` of the cases in which a
  further entity is drawn (circle with square, bell with drum, …);
- each noun has a favourite value of its first attribute, taken at :data:`FAVOURITE_RATE`
  (circles are often red); no favourite is held out.

Contents are divided between the splits by a hash of the *content key*, the set of
(noun, attributes) without positions, so that no split holds a content of another. Combinations of
noun and first attribute listed by :func:`list_held_out_pairs` appear in the test split only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from ima.errors import UnknownNameError

WORLD_VERSION = "2"
_PARTNER_RATE = 0.4
FAVOURITE_RATE = 0.25
_REPEAT_RATE = 0.15
_NOVEL_RATE = 0.25
_NOUN_WEIGHTS = (1.6, 1.4, 1.2, 1.1, 0.9, 0.7, 0.6, 0.5)
_SPLIT_BOUNDS = {
    "train": (0, 70),
    "calibration": (70, 80),
    "validation": (80, 90),
    "test": (90, 100),
}
SPLIT_CODES = {"train": 1, "calibration": 2, "validation": 3, "test": 4}

_SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
OBJECT_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "white")
_SIZES = ("small", "big")
_MOTIONS = (
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "grows",
    "shrinks",
    "blinks",
    "rests",
)
_TIMBRES = ("bell", "drum", "flute", "guitar", "organ", "violin", "buzzer", "whistle")
_PITCHES = ("low", "middle", "high")
_LOUDNESSES = ("soft", "loud")
_CONTOURS = ("rising", "falling", "steady", "trembling")
#: Other words for the nouns, by which a caption may name them.
NOUN_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "circle": ("disc", "disk", "dot"),
    "square": ("box", "block"),
    "ring": ("hoop", "annulus"),
    "cross": ("plus sign",),
    "diamond": ("rhombus", "lozenge"),
    "bell": ("chime",),
    "drum": ("drumbeat",),
    "violin": ("fiddle",),
    "buzzer": ("buzz",),
}
IMAGE_PLACES = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True)
class Domain:
    """The grammar of one modality: what its entities are and which attributes they have.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"video"`` or ``"audio"``.
    nouns : tuple of str
        Names of the entities.
    attributes : mapping of str to tuple of str
        Attribute name to its values, in the order in which facts state them. The first is the one
        that names an entity together with its noun (red circle, high bell).
    most : int
        The largest number of entities in one sample.
    """

    modality: str
    nouns: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    most: int

    @property
    def first(self) -> str:
        """Name of the attribute that identifies an entity together with its noun."""
        return next(iter(self.attributes))


DOMAINS: dict[str, Domain] = {
    "image": Domain(
        "image", _SHAPES, {"colour": OBJECT_COLOURS, "size": _SIZES, "place": IMAGE_PLACES}, most=4
    ),
    "video": Domain("video", _SHAPES, {"colour": OBJECT_COLOURS, "motion": _MOTIONS}, most=3),
    "audio": Domain(
        "audio",
        _TIMBRES,
        {"pitch": _PITCHES, "loudness": _LOUDNESSES, "contour": _CONTOURS},
        most=3,
    ),
}


@dataclass(frozen=True)
class Entity:
    """One object or event: a noun and its attributes (without ``place`` until it is placed)."""

    noun: str
    attributes: Mapping[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        """The content of the entity: its noun and all attributes but its place."""
        return (self.noun, *(v for k, v in self.attributes.items() if k != "place"))

    def record(self) -> dict[str, str]:
        """Return the entity as a flat JSON-serialisable mapping."""
        return {"noun": self.noun, **self.attributes}


def get_domain(modality: str) -> Domain:
    """Return the domain of a modality.

    Raises
    ------
    UnknownNameError
        If the miniature world has no such modality.
    """
    if modality not in DOMAINS:
        unknown = UnknownNameError.among("modality", modality, DOMAINS)
        raise unknown
    return DOMAINS[modality]


@cache
def list_held_out_pairs(modality: str) -> frozenset[tuple[str, str]]:
    """Return the (noun, first attribute) pairs that only the test split holds.

    Examples
    --------
    >>> len(held_out("image")), ("circle", "purple") in held_out("image")
    (8, True)
    """
    domain = get_domain(modality)
    values = domain.attributes[domain.first]
    step = 1 if len(values) == len(domain.nouns) else 2
    return frozenset(
        (noun, values[(i + 4) % len(values)])
        for i, noun in enumerate(domain.nouns)
        if i % step == 0
    )


def get_favourite_attribute(domain: Domain, noun: str) -> str:
    """Return the value of the first attribute that the noun takes more often than others."""
    values = domain.attributes[domain.first]
    return values[domain.nouns.index(noun) % len(values)]


def get_partner_noun(domain: Domain, noun: str) -> str:
    """Return the noun that appears most often beside this one."""
    return domain.nouns[domain.nouns.index(noun) ^ 1]


def get_content_split(entities: tuple[Entity, ...]) -> str:
    """Return the split that a content belongs to, a function of its entities' keys alone."""
    text = "|".join(sorted("/".join(entity.key) for entity in entities))
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 100
    return next(name for name, (low, high) in _SPLIT_BOUNDS.items() if low <= bucket < high)


def draw_entities(
    modality: str, split: str, rng: np.random.Generator, *, count: int | None = None
) -> tuple[Entity, ...]:
    """Draw the entities of one sample of a split.

    Parameters
    ----------
    modality : str
        Which domain.
    split : str
        Which split; only ``"test"`` holds the :func:`list_held_out_pairs` pairs, in :data:`_NOVEL_RATE` of
        its samples (and none in the others).
    rng : numpy.random.Generator
        Source of randomness; drawing repeats until the content belongs to the split.
    count : int or None
        Number of entities; None draws it.

    Returns
    -------
    tuple of Entity
        Entities whose (noun, first attribute) pairs are distinct.
    """
    domain = get_domain(modality)
    if split not in _SPLIT_BOUNDS:
        unknown = UnknownNameError.among("split", split, _SPLIT_BOUNDS)
        raise unknown
    novel = split == "test" and rng.random() < _NOVEL_RATE
    while True:
        n = (
            count
            if count is not None
            else int(rng.choice(domain.most, p=_COUNT_P[domain.most])) + 1
        )
        entities = _draw_once(domain, n, rng)
        pairs = {(e.noun, e.attributes[domain.first]) for e in entities}
        is_novel = not pairs.isdisjoint(list_held_out_pairs(modality))
        if is_novel == novel and (novel or get_content_split(entities) == split):
            return entities


_COUNT_P = {3: (0.25, 0.4, 0.35), 4: (0.15, 0.3, 0.3, 0.25)}


def _draw_once(domain: Domain, n: int, rng: np.random.Generator) -> tuple[Entity, ...]:
    weights = np.asarray(_NOUN_WEIGHTS) / sum(_NOUN_WEIGHTS)
    repeats = domain.modality != "audio"
    nouns: list[str] = []
    while len(nouns) < n:
        roll = rng.random()
        if nouns and roll < _PARTNER_RATE:
            noun = get_partner_noun(domain, nouns[int(rng.integers(len(nouns)))])
        elif nouns and repeats and roll < _PARTNER_RATE + _REPEAT_RATE:
            noun = nouns[int(rng.integers(len(nouns)))]
        else:
            noun = domain.nouns[int(rng.choice(len(weights), p=weights))]
        if repeats or noun not in nouns:
            nouns.append(noun)
    entities: list[Entity] = []
    taken: set[tuple[str, str]] = set()
    for noun in nouns:
        while True:
            attributes = {
                name: values[int(rng.integers(len(values)))]
                for name, values in domain.attributes.items()
                if name != "place"
            }
            if rng.random() < FAVOURITE_RATE:
                attributes[domain.first] = get_favourite_attribute(domain, noun)
            pair = (noun, attributes[domain.first])
            if pair not in taken:
                break
        taken.add(pair)
        entities.append(Entity(noun, attributes))
    return tuple(entities)
