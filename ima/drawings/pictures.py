"""Samples of pictures: captions, questions and polls; seed, split and index determine each.

The polls follow POPE (Li et al. 2023, arXiv:2305.10355), as those of the miniature world: each
picture gets one question, and every second one is about a noun that is absent, chosen in one of
three ways: any, the most frequent one, or the one that occurs most often with the present ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, Literal, get_args

import numpy as np

from ima.data.samples import Sample
from ima.drawings.concepts import NOUNS
from ima.drawings.contents import count_cooccurrences, draw_content
from ima.drawings.habits import find_overlaps
from ima.drawings.pairs import PairKind, ScenePair, draw_pair
from ima.drawings.questions import QUESTION_RATIOS, Question, ask_existence, draw_question
from ima.drawings.scenes import Scene, place_content
from ima.drawings.situations import ASKING, PAINTING, PAIRING, PLACING, POLLING, Situation
from ima.drawings.telling import tell_sample
from ima.drawings.wording import IMAGE_PROMPT, make_captions

PollNegatives = Literal["random", "popular", "adversarial"]
POLL_NEGATIVES: tuple[PollNegatives, ...] = get_args(PollNegatives)
#: How often two neighbouring questions are about a pair of scenes that differ in one drawing.
_PAIR_RATES: dict[PairKind, float] = {"exists": 0.18, "any": 0.14}


def make_scene(situation: Situation, *, attempt: int = 0) -> Scene:
    """Draw the scene of a situation, or another one if it does not suit.

    Raises
    ------
    PartAbsentError
        If the drawings were not fetched.

    Examples
    --------
    >>> make_scene(Situation("image", "test", "known", 0, 0)).ground  # doctest: +SKIP
    'sand'
    """
    rng = situation.make_rng(PLACING, attempt)
    content = draw_content(situation.split, variety=situation.variety, rng=rng)
    return place_content(
        content,
        split=situation.split,
        unseen=situation.variety == "unseen-drawings",
        seed=situation.make_seed(PAINTING, attempt),
        rng=rng,
    )


def _draw_scene_and_question(situation: Situation) -> tuple[Scene, Question]:
    """Draw a kind of question, and the first scene that offers one."""
    rng = situation.make_rng(ASKING)
    kind = str(rng.choice(list(QUESTION_RATIOS), p=list(QUESTION_RATIOS.values())))
    number = int(rng.integers(1, 4))
    for attempt in count():
        scene = make_scene(situation, attempt=attempt)
        question = draw_question(scene, kind, number=number, split=situation.split, rng=rng)
        if question is not None:
            return scene, question
    raise AssertionError


def make_pair(situation: Situation) -> ScenePair | None:
    """Draw the pair of scenes that a situation and its neighbour share, if there is one.

    Examples
    --------
    >>> make_pair(Situation("image", "test", "known", 0, 0)) is None  # doctest: +SKIP
    True
    """
    block = situation.block
    rng = block.make_rng(PAIRING)
    roll = rng.random()
    for kind, rate in _PAIR_RATES.items():
        if roll < rate:
            seed = block.make_seed(PAINTING, 0, PAIRING)
            return draw_pair(kind, split=block.split, variety=block.variety, seed=seed, rng=rng)
        roll -= rate
    return None


def make_caption_sample(situation: Situation) -> Sample:
    """Return a picture to describe; its references are the captions, the canonical one first.

    Examples
    --------
    >>> make_caption_sample(Situation("image", "test", "known", 0, 0)).prompt  # doctest: +SKIP
    'The picture shows'
    """
    scene = make_scene(situation)
    return Sample(
        id=situation.sample_id,
        modality="image",
        task="caption",
        prompt=IMAGE_PROMPT,
        references=make_captions(scene.content.kinds, scene.ground),
        truth=scene.make_truth(),
        media=scene.render,
    )


def describe_drawing(sample: Sample) -> Sample:
    """Return the text that codes of a sample's picture are predicted from: its first caption.

    Examples
    --------
    >>> describe_drawing(Sample("0", "image", "caption", "", ("two dogs on the road",))).prompt
    'two dogs on the road'
    """
    return Sample(sample.id, "text", "caption", sample.references[0], ())


def _ask(situation: Situation, scene: Scene, question: Question, **record: Any) -> Sample:
    return Sample(
        id=situation.sample_id,
        modality="image",
        task="qa",
        prompt=question.prompt,
        references=question.answers,
        truth={**scene.make_truth(), "question": {**question.to_record(), **record}},
        media=scene.render,
    )


def make_question_sample(situation: Situation) -> Sample:
    """Return a picture with one question.

    Examples
    --------
    >>> make_question_sample(Situation("image", "test", "known", 0, 0)).task  # doctest: +SKIP
    'qa'
    """
    pair = make_pair(situation)
    if pair is not None:
        which = situation.index % 2
        return _ask(
            situation,
            pair.scenes[which],
            pair.questions[which],
            pair=situation.index // 2,
            exchanged=list(pair.exchanged),
        )
    return _ask(situation, *_draw_scene_and_question(situation))


def make_told_sample(situation: Situation) -> Sample:
    """Return the sample of :func:`make_question_sample` with its picture told in words.

    What a language model answers here is the ceiling of what it can answer about the picture.

    Examples
    --------
    >>> make_told_sample(Situation("image", "test", "known", 0, 0)).modality  # doctest: +SKIP
    'text'
    """
    sample = make_question_sample(situation)
    return replace(tell_sample(sample), id=sample.id.replace("-image-", "-text-"))


def make_poll_sample(situation: Situation, *, negatives: PollNegatives) -> Sample:
    """Return a picture with a question about a noun: present at even indices, absent at odd ones.

    Examples
    --------
    >>> situation = Situation("image", "test", "known", 1, 0)
    >>> make_poll_sample(situation, negatives="random").references  # doctest: +SKIP
    ('no',)
    """
    scene = make_scene(situation)
    present = scene.content.nouns
    rng = situation.make_rng(POLLING)
    if situation.index % 2 == 0:
        noun = present[int(rng.integers(len(present)))]
    else:
        noun = choose_absent_noun(present, negatives=negatives, rng=rng)
    question = ask_existence(scene, noun)
    return _ask(situation, scene, question, kind=f"poll/{negatives}")


def choose_absent_noun(
    present: tuple[str, ...], *, negatives: PollNegatives, rng: np.random.Generator
) -> str:
    """Return the noun of a poll question whose answer is no.

    Parameters
    ----------
    present : tuple of str
        Nouns of the picture.
    negatives : {"random", "popular", "adversarial"}
        How the absent noun is chosen.
    rng : numpy.random.Generator
        Source of randomness, for ``"random"``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> choose_absent_noun(("bee",), negatives="adversarial", rng=rng)
    'sunflower'
    """
    absent = [
        noun for noun in NOUNS if noun not in present and find_overlaps(noun).isdisjoint(present)
    ]
    if negatives == "random":
        return absent[int(rng.integers(len(absent)))]
    counts = count_cooccurrences()
    places = {noun: i for i, noun in enumerate(NOUNS)}
    if negatives == "popular":
        return max(absent, key=lambda noun: counts[places[noun], places[noun]])
    columns = [places[noun] for noun in present]
    return max(absent, key=lambda noun: counts[places[noun], columns].sum())


#: How a sample of each task is made.
PICTURE_TASKS: dict[str, Callable[[Situation], Sample]] = {
    "caption": make_caption_sample,
    "qa": make_question_sample,
    **{f"poll-{each}": partial(make_poll_sample, negatives=each) for each in POLL_NEGATIVES},
}
