"""The world of sounds as data and metrics see it."""

from __future__ import annotations

import pytest

from ima.data import worlds
from ima.data.samples import Sample
from ima.drawings.sound_registration import SOUND_WORLD
from ima.drawings.telling import tell_sample
from ima.metrics.hallucination import count_chair_mentions
from ima.metrics.sample_scores import SampleScorer


@pytest.fixture
def registered(monkeypatch):
    """Sounds are a world, however the package was installed."""
    monkeypatch.setattr(worlds, "load_worlds", lambda: {"sounds": SOUND_WORLD})


def test_world_opens_its_sets_and_owns_their_samples(registered):
    samples = worlds.open_named_dataset("sounds-audio-caption:validation", n=2)
    assert (samples.name, samples.split) == ("sounds-audio-caption", "validation")
    assert worlds.world_of(samples[0]) is SOUND_WORLD
    assert set(worlds.list_data_parts()) == {"speech", "instruments"}


def test_captions_of_sounds_are_scored_as_those_of_pictures(registered):
    samples = worlds.open_named_dataset("sounds-audio-caption", n=3)
    captions = [sample.references[0] for sample in samples]
    scorer = SampleScorer(samples)
    table = scorer(samples, captions)
    assert {"exact_set", "exact_full", "absent_named", "named", "cider"} <= set(scorer.metrics)
    assert (table[:, scorer.metrics.index("exact_full")] == 1).all()
    assert count_chair_mentions(samples, captions)[:, 0].tolist() == [0, 0, 0]


def test_a_sound_is_told_in_words_from_its_truth():
    record = {"noun": "violin", "source": "music", "phrase": "trill", "tempo": "slow", "root": 60}
    spoken = {"noun": "owl", "source": "speech", "sentence": "The owl is asleep.", "start": 0.0}
    truth = {"world": "sounds", "entities": [spoken, record]}
    sample = Sample("0", "audio", "caption", "One hears", ("x",), truth)
    told = tell_sample(sample)
    assert told.modality == "text"
    assert told.prompt == (
        "First a woman talks about an owl, then a violin plays a slow trill. One hears"
    )
