"""The vocabulary of the miniature world: what exists, how often, and in which split.

The world is skewed on purpose, because a model hallucinates what it has learned to expect (I2):

- nouns differ in frequency (``_NOUN_WEIGHTS``);
- each noun has a partner (circle and square, bell and drum, …); each further entity of a sample is
  the partner of an earlier one with probability ``_PARTNER_RATE``;
- each noun has a favourite value of its first attribute, chosen with probability
  :data:`FAVOURITE_RATE` (circles are often red). No favourite is held out.

A hash of the *content*, which is the multiset of (noun, attributes) without positions, assigns each
sample to a split, so no content appears in two splits. The pairs of noun and first attribute that
:func:`list_held_out_pairs` lists appear in the test split only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from ima.data.worlds import SPLIT_BOUNDS, choose_content_split
from ima.errors import UnknownNameError

WORLD_VERSION = "2"
_PARTNER_RATE = 0.4
FAVOURITE_RATE = 0.25
_REPEAT_RATE = 0.15
_NOVEL_RATE = 0.25
_NOUN_WEIGHTS = (1.6, 1.4, 1.2, 1.1, 0.9, 0.7, 0.6, 0.5)
_NOUN_PROBABILITIES = tuple(weight / sum(_NOUN_WEIGHTS) for weight in _NOUN_WEIGHTS)
#: Probability of 1, 2, … entities, by the largest number.
_COUNT_PROBABILITIES = {3: (0.25, 0.4, 0.35), 4: (0.15, 0.3, 0.3, 0.25)}
SPLIT_CODES = {"train": 1, "calibration": 2, "validation": 3, "test": 4}

_SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
OBJECT_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "white")
_SIZES = ("small", "big")
_MOTIONS = (
    "moves left", "moves right", "moves up", "moves down", "grows", "shrinks", "blinks", "rests",
)  # fmt: skip
_TIMBRES = ("bell", "drum", "flute", "guitar", "organ", "violin", "buzzer", "whistle")
_PITCHES = ("low", "middle", "high")
_LOUDNESSES = ("soft", "loud")
_CONTOURS = ("rising", "falling", "steady", "trembling")
#: Synonyms of the nouns that a caption may use.
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
    """The vocabulary of one modality: its entities and their attributes.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"video"`` or ``"audio"``.
    nouns : tuple of str
        Names of the entities.
    attributes : mapping of str to tuple of str
        Values of each attribute, in the order in which descriptions list them. The first attribute
        identifies an entity together with its noun (red circle, high bell).
    max_entities : int
        Largest number of entities in a sample.
    """

    modality: str
    nouns: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    max_entities: int

    @property
    def first_attribute(self) -> str:
        """Name of the attribute that identifies an entity together with its noun."""
        return next(iter(self.attributes))

    @property
    def words(self) -> dict[str, tuple[str, ...]]:
        """The words for each part of an entity: its noun and its attributes."""
        return {"noun": self.nouns, **self.attributes}

    def list_pairs(self, entities: Iterable[Entity]) -> set[tuple[str, str]]:
        """Return the pairs of noun and first attribute of some entities."""
        return {(e.noun, e.attributes[self.first_attribute]) for e in entities}


DOMAINS: dict[str, Domain] = {
    "image": Domain(
        "image",
        _SHAPES,
        {"colour": OBJECT_COLOURS, "size": _SIZES, "place": IMAGE_PLACES},
        max_entities=4,
    ),
    "video": Domain(
        "video", _SHAPES, {"colour": OBJECT_COLOURS, "motion": _MOTIONS}, max_entities=3
    ),
    "audio": Domain(
        "audio",
        _TIMBRES,
        {"pitch": _PITCHES, "loudness": _LOUDNESSES, "contour": _CONTOURS},
        max_entities=3,
    ),
}


@dataclass(frozen=True)
class Entity:
    """One object or event: a noun and its attributes; ``place`` is missing until it is placed."""

    noun: str
    attributes: Mapping[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        """The noun and all attributes except the place."""
        return (self.noun, *(v for k, v in self.attributes.items() if k != "place"))

    def to_record(self) -> dict[str, str]:
        """Return the entity as a flat JSON-serialisable mapping."""
        return {"noun": self.noun, **self.attributes}

    @classmethod
    def from_record(cls, record: Mapping[str, str]) -> Entity:
        """Return the entity of a mapping that :meth:`to_record` made."""
        return cls(record["noun"], {key: word for key, word in record.items() if key != "noun"})


def get_domain(modality: str) -> Domain:
    """Return the vocabulary of a modality.

    Raises
    ------
    UnknownNameError
        If the miniature world has no such modality.

    Examples
    --------
    >>> get_domain("audio").first_attribute
    'pitch'
    """
    if modality not in DOMAINS:
        raise UnknownNameError.among(kind="modality", asked=modality, available=DOMAINS)
    return DOMAINS[modality]


@cache
def list_held_out_pairs(modality: str) -> frozenset[tuple[str, str]]:
    """Return the pairs of noun and first attribute that appear in the test split only.

    Examples
    --------
    >>> pairs = list_held_out_pairs("image")
    >>> len(pairs), ("circle", "purple") in pairs
    (8, True)
    """
    domain = get_domain(modality)
    values = domain.attributes[domain.first_attribute]
    step = 1 if len(values) == len(domain.nouns) else 2
    nouns = list(enumerate(domain.nouns))[::step]
    return frozenset((noun, values[(i + 4) % len(values)]) for i, noun in nouns)


def get_favourite_attribute(domain: Domain, noun: str) -> str:
    """Return the most frequent value of a noun's first attribute.

    Examples
    --------
    >>> get_favourite_attribute(get_domain("image"), "circle")
    'red'
    """
    values = domain.attributes[domain.first_attribute]
    return values[domain.nouns.index(noun) % len(values)]


def get_partner_noun(domain: Domain, noun: str) -> str:
    """Return the noun that appears most often together with another.

    Examples
    --------
    >>> get_partner_noun(get_domain("audio"), "bell")
    'drum'
    """
    return domain.nouns[domain.nouns.index(noun) ^ 1]


def get_content_split(entities: tuple[Entity, ...]) -> str:
    """Return the split of a content; order and places of its entities do not matter.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "size": "big"})
    >>> star = Entity("star", {"colour": "blue", "size": "small"})
    >>> get_content_split((ring, star)) == get_content_split((star, ring))
    True
    """
    return choose_content_split(*sorted("/".join(entity.key) for entity in entities))


def draw_entities(modality: str, split: str, rng: np.random.Generator) -> tuple[Entity, ...]:
    """Draw the entities of one sample of a split.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"video"`` or ``"audio"``.
    split : str
        A fraction ``_NOVEL_RATE`` of the samples of ``"test"`` hold a pair of
        :func:`list_held_out_pairs`; no sample of another split does.
    rng : numpy.random.Generator
        Source of randomness. Drawing repeats until the content belongs to the split.

    Returns
    -------
    tuple of Entity
        Entities with distinct pairs of noun and first attribute.

    Raises
    ------
    UnknownNameError
        If there is no such modality or split.

    Examples
    --------
    >>> [e.noun for e in draw_entities("image", "test", np.random.default_rng(0))]
    ['circle', 'square']
    """
    domain = get_domain(modality)
    if split not in SPLIT_BOUNDS:
        raise UnknownNameError.among(kind="split", asked=split, available=SPLIT_BOUNDS)
    novel = split == "test" and rng.random() < _NOVEL_RATE
    while True:
        n = _choose(_COUNT_PROBABILITIES[domain.max_entities], rng) + 1
        entities = _draw_once(domain, n, rng)
        is_novel = not domain.list_pairs(entities).isdisjoint(list_held_out_pairs(modality))
        if is_novel == novel and (novel or get_content_split(entities) == split):
            return entities


def _choose(probabilities: tuple[float, ...], rng: np.random.Generator) -> int:
    """Return the same place as ``rng.choice(len(probabilities), p=probabilities)``, sooner.

    Contents are drawn until one belongs to the split, and ``choice`` checks its input each time.
    """
    return bisect_right(_accumulate(probabilities), rng.random())


@cache
def _accumulate(probabilities: tuple[float, ...]) -> list[float]:
    sums = np.cumsum(probabilities)
    return (sums / sums[-1]).tolist()  # type: ignore[no-any-return]


def _draw_once(domain: Domain, n: int, rng: np.random.Generator) -> tuple[Entity, ...]:
    may_repeat = domain.modality != "audio"
    nouns: list[str] = []
    while len(nouns) < n:
        roll = rng.random()
        if nouns and roll < _PARTNER_RATE:
            noun = get_partner_noun(domain, nouns[int(rng.integers(len(nouns)))])
        elif nouns and may_repeat and roll < _PARTNER_RATE + _REPEAT_RATE:
            noun = nouns[int(rng.integers(len(nouns)))]
        else:
            noun = domain.nouns[_choose(_NOUN_PROBABILITIES, rng)]
        if may_repeat or noun not in nouns:
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
                attributes[domain.first_attribute] = get_favourite_attribute(domain, noun)
            pair = (noun, attributes[domain.first_attribute])
            if pair not in taken:
                break
        taken.add(pair)
        entities.append(Entity(noun, attributes))
    return tuple(entities)
