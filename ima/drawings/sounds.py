"""Sounds: one or two events in five seconds, placed, rendered, and their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.drawings.contents import SPLIT_CODES
from ima.drawings.instrument_phrases import LONG_SECONDS, SHORT_SECONDS, draw_notes
from ima.drawings.instrument_playing import SAMPLING_RATE, play_notes
from ima.drawings.sound_contents import (
    MUSIC,
    SOUND_VARIETIES,
    SPEECH,
    Event,
    get_noun,
    get_source,
    is_unseen_pair,
)
from ima.drawings.spoken import Sentence
from ima.drawings.spoken_voice import MAX_SENTENCE_SECONDS, read_sentence

SOUND_SECONDS = 5.0
#: Purposes of random numbers.
LISTENING, PLACING, RENDERING, ASKING, PAIRING = range(5)
_AUDIO_CODE = 3
#: The voice is played so much slower and lower, as it is, or faster and higher: up and down.
_PACES = ((20, 19), (1, 1), (19, 20))
_SLOWEST = 20 / 19
#: Seconds of silence before the first of two events, and between them.
_LEAD, _GAP = (0.02, 0.06), (0.05, 0.15)
#: Shortest span of a phrase that is heard alone.
_SHORTEST_SPAN = 2.6
#: Root mean square of an event, from the softest to the loudest; no sample passes the peak.
_LEVELS, _PEAK = (0.04, 0.12), 0.95

Wave = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SoundSituation:
    """Where a sound comes from, so that it is drawn again whenever it is needed.

    Parameters
    ----------
    split, variety : str
        Split, and what the sound may let hear that training does not.
    index, seed : int
        Index in the split, and the seed of the world.
    """

    split: str
    variety: str
    index: int
    seed: int

    def make_seed(self, purpose: int, *others: int) -> tuple[int, ...]:
        """Return the seed for one purpose, independent of those for others.

        Examples
        --------
        >>> SoundSituation("test", "known", 7, 0).make_seed(PLACING)
        (0, 3, 4, 0, 7, 1)
        """
        codes = (_AUDIO_CODE, SPLIT_CODES[self.split], SOUND_VARIETIES.index(self.variety))
        return (self.seed, *codes, self.index, purpose, *others)

    def make_rng(self, purpose: int, *others: int) -> np.random.Generator:
        """Return a random generator for one purpose."""
        return np.random.default_rng(self.make_seed(purpose, *others))

    @property
    def block(self) -> SoundSituation:
        """What this situation shares with its neighbour.

        Examples
        --------
        >>> SoundSituation("test", "known", 7, 0).block.index
        3
        """
        return replace(self, index=self.index // 2)

    @property
    def sample_id(self) -> str:
        """Name of the sample, unique in its data set.

        Examples
        --------
        >>> SoundSituation("test", "unseen-pairs", 7, 2).sample_id
        'sounds-audio-unseen-pairs-test-000007-seed2'
        """
        variety = "" if self.variety == "known" else f"{self.variety}-"
        seed = "" if self.seed == 0 else f"-seed{self.seed}"
        return f"sounds-audio-{variety}{self.split}-{self.index:06d}{seed}"


@dataclass(frozen=True)
class Sound:
    """Events with their places in time, and everything that decides the samples.

    Parameters
    ----------
    events : tuple of Sentence or Phrase
        In temporal order.
    spans : tuple of (float, float)
        For each event the second at which it begins, and how many seconds it may take.
    seed : tuple of int
        Seed of the rendering: notes, loudness, pace of the voice.
    """

    events: tuple[Event, ...]
    spans: tuple[tuple[float, float], ...]
    seed: tuple[int, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """``"speech"`` or ``"music"`` for each event."""
        return tuple(map(get_source, self.events))

    @property
    def nouns(self) -> tuple[str, ...]:
        """The instrument or the spoken noun of each event."""
        return tuple(map(get_noun, self.events))

    def exchange(self, place: int, event: Event) -> Sound:
        """Return the same sound with another event at a place."""
        events = (*self.events[:place], event, *self.events[place + 1 :])
        return replace(self, events=events)

    def make_truth(self) -> dict[str, Any]:
        """Return the ground truth, JSON-serialisable."""
        n = len(self.events)
        return {
            "world": "sounds",
            "entities": [
                _make_record(event) | {"start": round(start, 3)}
                for event, (start, _) in zip(self.events, self.spans, strict=True)
            ],
            "relations": [[i, "before", j] for i in range(n) for j in range(i + 1, n)],
            "novel": any(map(is_unseen_pair, self.events)),
        }

    def render(self) -> Wave:
        """Return the samples.

        Returns
        -------
        ndarray
            ``(time,)`` float32 at 16 kHz in [-1, 1], five seconds.

        Raises
        ------
        PartAbsentError
            If the speech or the instruments were not fetched.
        """
        sound = np.zeros(round(SOUND_SECONDS * SAMPLING_RATE), np.float32)
        for i, (event, (start, seconds)) in enumerate(zip(self.events, self.spans, strict=True)):
            wave = _render_event(event, seconds=seconds, rng=np.random.default_rng([*self.seed, i]))
            begin = round(start * SAMPLING_RATE)
            sound[begin : begin + len(wave)] += wave[: len(sound) - begin]
        return sound


def _make_record(event: Event) -> dict[str, Any]:
    if isinstance(event, Sentence):
        return {"noun": event.noun, "source": SPEECH, "sentence": event.text}
    return {
        "noun": event.instrument,
        "source": MUSIC,
        "phrase": event.figure,
        "tempo": event.tempo,
        "root": event.root,
    }


def place_events(
    events: Sequence[Event], *, seed: tuple[int, ...], rng: np.random.Generator
) -> Sound:
    """Draw when each event begins. A later event begins when no sentence can be unfinished.

    Parameters
    ----------
    events : sequence of Sentence or Phrase
        In temporal order.
    seed : tuple of int
        Seed of the rendering.
    rng : numpy.random.Generator
        Source of randomness.

    Examples
    --------
    >>> from ima.drawings.instrument_phrases import Phrase
    >>> phrases = [Phrase("harp", "chords", "slow", 50), Phrase("oboe", "trill", "fast", 60)]
    >>> sound = place_events(phrases, seed=(0,), rng=np.random.default_rng(0))
    >>> [round(start, 1) for start, _ in sound.spans]
    [0.0, 2.2]
    """
    if len(events) == 1:
        room = MAX_SENTENCE_SECONDS * _SLOWEST
        if get_source(events[0]) == MUSIC:
            room = rng.uniform(_SHORTEST_SPAN, LONG_SECONDS)
        spans = [(rng.uniform(_LEAD[0], SOUND_SECONDS - room), room)]
    else:
        spans, start = [], rng.uniform(*_LEAD)
        for event in events:
            room = SHORT_SECONDS
            if get_source(event) == SPEECH:
                room = MAX_SENTENCE_SECONDS * _SLOWEST
            spans.append((start, room))
            start += room + rng.uniform(*_GAP)
    return Sound(tuple(events), tuple(spans), seed)


def _render_event(event: Event, *, seconds: float, rng: np.random.Generator) -> Wave:
    if isinstance(event, Sentence):
        wave = _change_pace(read_sentence(event.text), _PACES[int(rng.integers(len(_PACES)))])
    else:
        notes = draw_notes(event, seconds=seconds, rng=rng)
        wave = play_notes(event.instrument, notes, seconds=seconds)
    level = rng.uniform(*_LEVELS) / float(np.sqrt(np.mean(np.square(wave))))
    return np.asarray(wave * min(level, _PEAK / float(np.abs(wave).max())), np.float32)


def _change_pace(wave: Wave, pace: tuple[int, int]) -> Wave:
    from scipy.signal import resample_poly

    up, down = pace
    return wave if up == down else np.asarray(resample_poly(wave, up, down), np.float32)
