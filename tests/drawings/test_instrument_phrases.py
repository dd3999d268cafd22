"""Phrases: notes, their order and their pace."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ima.drawings.instrument_phrases import (
    LONG_SECONDS,
    PHRASES,
    SHORT_SECONDS,
    TEMPOS,
    Phrase,
    draw_notes,
)


def _draw(figure, tempo="slow", *, seconds=LONG_SECONDS, seed=0):
    phrase = Phrase("violin", figure, tempo, 60)
    return draw_notes(phrase, seconds=seconds, rng=np.random.default_rng(seed))


def _list_keys(figure, **options):
    return [note.keys for note in _draw(figure, **options)]


@pytest.mark.parametrize("seed", range(5))
def test_scales_go_one_way_in_steps_of_a_scale(seed):
    rising = [key for (key,) in _list_keys("rising scale", seed=seed)]
    falling = [key for (key,) in _list_keys("falling scale", seed=seed)]
    assert rising == sorted(set(rising))
    assert falling == sorted(set(falling), reverse=True)
    assert len(rising) == 8
    assert rising[-1] - rising[0] == falling[0] - falling[-1] == 12


def test_trill_changes_between_two_neighbours():
    keys = _list_keys("trill", tempo="fast")
    assert {b[0] - a[0] for a, b in itertools.pairwise(keys)} in ({1, -1}, {2, -2})


def test_repeated_notes_and_chords_repeat():
    assert set(_list_keys("repeated notes")) == {(60,)}
    (chord,) = set(_list_keys("chords"))
    assert chord in {(60, 64, 67), (60, 63, 67)}


@pytest.mark.parametrize("figure", PHRASES)
def test_fast_is_at_least_twice_as_fast_as_slow(figure):
    paces = {
        tempo: [np.diff([note.start for note in _draw(figure, tempo, seed=s)]) for s in range(20)]
        for tempo in TEMPOS
    }
    assert min(map(np.min, paces["slow"])) > 1.9 * max(map(np.max, paces["fast"]))


@pytest.mark.parametrize(
    ("figure", "tempo", "seconds"),
    [*itertools.product(PHRASES, TEMPOS, (SHORT_SECONDS, 2.6, LONG_SECONDS))],
)
def test_notes_end_in_time_and_do_not_overlap(figure, tempo, seconds):
    for seed in range(10):
        notes = _draw(figure, tempo, seconds=seconds, seed=seed)
        assert len(notes) >= 2
        assert notes[0].start == 0
        assert notes[-1].end < seconds - 0.2
        assert all(a.end < b.start for a, b in itertools.pairwise(notes))
        assert all(1 <= note.velocity <= 127 for note in notes)


def test_same_seed_draws_the_same_notes():
    assert _draw("trill", seed=3) == _draw("trill", seed=3) != _draw("trill", seed=4)
