"""Sounds: places in time, samples, truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sound_planting import planted_sounds, planted_sounds_root  # noqa: F401

from ima.drawings.instrument_phrases import SHORT_SECONDS, Phrase
from ima.drawings.sound_contents import draw_content
from ima.drawings.sounds import SOUND_SECONDS, SoundSituation, place_events
from ima.drawings.spoken import list_sentences
from ima.errors import PartAbsentError

_VIOLIN = Phrase("violin", "rising scale", "fast", 60)
_TUBA = Phrase("tuba", "chords", "slow", 30)
_OWL = list_sentences("owl")[0]


def _place(*events, seed=0):
    return place_events(events, seed=(seed,), rng=np.random.default_rng(seed))


def test_events_fit_into_five_seconds_one_after_the_other():
    rng = np.random.default_rng(0)
    for _ in range(500):
        sound = place_events(draw_content("train", rng=rng), seed=(0,), rng=rng)
        ends = [start + seconds for start, seconds in sound.spans]
        assert sound.spans[0][0] > 0
        assert ends[-1] <= SOUND_SECONDS
        assert all(end < start for end, (start, _) in zip(ends, sound.spans[1:], strict=False))


@pytest.mark.parametrize("events", [(_OWL,), (_TUBA,), (_VIOLIN, _OWL), (_OWL, _TUBA)])
def test_samples_are_five_seconds_within_one_and_always_the_same(planted_sounds, events):  # noqa: F811
    sound = _place(*events)
    wave = sound.render()
    assert wave.shape == (80_000,)
    assert wave.dtype == np.float32
    assert 0.02 < np.abs(wave).max() <= 0.951
    _place(_TUBA, _VIOLIN, seed=9).render()
    assert np.array_equal(wave, sound.render())


def test_events_sound_where_their_spans_say(planted_sounds):  # noqa: F811
    sound = _place(_VIOLIN, _TUBA)
    (first, _), (second, _) = sound.spans
    wave = np.abs(sound.render())
    assert wave[: int(first * 16_000)].max(initial=0) == 0
    assert wave[int(first * 16_000) :][:2_000].max() > 0.01
    gap = wave[int((first + SHORT_SECONDS) * 16_000) + 1 : int(second * 16_000) - 1]
    assert gap.max(initial=0) == 0
    assert wave[int(second * 16_000) :][:2_000].max() > 0.01


def test_exchange_changes_one_event_only(planted_sounds):  # noqa: F811
    sound = _place(_VIOLIN, _TUBA)
    other = sound.exchange(1, Phrase("harp", "trill", "slow", 50))
    second = int(sound.spans[1][0] * 16_000) - 1
    first, changed = sound.render(), other.render()
    assert np.array_equal(first[:second], changed[:second])
    assert not np.array_equal(first, changed)
    assert other.nouns == ("violin", "harp")


def test_seed_changes_the_samples(planted_sounds):  # noqa: F811
    assert not np.array_equal(_place(_OWL, seed=0).render(), _place(_OWL, seed=1).render())


def test_truth_tells_every_event_and_their_order():
    truth = _place(_OWL, _VIOLIN).make_truth()
    assert json.loads(json.dumps(truth)) == truth
    assert truth["world"] == "sounds"
    assert truth["relations"] == [[0, "before", 1]]
    owl, violin = truth["entities"]
    assert (owl["noun"], owl["source"], owl["sentence"]) == ("owl", "speech", _OWL.text)
    assert violin["source"] == "music"
    assert (violin["phrase"], violin["tempo"], violin["root"]) == ("rising scale", "fast", 60)
    assert owl["start"] < violin["start"]


def test_absent_parts_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_PARTS", str(tmp_path))
    with pytest.raises(PartAbsentError, match="ima data fetch speech"):
        _place(_OWL).render()
    with pytest.raises(PartAbsentError, match="ima data fetch instruments"):
        _place(_TUBA).render()


def test_situations_differ_in_their_seeds():
    seeds = {
        SoundSituation(split, variety, index, seed).make_seed(purpose)
        for split in ("train", "test")
        for variety in ("known", "unseen-pairs")
        for index in range(3)
        for seed in range(2)
        for purpose in range(5)
    }
    assert len(seeds) == 2 * 2 * 3 * 2 * 5
