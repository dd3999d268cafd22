"""Contents of pictures: which nouns, how many of each, on which ground; one split for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ima.data.worlds import choose_content_split
from ima.drawings.concepts import NOUNS
from ima.drawings.habits import (
    GROUNDS,
    HELD_OUT_DRAWINGS,
    NOUN_WEIGHTS,
    PARTNER_RATE,
    PARTNERS,
    USUAL_GROUND_RATE,
    USUAL_GROUNDS,
    find_overlaps,
    is_held_out_pair,
    list_held_out_pairs,
)
from ima.errors import UnknownNameError

SPLIT_CODES = {"train": 1, "calibration": 2, "validation": 3, "test": 4}
#: What a picture may show that training does not: nothing, a drawing, a pair of nouns.
VARIETIES = ("known", "unseen-drawings", "unseen-pairs")
MAX_DRAWINGS = 5
#: Probabilities of one, two and three: kinds of a picture, and drawings of a kind before pictures
#: with too many are drawn again.
_KIND_PROBABILITIES = (0.3, 0.42, 0.28)
_COUNT_PROBABILITIES = (0.56, 0.26, 0.18)
_COUNTING_SEED, _N_COUNTED = 5, 20_000


@dataclass(frozen=True)
class Content:
    """What a picture shows, without places and artists.

    Parameters
    ----------
    kinds : tuple of (str, int)
        Nouns, all different, and how many of each.
    ground : str
        One of :data:`ima.drawings.habits.GROUNDS`.
    """

    kinds: tuple[tuple[str, int], ...]
    ground: str

    @property
    def nouns(self) -> tuple[str, ...]:
        """The nouns, in the order of the kinds."""
        return tuple(noun for noun, _ in self.kinds)

    @property
    def split(self) -> str:
        """The split that alone may show this content; the order of the kinds does not matter.

        Examples
        --------
        >>> kinds = (("dog", 2), ("cat", 1))
        >>> Content(kinds, "snow").split == Content(kinds[::-1], "snow").split
        True
        """
        kinds = sorted(f"{noun}*{count}" for noun, count in self.kinds)
        return choose_content_split(*kinds, self.ground)

    @property
    def holds_unseen_pair(self) -> bool:
        """Whether two of its nouns appear together only in the test set of unseen pairs."""
        return holds_unseen_pair(self.nouns)


def holds_unseen_pair(nouns: Sequence[str]) -> bool:
    """Return whether two of the nouns are a pair that is held out.

    Examples
    --------
    >>> holds_unseen_pair(["dog", "cat"])
    False
    """
    return any(is_held_out_pair(a, b) for i, a in enumerate(nouns) for b in nouns[i + 1 :])


def check_split(split: str) -> None:
    """Raise an error if there is no such split.

    Raises
    ------
    UnknownNameError
        With the closest name.

    Examples
    --------
    >>> check_split("test")
    """
    if split not in SPLIT_CODES:
        unknown = UnknownNameError.among("split", split, SPLIT_CODES)
        raise unknown


def draw_content(split: str, *, variety: str = "known", rng: np.random.Generator) -> Content:
    """Draw a content that belongs to a split.

    Parameters
    ----------
    split : str
        A split; the varieties other than ``"known"`` are meant for ``"test"``.
    variety : str
        ``"known"``: no held-out pair. ``"unseen-drawings"``: only nouns of which an artist's
        drawing is held out. ``"unseen-pairs"``: a held-out pair, and perhaps a third noun.
    rng : numpy.random.Generator
        Source of randomness. Drawing repeats until the content belongs to the split.

    Raises
    ------
    UnknownNameError
        If there is no such split or variety.

    Examples
    --------
    >>> draw_content("test", rng=np.random.default_rng(0)).split
    'test'
    """
    check_split(split)
    if variety not in VARIETIES:
        unknown = UnknownNameError.among("variety", variety, VARIETIES)
        raise unknown
    while True:
        nouns = _draw_kinds(variety, rng)
        counts = [_draw_number(_COUNT_PROBABILITIES, rng) for _ in nouns]
        if sum(counts) > MAX_DRAWINGS:
            continue
        content = Content(tuple(zip(nouns, counts, strict=True)), draw_ground(nouns, rng))
        if content.split == split:
            return content


def draw_ground(nouns: Sequence[str], rng: np.random.Generator) -> str:
    """Draw a ground: the usual one of the first noun that has one, or any.

    Examples
    --------
    >>> draw_ground(["penguin"], np.random.default_rng(0)) in GROUNDS
    True
    """
    if rng.random() < USUAL_GROUND_RATE:
        usual = next((USUAL_GROUNDS[noun] for noun in nouns if noun in USUAL_GROUNDS), None)
        if usual is not None:
            return usual
    return GROUNDS[int(rng.integers(len(GROUNDS)))]


def _draw_number(probabilities: tuple[float, float, float], rng: np.random.Generator) -> int:
    roll = rng.random()
    return 1 + (roll >= probabilities[0]) + (roll >= probabilities[0] + probabilities[1])


def _draw_kinds(variety: str, rng: np.random.Generator) -> list[str]:
    n = _draw_number(_KIND_PROBABILITIES, rng)
    return draw_nouns(max(n, 2) if variety == "unseen-pairs" else n, variety=variety, rng=rng)


def draw_nouns(n: int, *, variety: str, rng: np.random.Generator) -> list[str]:
    """Draw nouns that appear together.

    Parameters
    ----------
    n : int
        How many; at least two for ``"unseen-pairs"``.
    variety : str
        As :func:`draw_content` takes it.
    rng : numpy.random.Generator
        Source of randomness.

    Examples
    --------
    >>> nouns = draw_nouns(3, variety="unseen-pairs", rng=np.random.default_rng(0))
    >>> len(nouns), holds_unseen_pair(nouns)
    (3, True)
    """
    if variety == "unseen-pairs":
        pairs = list_held_out_pairs()
        nouns = list(pairs[int(rng.integers(len(pairs)))])
        nouns = nouns[:: 1 if rng.random() < 0.5 else -1]
    else:
        nouns = []
    pool = tuple(HELD_OUT_DRAWINGS) if variety == "unseen-drawings" else NOUNS
    while len(nouns) < n:
        if nouns and variety != "unseen-drawings" and rng.random() < PARTNER_RATE:
            noun = PARTNERS[nouns[int(rng.integers(len(nouns)))]]
        else:
            noun = draw_noun(pool, rng)
        if fits_together(noun, nouns, allow_unseen_pair=variety == "unseen-pairs"):
            nouns.append(noun)
    return nouns


def fits_together(noun: str, others: Sequence[str], *, allow_unseen_pair: bool = False) -> bool:
    """Return whether a noun may appear beside others.

    Examples
    --------
    >>> [fits_together(noun, ["snowman"]) for noun in ("penguin", "snowman", "scarf")]
    [True, False, False]
    """
    if noun in others or not find_overlaps(noun).isdisjoint(others):
        return False
    return allow_unseen_pair or not any(is_held_out_pair(noun, other) for other in others)


def draw_noun(pool: tuple[str, ...], rng: np.random.Generator) -> str:
    """Draw a noun of a pool by the nouns' frequencies.

    Examples
    --------
    >>> draw_noun(("dog",), np.random.default_rng(0))
    'dog'
    """
    return pool[int(np.searchsorted(_accumulate_weights(pool), rng.random(), side="right"))]


@cache
def _accumulate_weights(pool: tuple[str, ...]) -> npt.NDArray[np.float64]:
    weights = np.cumsum([NOUN_WEIGHTS[noun] for noun in pool])
    return np.asarray(weights / weights[-1])


@cache
def count_cooccurrences() -> npt.NDArray[np.float64]:
    """Count in how many of 20,000 drawn contents two nouns occur together.

    Returns
    -------
    ndarray
        ``(noun, noun)``, symmetric. The diagonal counts the contents that hold the noun.

    Examples
    --------
    >>> count_cooccurrences().shape
    (128, 128)
    """
    rng = np.random.default_rng(_COUNTING_SEED)
    places = {noun: i for i, noun in enumerate(NOUNS)}
    counts = np.zeros((len(NOUNS), len(NOUNS)))
    for _ in range(_N_COUNTED):
        rows = [places[noun] for noun in _draw_kinds("known", rng)]
        counts[np.ix_(rows, rows)] += 1
    return counts
