"""Pairs of sounds that differ in one event, so that the answer to one question differs.

As the pairs of :mod:`ima.drawings.pairs`, they make the answers yes and no equally frequent for
every question: whoever answers from the question alone is right half the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ima.drawings.instrument_phrases import Phrase, list_roots
from ima.drawings.instruments import FAMILIES
from ima.drawings.questions import Question
from ima.drawings.sound_contents import (
    MUSIC,
    SPEECH,
    Event,
    draw_content,
    draw_instrument,
    get_noun,
    get_source,
    is_fitting,
    is_unseen_pair,
    knows_in_training,
)
from ima.drawings.sound_questions import (
    SPOKEN_PROPERTIES,
    ask_presence,
    ask_property,
    has_property,
)
from ima.drawings.sounds import Sound, place_events
from ima.drawings.spoken import SPOKEN_NOUNS, Sentence

SoundPairKind = Literal["exists", "family", "about"]
_N_TRIES = 60
#: How often a draw for a test split is kept only if it is about held-out knowledge. Few such draws
#: fit the split, so that about three pairs out of ten are.
_NEW_RATE = 0.7


@dataclass(frozen=True)
class SoundPair:
    """Two sounds that share everything but one event, and a question to both.

    Parameters
    ----------
    sounds : (Sound, Sound)
        The sounds.
    questions : (Question, Question)
        The same question, with the answers of the sounds: one yes, one no.
    exchanged : (str, str)
        The instrument or noun that only the first sound has, and the one in its place in the
        second.
    """

    sounds: tuple[Sound, Sound]
    questions: tuple[Question, Question]
    exchanged: tuple[str, str]


def draw_sound_pair(
    kind: SoundPairKind,
    *,
    split: str,
    variety: str = "known",
    seed: tuple[int, ...],
    rng: np.random.Generator,
) -> SoundPair:
    """Draw two sounds that differ in one event, both of one split, and a question.

    Parameters
    ----------
    kind : {"exists", "family", "about"}
        What the question asks for.
    split, variety : str
        As :func:`ima.drawings.sound_contents.draw_content` takes them.
    seed : tuple of int
        Seed of the rendering.
    rng : numpy.random.Generator
        Source of randomness.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> pair = draw_sound_pair("about", split="train", seed=(0,), rng=rng)
    >>> sorted(question.answers[0] for question in pair.questions)
    ['no', 'yes']
    """
    while True:
        new = kind != "exists" and split == "test" and rng.random() < _NEW_RATE
        events = draw_content(split, variety=variety, rng=rng)
        place = _choose_place(kind, events, split=split, rng=rng)
        if place is None or (new and knows_in_training(events[place])):
            continue
        name = _choose_property(events[place], rng) if kind != "exists" else None
        if kind != "exists" and name is None:
            continue
        other = _draw_other(kind, events, place, name, split=split, rng=rng)
        if other is None:
            continue
        sound = place_events(events, seed=seed, rng=rng)
        sounds, pair = (sound, sound.exchange(place, other)), (events[place], other)
        if rng.random() < 0.5:
            sounds, pair = sounds[::-1], pair[::-1]
        questions = _ask_both(sounds, pair, name, rng)
        return SoundPair(sounds, questions, (get_noun(pair[0]), get_noun(pair[1])))


def _choose_place(
    kind: SoundPairKind, events: Sequence[Event], *, split: str, rng: np.random.Generator
) -> int | None:
    """Choose the event that is exchanged; the question must be about no other."""
    source = SPEECH if kind == "about" else MUSIC
    places = [i for i, event in enumerate(events) if get_source(event) == source]
    if not places or (kind != "exists" and len(places) > 1):
        return None
    place = places[int(rng.integers(len(places)))]
    event = events[place]
    # A sentence such as "She ate the whole taco." answers without the noun.
    if kind == "about" and isinstance(event, Sentence) and not event.is_neutral:
        return None
    if kind != "exists" and split != "test" and not knows_in_training(event):
        return None
    return place


def _choose_property(event: Event, rng: np.random.Generator) -> str | None:
    names = SPOKEN_PROPERTIES if isinstance(event, Sentence) else tuple(FAMILIES)
    having = [name for name in names if has_property(event, name)]
    return having[int(rng.integers(len(having)))] if having else None


def _draw_other(
    kind: SoundPairKind,
    events: Sequence[Event],
    place: int,
    name: str | None,
    *,
    split: str,
    rng: np.random.Generator,
) -> Event | None:
    """Draw the other event: of the same split, as new as the first, without the property."""
    event = events[place]
    for _ in range(_N_TRIES):
        other = _vary(event, split=split, rng=rng)
        if other is None or get_noun(other) in map(get_noun, events):
            continue
        if kind == "exists":
            return other
        is_as_new = knows_in_training(other) == knows_in_training(event)
        if name is not None and is_as_new and has_property(other, name) is False:
            return other
    return None


def _vary(event: Event, *, split: str, rng: np.random.Generator) -> Event | None:
    """Draw the same sentence with another noun, or the same phrase on another instrument."""
    unseen = is_unseen_pair(event)
    if isinstance(event, Sentence):
        noun = SPOKEN_NOUNS[int(rng.integers(len(SPOKEN_NOUNS)))]
        sentence = replace(event, noun=noun)
        return sentence if is_fitting(sentence, split=split, unseen=unseen) else None
    instrument = draw_instrument(rng)
    roots = list_roots(instrument)
    for _ in range(_N_TRIES):
        root = roots[int(rng.integers(len(roots)))]
        phrase = Phrase(instrument, event.figure, event.tempo, root)
        if is_fitting(phrase, split=split, unseen=unseen):
            return phrase
    return None


def _ask_both(
    sounds: tuple[Sound, Sound],
    pair: tuple[Event, Event],
    name: str | None,
    rng: np.random.Generator,
) -> tuple[Question, Question]:
    if name is None:
        noun = get_noun(pair[int(rng.integers(2))])
        return ask_presence(sounds[0].events, noun), ask_presence(sounds[1].events, noun)
    wording, new = int(rng.integers(12)), not knows_in_training(pair[0])
    first, second = (ask_property(event, name, wording=wording, new=new) for event in pair)
    return first, second
