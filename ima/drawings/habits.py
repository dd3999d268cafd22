"""What the world of drawings does by habit, and what it keeps for tests.

The world is skewed on purpose, because a model hallucinates what it has learned to expect:

- nouns differ in frequency: the most frequent one is drawn :data:`WEIGHT_RATIO` times as often as
  the rarest (:data:`NOUN_WEIGHTS`);
- each noun has a partner (dog and cat, bee and sunflower); a further kind of a picture is the
  partner of an earlier one with probability :data:`PARTNER_RATE`;
- most nouns have a usual ground (camels stand on sand); it is chosen with probability
  :data:`USUAL_GROUND_RATE`, and any ground otherwise.

Some things are only in test splits: one artist's drawing of every third noun, a tenth of the pairs
of nouns, and a quarter of the nouns that have a property: elsewhere no question for a property is
asked of a picture that shows one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np

from ima.data.worlds import hash_words
from ima.drawings.concepts import CONCEPTS, NOUNS
from ima.drawings.sources import ARTISTS

GROUNDS = ("grass", "road", "sand", "sky", "snow")
WEIGHT_RATIO = 3.0
PARTNER_RATE = 0.35
USUAL_GROUND_RATE = 0.35
_PAIR_SHARE, _KNOWLEDGE_SHARE = 10, 4
_WEIGHT_SEED, _DRAWING_SEED = 11, 12
#: Artists whose drawings are in every split; the others are in training only.
TESTED_ARTISTS = ARTISTS[:3]

_PAIRS = """
dog-cat lion-tiger horse-cow pig-rooster zebra-giraffe elephant-monkey camel-cactus panda-bear
kangaroo-rabbit fox-owl penguin-snowman duck-frog flamingo-crocodile parrot-pineapple turtle-crab
snake-spider whale-sailboat dolphin-shark octopus-canoe snail-mushroom butterfly-rose bee-sunflower
tree-house watermelon-strawberry lemon-eggplant banana-coconut apple-pear avocado-carrot pretzel-egg
hamburger-pizza sandwich-taco cake-gift cookie-donut candle-balloon train-suitcase bus-backpack
truck-box car-motorcycle bicycle-ambulance tractor-bucket airplane-helicopter rocket-robot
castle-crown tent-ladder star-moon rainbow-umbrella trophy-basketball shirt-shoe hat-dress
boot-scarf diamond-key bell-accordion guitar-drum violin-piano trumpet-saxophone microphone-clock
telephone-television camera-magnet book-laptop envelope-pencil hammer-axe bed-chair toilet-bathtub
ghost-skull
"""
#: Nouns that a drawing also shows, or that a person may call it: never with it in one picture, and
#: never asked for where it is shown.
_OVERLAPS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ambulance": frozenset({"car", "truck"}),
        "boot": frozenset({"shoe"}),
        "cake": frozenset({"candle"}),
        "clock": frozenset({"bell"}),
        "crown": frozenset({"diamond"}),
        "gift": frozenset({"box"}),
        "snowman": frozenset({"hat", "scarf"}),
        "tent": frozenset({"moon"}),
    }
)
_USUAL_GROUNDS: Mapping[str, str] = MappingProxyType(
    {
        "snow": "penguin snowman bear scarf boot",
        "sand": "camel cactus crab turtle octopus dolphin shark whale snake coconut canoe sailboat "
        "crocodile bucket watermelon",
        "road": "train bus ambulance car truck tractor motorcycle bicycle suitcase backpack shoe "
        "box toilet television",
        "sky": "owl parrot airplane helicopter rocket star moon rainbow balloon bee butterfly "
        "umbrella ghost",
        "grass": "dog cat lion tiger horse zebra cow pig giraffe elephant kangaroo panda monkey "
        "fox rabbit duck flamingo rooster frog snail spider tree mushroom rose sunflower house "
        "castle tent basketball apple pear chair",
    }
)


def draw_weights(names: Sequence[str], *, ratio: float, seed: int) -> dict[str, float]:
    """Draw the probabilities of names, which differ by equal factors.

    Parameters
    ----------
    names : sequence of str
        The names.
    ratio : float
        How much more probable the most frequent name is than the rarest.
    seed : int
        Decides which names are frequent.

    Examples
    --------
    >>> weights = draw_weights(["bell", "horn", "lute"], ratio=4, seed=0)
    >>> sorted(round(weight, 3) for weight in weights.values())
    [0.143, 0.286, 0.571]
    """
    weights = np.geomspace(ratio, 1.0, len(names))
    ranks = np.random.default_rng(seed).permutation(len(names))
    return dict(zip(names, (weights[ranks] / weights.sum()).tolist(), strict=True))


def _hold_out_drawings() -> dict[str, str]:
    order = np.random.default_rng(_DRAWING_SEED).permutation(len(NOUNS))[: len(NOUNS) // 3]
    held = {NOUNS[i]: TESTED_ARTISTS[k % len(TESTED_ARTISTS)] for k, i in enumerate(order)}
    return {noun: held[noun] for noun in NOUNS if noun in held}


#: Probability of each noun where no habit decides.
NOUN_WEIGHTS: Mapping[str, float] = MappingProxyType(
    draw_weights(NOUNS, ratio=WEIGHT_RATIO, seed=_WEIGHT_SEED)
)
#: The noun that appears most often together with each noun.
PARTNERS: Mapping[str, str] = MappingProxyType(
    {a: b for pair in _PAIRS.split() for a, b in (pair.split("-"), pair.split("-")[::-1])}
)
#: The ground of each noun that has a usual one.
USUAL_GROUNDS: Mapping[str, str] = MappingProxyType(
    {noun: ground for ground, nouns in _USUAL_GROUNDS.items() for noun in nouns.split()}
)
#: For every third noun, the artist whose drawing of it only test sets of unseen drawings show.
HELD_OUT_DRAWINGS: Mapping[str, str] = MappingProxyType(_hold_out_drawings())


@cache
def is_held_out_pair(noun: str, other: str) -> bool:
    """Return whether two nouns appear together only in the test set of unseen pairs.

    Examples
    --------
    >>> is_held_out_pair("dog", "cat"), is_held_out_pair("dog", "frog")
    (False, True)
    """
    if noun == other or PARTNERS[noun] == other or other in find_overlaps(noun):
        return False
    return hash_words("pair", *sorted((noun, other))) % _PAIR_SHARE == 0


@cache
def list_held_out_pairs() -> tuple[tuple[str, str], ...]:
    """Return the pairs of nouns that only the test set of unseen pairs shows together.

    Examples
    --------
    >>> len(list_held_out_pairs()) / (128 * 127 / 2) < 0.12
    True
    """
    return tuple(
        (noun, other)
        for i, noun in enumerate(NOUNS)
        for other in NOUNS[i + 1 :]
        if is_held_out_pair(noun, other)
    )


def is_held_out_knowledge(noun: str) -> bool:
    """Return whether questions about properties of a noun are asked in test splits only.

    Examples
    --------
    >>> is_held_out_knowledge("owl"), is_held_out_knowledge("dog")
    (True, False)
    """
    return noun in _list_held_out_knowledge()


@cache
def _list_held_out_knowledge() -> frozenset[str]:
    kinds: dict[str, list[str]] = {}
    for concept in CONCEPTS:
        if concept.true:
            kinds.setdefault(concept.kind, []).append(concept.noun)
    return frozenset(
        noun
        for nouns in kinds.values()
        for noun in sorted(nouns, key=lambda noun: hash_words("held", noun))[
            : len(nouns) // _KNOWLEDGE_SHARE
        ]
    )


def find_overlaps(noun: str) -> frozenset[str]:
    """Return the nouns that a drawing also shows or may be called, and those that it is part of.

    Examples
    --------
    >>> sorted(find_overlaps("snowman")), sorted(find_overlaps("shoe"))
    (['hat', 'scarf'], ['boot'])
    """
    parts = _OVERLAPS.get(noun, frozenset())
    return parts | {other for other, shown in _OVERLAPS.items() if noun in shown}
