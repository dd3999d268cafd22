"""Words for what a picture shows: noun phrases, captions, and a scene told in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ima.drawings.concepts import get_concept

IMAGE_PROMPT = "The picture shows"
NUMBER_WORDS = ("no", "one", "two", "three", "four", "five")
#: How a caption says where things are, and the ground as something that holds them.
_PLACES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "grass": ("on the grass", "grass", "on it"),
        "road": ("on the road", "a road", "on it"),
        "sand": ("on the sand", "sand", "on it"),
        "sky": ("in the sky", "a sky", "in it"),
        "snow": ("in the snow", "snow", "in it"),
    }
)


def add_article(words: str) -> str:
    """Return the words with ``a`` or ``an`` before them.

    Examples
    --------
    >>> add_article("owl"), add_article("dog")
    ('an owl', 'a dog')
    """
    # "A unicorn" and "an hour" are not in the table of concepts.
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def count_noun(noun: str, count: int) -> str:
    """Return a noun phrase with its number.

    Examples
    --------
    >>> count_noun("umbrella", 1), count_noun("fox", 3)
    ('an umbrella', 'three foxes')
    """
    concept = get_concept(noun)
    return add_article(noun) if count == 1 else f"{NUMBER_WORDS[count]} {concept.plural}"


def join_phrases(phrases: Sequence[str]) -> str:
    """Join noun phrases with commas and a final ``and``.

    Examples
    --------
    >>> join_phrases(["two dogs", "a cat", "a bee"])
    'two dogs, a cat and a bee'
    """
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if phrases[1:] else phrases)


def say_place(ground: str) -> str:
    """Say where something is that stands on a ground.

    Examples
    --------
    >>> say_place("snow")
    'in the snow'
    """
    return _PLACES[ground][0]


def make_captions(kinds: Sequence[tuple[str, int]], ground: str) -> tuple[str, ...]:
    """Return captions of a picture; the first is the canonical one.

    Parameters
    ----------
    kinds : sequence of (str, int)
        Nouns from left to right, and how many of each.
    ground : str
        What they stand on.

    Returns
    -------
    tuple of str
        Each goes on after "The picture shows".

    Examples
    --------
    >>> for caption in make_captions([("dog", 2), ("banana", 1)], "grass"):
    ...     print(caption)
    two dogs and a banana on the grass
    a banana and two dogs on the grass
    grass with two dogs and a banana on it
    some grass, and on it two dogs and a banana
    a scene with two dogs and a banana on the grass
    """
    phrases = [count_noun(noun, count) for noun, count in kinds]
    things = join_phrases(phrases)
    place, holder, inside = _PLACES[ground]
    some = holder if holder.startswith("a ") else f"some {holder}"
    captions = [f"{things} {place}"]
    if len(phrases) > 1:
        captions.append(f"{join_phrases(phrases[::-1])} {place}")
    captions += [
        f"{holder} with {things} {inside}",
        f"{some}, and {inside} {things}",
        f"a scene with {things} {place}",
    ]
    return tuple(captions)


def tell_scene(kinds: Sequence[tuple[str, int]], ground: str) -> str:
    """Tell a picture in a sentence, in the order from left to right.

    Examples
    --------
    >>> tell_scene([("dog", 2), ("banana", 1)], "grass")
    'From left to right, the picture shows two dogs and a banana on the grass.'
    >>> tell_scene([("owl", 1)], "sky")
    'The picture shows an owl in the sky.'
    """
    things = join_phrases([count_noun(noun, count) for noun, count in kinds])
    sentence = f"he picture shows {things} {say_place(ground)}."
    return f"T{sentence}" if len(kinds) == 1 else f"From left to right, t{sentence}"
