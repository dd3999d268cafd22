"""Phrases that an instrument plays: which notes, when and how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ima.drawings.instruments import get_instrument

PHRASES = ("rising scale", "falling scale", "trill", "repeated notes", "chords")
TEMPOS = ("slow", "fast")
#: Seconds of a phrase with the decay of its last note: beside another event, and alone.
SHORT_SECONDS, LONG_SECONDS = 2.1, 4.6
#: Seconds that the last note may go on to sound.
_RELEASE = 0.35
#: Notes per second, from the slowest to the fastest.
_RATES: Mapping[tuple[str, str], tuple[float, float]] = MappingProxyType(
    {
        ("scale", "slow"): (2.2, 2.8),
        ("scale", "fast"): (6.5, 8.5),
        ("trill", "slow"): (4.0, 5.0),
        ("trill", "fast"): (10.0, 13.0),
        ("notes", "slow"): (1.8, 2.3),
        ("notes", "fast"): (5.5, 7.5),
        ("chords", "slow"): (1.2, 1.6),
        ("chords", "fast"): (3.5, 4.5),
    }
)
#: Most notes of a phrase; a scale has one octave.
_MOST_NOTES: Mapping[str, int] = MappingProxyType(
    {"scale": 8, "trill": 60, "notes": 22, "chords": 14}
)
#: Part of the notes that a shorter phrase has at least; a scale is never cut.
_SHORTEST = 0.65
_SCALES = ((0, 2, 4, 5, 7, 9, 11, 12), (0, 2, 3, 5, 7, 8, 10, 12))
_CHORDS = ((0, 4, 7), (0, 3, 7))
_LOUDEST, _SOFTEST = 115, 85


@dataclass(frozen=True)
class Note:
    """Keys that begin and end together.

    Parameters
    ----------
    start, end : float
        Seconds.
    keys : tuple of int
        MIDI keys.
    velocity : int
        How strongly they are struck, 1 to 127.
    """

    start: float
    end: float
    keys: tuple[int, ...]
    velocity: int


@dataclass(frozen=True)
class Phrase:
    """What an instrument plays.

    Parameters
    ----------
    instrument : str
        Name of the instrument.
    figure : str
        One of :data:`PHRASES`.
    tempo : str
        ``"slow"`` or ``"fast"``.
    root : int
        MIDI key of the lowest note.
    """

    instrument: str
    figure: str
    tempo: str
    root: int


def draw_notes(phrase: Phrase, *, seconds: float, rng: np.random.Generator) -> list[Note]:
    """Draw the notes of a phrase: their pace, number and loudness vary.

    Parameters
    ----------
    phrase : Phrase
        The phrase.
    seconds : float
        How long it may last, with the decay of its last note.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of Note
        In temporal order.

    Examples
    --------
    >>> phrase = Phrase("violin", "falling scale", "fast", 60)
    >>> notes = draw_notes(phrase, seconds=2.1, rng=np.random.default_rng(1))
    >>> [note.keys[0] for note in notes]
    [72, 70, 68, 67, 65, 63, 62, 60]
    """
    kind = phrase.figure.split()[-1]
    low, high = _RATES[kind, phrase.tempo]
    rate = rng.uniform(low, high)
    most = min(_MOST_NOTES[kind], int((seconds - _RELEASE) * rate))
    least = most if kind == "scale" else math.ceil(_SHORTEST * most)
    n = int(rng.integers(least, most + 1))
    mode = int(rng.integers(2))
    loudness = int(rng.integers(_SOFTEST, _LOUDEST + 1))
    length = rng.uniform(0.8, 0.95) / rate
    return [
        Note(
            start=i / rate,
            end=i / rate + length,
            keys=tuple(phrase.root + step for step in steps),
            velocity=loudness + int(rng.integers(-4, 5)),
        )
        for i, steps in enumerate(_list_steps(phrase.figure, n=n, mode=mode))
    ]


def _list_steps(figure: str, *, n: int, mode: int) -> list[tuple[int, ...]]:
    """List the semitones above the root of each note."""
    if figure.endswith("scale"):
        scale = _SCALES[mode][:n]
        return [(step,) for step in (scale if figure.startswith("rising") else scale[::-1])]
    if figure == "trill":
        return [((0, 2 - mode)[i % 2],) for i in range(n)]
    steps: tuple[int, ...] = _CHORDS[mode] if figure == "chords" else (0,)
    return [steps] * n


def list_roots(instrument: str) -> range:
    """List the roots that suit an instrument, as MIDI keys.

    Examples
    --------
    >>> list_roots("tuba")
    range(29, 43)
    """
    found = get_instrument(instrument)
    return range(found.lowest, found.highest + 1)
