"""The named data sets of the world of sounds; seed, split and index determine a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from types import MappingProxyType
from typing import Any

from ima.data.samples import SPLITS, Sample, SampleSet
from ima.data.worlds import split_dataset_name
from ima.drawings.questions import Question
from ima.drawings.sound_contents import draw_content
from ima.drawings.sound_pairs import SoundPair, SoundPairKind, draw_sound_pair
from ima.drawings.sound_questions import SOUND_QUESTION_RATIOS, draw_sound_question
from ima.drawings.sound_wording import SOUND_PROMPT, make_sound_captions
from ima.drawings.sounds import (
    ASKING,
    LISTENING,
    PAIRING,
    PLACING,
    RENDERING,
    Sound,
    SoundSituation,
    place_events,
)
from ima.drawings.telling import tell_sample

#: How often two neighbouring questions are about a pair of sounds that differ in one event.
_PAIR_RATES: Mapping[SoundPairKind, float] = MappingProxyType(
    {"exists": 0.14, "family": 0.13, "about": 0.15}
)


def make_sound(situation: SoundSituation, *, attempt: int = 0) -> Sound:
    """Draw the sound of a situation, or another one if it does not suit.

    Examples
    --------
    >>> make_sound(SoundSituation("test", "known", 0, 0)).sources
    ('music',)
    """
    events = draw_content(
        situation.split,
        variety=situation.variety,
        rng=situation.make_rng(LISTENING, attempt),
    )
    return place_events(
        events,
        seed=situation.make_seed(RENDERING, attempt),
        rng=situation.make_rng(PLACING, attempt),
    )


def _draw_sound_and_question(situation: SoundSituation) -> tuple[Sound, Question]:
    """Draw a kind of question, and the first sound that offers one."""
    rng = situation.make_rng(ASKING)
    kinds, ratios = list(SOUND_QUESTION_RATIOS), list(SOUND_QUESTION_RATIOS.values())
    kind = str(rng.choice(kinds, p=ratios))
    for attempt in count():
        sound = make_sound(situation, attempt=attempt)
        question = draw_sound_question(sound.events, kind, split=situation.split, rng=rng)
        if question is not None:
            return sound, question
    raise AssertionError


def make_sound_pair(situation: SoundSituation) -> SoundPair | None:
    """Draw the pair of sounds that a situation and its neighbour share, if there is one.

    Examples
    --------
    >>> pairs = [make_sound_pair(SoundSituation("test", "known", i, 0)) for i in (0, 1)]
    >>> pairs[0] == pairs[1]
    True
    """
    block = situation.block
    rng = block.make_rng(PAIRING)
    roll = rng.random()
    for kind, rate in _PAIR_RATES.items():
        if roll < rate:
            seed = block.make_seed(RENDERING, 0, PAIRING)
            return draw_sound_pair(
                kind, split=block.split, variety=block.variety, seed=seed, rng=rng
            )
        roll -= rate
    return None


def make_sound_caption_sample(situation: SoundSituation) -> Sample:
    """Return a sound to describe; its references are the captions, the canonical one first.

    Examples
    --------
    >>> sample = make_sound_caption_sample(SoundSituation("test", "known", 3, 0))
    >>> print(sample.prompt, sample.references[0])
    One hears a bass guitar playing fast chords
    """
    sound = make_sound(situation)
    return Sample(
        id=situation.sample_id,
        modality="audio",
        task="caption",
        prompt=SOUND_PROMPT,
        references=make_sound_captions(sound.events),
        truth=sound.make_truth(),
        media=sound.render,
    )


def _choose_sound_and_question(
    situation: SoundSituation,
) -> tuple[Sound, Question, dict[str, Any]]:
    pair = make_sound_pair(situation)
    if pair is None:
        sound, question = _draw_sound_and_question(situation)
        return sound, question, {}
    which = situation.index % 2
    record = {"pair": situation.index // 2, "exchanged": list(pair.exchanged)}
    return pair.sounds[which], pair.questions[which], record


def make_sound_question_sample(situation: SoundSituation) -> Sample:
    """Return a sound with one question.

    Examples
    --------
    >>> sample = make_sound_question_sample(SoundSituation("test", "known", 3, 0))
    >>> print(sample.prompt, sample.references[0])
    Question: Is there a synthesizer? Answer: no
    """
    sound, question, record = _choose_sound_and_question(situation)
    return Sample(
        id=situation.sample_id,
        modality="audio",
        task="qa",
        prompt=question.prompt,
        references=question.answers,
        truth={**sound.make_truth(), "question": {**question.to_record(), **record}},
        media=sound.render,
    )


def make_told_sound_sample(situation: SoundSituation) -> Sample:
    """Return the sample of :func:`make_sound_question_sample` with its sound told in words.

    What a language model answers here is the ceiling of what it can answer about the sound.

    Examples
    --------
    >>> make_told_sound_sample(SoundSituation("test", "known", 6, 0)).prompt
    'A violin plays a slow trill. Question: Which instrument is playing? Answer:'
    """
    sample = tell_sample(make_sound_question_sample(situation))
    return replace(sample, id=sample.id.replace("-audio-", "-text-"))


@dataclass(frozen=True)
class _Recipe:
    """How the samples of a data set are made, and whether it has the split ``test`` only."""

    make: Callable[[SoundSituation], Sample]
    variety: str = "known"

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS if self.variety == "known" else ("test",)


_RECIPES: Mapping[str, _Recipe] = MappingProxyType(
    {
        "sounds-audio-caption": _Recipe(make_sound_caption_sample),
        "sounds-audio-qa": _Recipe(make_sound_question_sample),
        "sounds-audio-caption-unseen-pairs": _Recipe(make_sound_caption_sample, "unseen-pairs"),
        "sounds-audio-qa-unseen-pairs": _Recipe(make_sound_question_sample, "unseen-pairs"),
        "sounds-text-qa": _Recipe(make_told_sound_sample),
    }
)
SOUND_DATASET_NAMES: tuple[str, ...] = tuple(_RECIPES)


def open_sounds_dataset(name: str, *, n: int, seed: int = 0) -> SampleSet:
    """Open a data set of the world of sounds.

    Parameters
    ----------
    name : str
        One of :data:`SOUND_DATASET_NAMES`, followed by ``:train``, ``:calibration``,
        ``:validation`` or ``:test``; the default split is ``test``. Data sets of unseen pairs have
        no other split.
    n : int
        Number of samples, from the start of the split. Their sounds are rendered when they are
        loaded, which needs the parts ``speech`` and ``instruments``.
    seed : int
        Seed of the world.

    Raises
    ------
    UnknownNameError
        If there is no such data set or split.

    Examples
    --------
    >>> sample = open_sounds_dataset("sounds-audio-caption", n=1)[0]
    >>> sample.load().shape  # doctest: +SKIP
    (80000,)
    """
    base, split = split_dataset_name(name, {key: each.splits for key, each in _RECIPES.items()})
    recipe = _RECIPES[base]
    situations = (SoundSituation(split, recipe.variety, index, seed) for index in range(n))
    return SampleSet(base, split, tuple(map(recipe.make, situations)))
