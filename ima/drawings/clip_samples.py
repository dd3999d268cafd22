"""Samples of clips: captions and questions; seed, split and index determine each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from ima.data.samples import Sample
from ima.drawings.actions import ClipContent, draw_clip_content
from ima.drawings.clip_questions import (
    CLIP_QUESTION_RATIOS,
    ask_clip_existence,
    draw_clip_question,
)
from ima.drawings.clip_wording import CLIP_PROMPT, make_clip_captions
from ima.drawings.clips import Clip, exchange_mover, place_clip
from ima.drawings.contents import holds_unseen_pair
from ima.drawings.pairs import draw_other_noun
from ima.drawings.questions import Question
from ima.drawings.situations import ASKING, PAINTING, PAIRING, PLACING, Situation

#: How often two neighbouring questions are about a pair of clips that differ in one drawing.
_PAIR_RATE = 0.15
_N_TRIES = 40
#: Attempts of paired clips begin here, so that they are no clips of other samples.
_PAIRED = 1000


def make_clip(situation: Situation, *, attempt: int = 0) -> Clip:
    """Draw the clip of a situation, or another one if it does not suit.

    Raises
    ------
    PartAbsentError
        If the drawings were not fetched.

    Examples
    --------
    >>> make_clip(Situation("video", "test", "known", 0, 0)).content.ground  # doctest: +SKIP
    'sand'
    """
    rng = situation.make_rng(PLACING, attempt)
    content = draw_clip_content(situation.split, variety=situation.variety, rng=rng)
    return place_clip(
        content,
        split=situation.split,
        unseen=situation.variety == "unseen-drawings",
        seed=situation.make_seed(PAINTING, attempt),
        rng=rng,
    )


def make_clip_caption_sample(situation: Situation) -> Sample:
    """Return a clip to describe; its references are the captions, the canonical one first.

    Examples
    --------
    >>> situation = Situation("video", "test", "known", 0, 0)
    >>> make_clip_caption_sample(situation).prompt  # doctest: +SKIP
    'In the clip,'
    """
    clip = make_clip(situation)
    return Sample(
        id=situation.sample_id,
        modality="video",
        task="caption",
        prompt=CLIP_PROMPT,
        references=make_clip_captions(clip.content),
        truth=clip.make_truth(),
        media=clip.render,
    )


def make_clip_question_sample(situation: Situation) -> Sample:
    """Return a clip with one question.

    Examples
    --------
    >>> situation = Situation("video", "test", "known", 0, 0)
    >>> make_clip_question_sample(situation).task  # doctest: +SKIP
    'qa'
    """
    if situation.block.make_rng(PAIRING).random() < _PAIR_RATE:
        clips, noun, exchanged = _draw_clip_pair(situation.block)
        clip = clips[situation.index % 2]
        question = ask_clip_existence(clip.content, noun)
        record = {"pair": situation.index // 2, "exchanged": list(exchanged)}
    else:
        clip, question = _draw_clip_and_question(situation)
        record = {}
    truth = {**clip.make_truth(), "question": {**question.to_record(), **record}}
    return Sample(
        id=situation.sample_id,
        modality="video",
        task="qa",
        prompt=question.prompt,
        references=question.answers,
        truth=truth,
        media=clip.render,
    )


def _draw_clip_and_question(situation: Situation) -> tuple[Clip, Question]:
    """Draw a kind of question, and the first clip that offers one."""
    rng = situation.make_rng(ASKING)
    kind = str(rng.choice(list(CLIP_QUESTION_RATIOS), p=list(CLIP_QUESTION_RATIOS.values())))
    number = int(rng.integers(1, 3))
    for attempt in count():
        clip = make_clip(situation, attempt=attempt)
        question = draw_clip_question(
            clip.content, kind, number=number, split=situation.split, rng=rng
        )
        if question is not None:
            return clip, question
    raise AssertionError


def _draw_clip_pair(block: Situation) -> tuple[tuple[Clip, Clip], str, tuple[str, str]]:
    """Draw two clips that differ in one drawing, and the noun to ask for."""
    rng = block.make_rng(PAIRING, 1)
    for attempt in count():
        clip = make_clip(block, attempt=_PAIRED + attempt)
        single = [noun for noun, number, _ in clip.content.kinds if number == 1]
        for _ in range(_N_TRIES if single else 0):
            noun = single[int(rng.integers(len(single)))]
            other = draw_other_noun(clip.content.nouns, noun, variety=block.variety, rng=rng)
            if other is None:
                continue
            unseen = block.variety == "unseen-drawings"
            new = exchange_mover(clip, noun, other, split=block.split, unseen=unseen, rng=rng)
            if new is None or not _suits(new.content, block):
                continue
            clips, nouns = (clip, new), (noun, other)
            if rng.random() < 0.5:
                clips, nouns = (new, clip), (other, noun)
            return clips, nouns[int(rng.integers(2))], nouns
    raise AssertionError


def _suits(content: ClipContent, situation: Situation) -> bool:
    if situation.variety == "unseen-pairs" and not holds_unseen_pair(content.nouns):
        return False
    return content.split == situation.split


#: How a sample of each task is made.
CLIP_TASKS: dict[str, Callable[[Situation], Sample]] = {
    "caption": make_clip_caption_sample,
    "qa": make_clip_question_sample,
}
