"""Mentions: the things that a text names, and how many of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from ima.drawings.concepts import CONCEPTS, get_concept
from ima.drawings.wording import NUMBER_WORDS
from ima.metrics.cider_bleu import tokenize_captions

_NUMBERS = {word: number for number, word in enumerate(NUMBER_WORDS) if number}
_NUMBERS |= {str(number): number for number in _NUMBERS.values()} | {"a": 1, "an": 1}


@cache
def map_names() -> Mapping[str, str]:
    """Map every name of every concept, singular and plural, to its noun.

    Examples
    --------
    >>> [map_names()[word] for word in ("scarves", "bunny", "phones")]
    ['scarf', 'rabbit', 'telephone']
    """
    return MappingProxyType({form: c.noun for c in CONCEPTS for form in c.forms})


@dataclass(frozen=True)
class Mention:
    """A noun that a text names: how many of it, and the place after its word."""

    noun: str
    count: int
    end: int


def split_mentions(words: Sequence[str]) -> list[Mention]:
    """Return the things that words name, in their order.

    A number counts for the next noun. A plural without a number counts as two, a singular as one.

    Examples
    --------
    >>> split_mentions("two dogs and some trees".split())
    [Mention(noun='dog', count=2, end=2), Mention(noun='tree', count=2, end=5)]
    """
    names = map_names()
    mentions = []
    number: int | None = None
    for place, word in enumerate(words):
        noun = names.get(word)
        if noun is None:
            number = _NUMBERS.get(word, number)
            continue
        singular = word in get_concept(noun).forms[::2]
        mentions.append(Mention(noun, number or (1 if singular else 2), place + 1))
        number = None
    return mentions


def count_named(caption: str) -> Counter[str]:
    """Count the things that a caption names.

    Parameters
    ----------
    caption : str
        Any text.

    Examples
    --------
    >>> dict(count_named("Two dogs, a cat and some trees."))
    {'dog': 2, 'cat': 1, 'tree': 2}
    """
    counts: Counter[str] = Counter()
    for mention in split_mentions(tokenize_captions([caption])[0].split()):
        counts[mention.noun] += mention.count
    return counts
