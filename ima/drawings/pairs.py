"""Pairs of scenes that differ in one drawing, so that the answer to one question differs.

Such pairs are balanced as those of VQA v2 are (Goyal et al. 2017, arXiv:1612.00837): whoever
answers from the question alone, or from what usually stands on such a ground, is right half the
time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ima.drawings.concepts import NOUNS, PROPERTIES, get_concept
from ima.drawings.contents import draw_content, draw_noun, fits_together
from ima.drawings.habits import HELD_OUT_DRAWINGS, is_held_out_knowledge
from ima.drawings.questions import Question, ask_any, ask_existence
from ima.drawings.scenes import Scene, exchange_drawing, place_content

PairKind = Literal["exists", "any"]
_N_TRIES = 60


@dataclass(frozen=True)
class ScenePair:
    """Two scenes that share everything but one drawing, and a question to both.

    Parameters
    ----------
    scenes : (Scene, Scene)
        The scenes.
    questions : (Question, Question)
        The same question, with the answers of the scenes: one yes, one no.
    exchanged : (str, str)
        The noun that only the first scene shows, and the one in its place in the second.
    """

    scenes: tuple[Scene, Scene]
    questions: tuple[Question, Question]
    exchanged: tuple[str, str]


def draw_pair(
    kind: PairKind,
    *,
    split: str,
    variety: str = "known",
    seed: tuple[int, ...],
    rng: np.random.Generator,
) -> ScenePair:
    """Draw two scenes that differ in one drawing, both of one split, and a question.

    Parameters
    ----------
    kind : {"exists", "any"}
        Whether the question asks for a noun, or for something with a property.
    split, variety : str
        As :func:`ima.drawings.contents.draw_content` takes them.
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
    >>> pair = draw_pair("any", split="test", seed=(0,), rng=rng)  # doctest: +SKIP
    >>> pair.questions[0].text, pair.exchanged  # doctest: +SKIP
    ('Is there something that can fly?', ('bee', 'drum'))
    """
    while True:
        content = draw_content(split, variety=variety, rng=rng)
        single = [noun for noun, count in content.kinds if count == 1]
        if not single:
            continue
        noun = single[int(rng.integers(len(single)))]
        asked: str | None = noun
        if kind == "any":
            asked = _choose_property(noun, content.nouns, split=split, rng=rng)
        if asked is None:
            continue
        unseen = variety == "unseen-drawings"
        scene = place_content(content, split=split, unseen=unseen, seed=seed, rng=rng)
        for _ in range(_N_TRIES):
            other = draw_other_noun(content.nouns, noun, variety=variety, rng=rng)
            if other is None or (kind == "any" and not _lacks(other, asked, split=split)):
                continue
            exchanged = exchange_drawing(scene, noun, other, split=split, unseen=unseen, rng=rng)
            if exchanged is None or exchanged.content.split != split:
                continue
            if variety == "unseen-pairs" and not exchanged.content.holds_unseen_pair:
                continue
            scenes, nouns = (scene, exchanged), (noun, other)
            if rng.random() < 0.5:
                scenes, nouns = (exchanged, scene), (other, noun)
            return ScenePair(scenes, _ask_both(kind, scenes, asked, (noun, other), rng), nouns)


def _ask_both(
    kind: PairKind,
    scenes: tuple[Scene, Scene],
    asked: str,
    nouns: tuple[str, str],
    rng: np.random.Generator,
) -> tuple[Question, Question]:
    if kind == "any":
        new = is_held_out_knowledge(nouns[0])
        return ask_any(scenes[0], asked, new=new), ask_any(scenes[1], asked, new=new)
    noun = nouns[int(rng.integers(2))]
    return ask_existence(scenes[0], noun), ask_existence(scenes[1], noun)


def _choose_property(
    noun: str, nouns: tuple[str, ...], *, split: str, rng: np.random.Generator
) -> str | None:
    """Return a property that the noun has and no other noun of the picture."""
    if split != "test" and any(map(is_held_out_knowledge, nouns)):
        return None
    others = [get_concept(other) for other in nouns if other != noun]
    fitting = [
        name
        for name in PROPERTIES
        if get_concept(noun).has(name) and all(other.has(name) is False for other in others)
    ]
    return fitting[int(rng.integers(len(fitting)))] if fitting else None


def _lacks(noun: str, name: str, *, split: str) -> bool:
    if split != "test" and is_held_out_knowledge(noun):
        return False
    return get_concept(noun).has(name) is False


def draw_other_noun(
    nouns: tuple[str, ...], noun: str, *, variety: str, rng: np.random.Generator
) -> str | None:
    """Draw a noun to stand in the place of another; None if the one drawn does not fit.

    Parameters
    ----------
    nouns : tuple of str
        Nouns of the picture or clip.
    noun : str
        The one to be exchanged.
    variety : str
        As :func:`ima.drawings.contents.draw_content` takes it.
    rng : numpy.random.Generator
        Source of randomness.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> draw_other_noun(("dog", "axe"), "dog", variety="known", rng=rng) in NOUNS
    True
    """
    pool = tuple(HELD_OUT_DRAWINGS) if variety == "unseen-drawings" else NOUNS
    other = draw_noun(pool, rng)
    # The exchanged noun must not be asked for where a drawing shows it or may be called so.
    rest = [each for each in nouns if each != noun]
    allowed = variety == "unseen-pairs"
    if other == noun or not fits_together(other, rest, allow_unseen_pair=allowed):
        return None
    return other if fits_together(other, [noun], allow_unseen_pair=True) else None
