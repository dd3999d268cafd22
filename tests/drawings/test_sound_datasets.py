"""The named data sets of sounds: the same seed, the same samples; splits share nothing."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from sound_planting import planted_sounds, planted_sounds_root  # noqa: F401

from ima.drawings.sound_datasets import SOUND_DATASET_NAMES, open_sounds_dataset
from ima.drawings.sound_sources import SOUND_PARTS
from ima.errors import PartAbsentError, UnknownNameError

_SPLITS = ("train", "calibration", "validation", "test")


def _list_events(name, n=150):
    keys = ("noun", "sentence", "phrase", "tempo", "root")
    return {
        tuple(entity.get(key) for key in keys)
        for sample in open_sounds_dataset(name, n=n)
        for entity in sample.truth["entities"]
    }


def _list_kinds(name, n=300):
    return Counter(s.truth["question"]["kind"] for s in open_sounds_dataset(name, n=n))


@pytest.mark.parametrize("name", SOUND_DATASET_NAMES)
def test_samples_are_the_same_however_many_are_opened(name):
    samples = open_sounds_dataset(name, n=12)
    assert samples.samples == open_sounds_dataset(name, n=30).samples[:12]
    assert len({sample.id for sample in samples}) == 12
    assert samples.fingerprint != open_sounds_dataset(name, n=12, seed=1).fingerprint
    assert {sample.truth["world"] for sample in samples} == {"sounds"}


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("sounds-audio-caption:train", "e05fa5be8eeb"),
        ("sounds-audio-qa:test", "017717de7388"),
        ("sounds-audio-qa-unseen-pairs", "529c1bf98b48"),
    ],
)
def test_what_a_seed_gives_stays(name, fingerprint):
    # Weights of connectors in the zoo were trained on these samples.
    assert open_sounds_dataset(name, n=50).fingerprint[:12] == fingerprint


@pytest.mark.parametrize("task", ["caption", "qa"])
def test_splits_share_no_event(task):
    events = {split: _list_events(f"sounds-audio-{task}:{split}") for split in _SPLITS}
    for a, b in itertools.combinations(_SPLITS, 2):
        assert events[a].isdisjoint(events[b])


@pytest.mark.parametrize("task", ["caption", "qa"])
def test_unseen_pairs_are_in_no_other_split(task):
    def pair(sample):
        # A noun with its sentence, an instrument with the kind of its phrase.
        return {(e["noun"], e.get("sentence"), e.get("phrase")) for e in sample.truth["entities"]}

    unseen = open_sounds_dataset(f"sounds-audio-{task}-unseen-pairs", n=60)
    assert all(sample.truth["novel"] for sample in unseen)
    for split in _SPLITS:
        known = open_sounds_dataset(f"sounds-audio-{task}:{split}", n=100)
        assert not any(sample.truth["novel"] for sample in known)
        heard = set().union(*map(pair, known))
        assert all(not pair(sample) <= heard for sample in unseen)


def test_knowledge_that_is_held_out_is_asked_for_in_tests_only():
    assert not any(kind.endswith("-new") for kind in _list_kinds("sounds-audio-qa:train"))
    tested = _list_kinds("sounds-audio-qa:test")
    assert {"about-new", "family-new"} <= set(tested)
    assert set(tested) >= {"instrument", "phrase", "tempo", "order", "source", "topic", "exists"}


def test_yes_and_no_are_equally_frequent_for_every_question():
    samples = open_sounds_dataset("sounds-audio-qa:train", n=800)
    answers = {}
    for sample in samples:
        if "pair" in sample.truth["question"]:
            answers.setdefault(sample.prompt, Counter())[sample.references[0]] += 1
    assert len(answers) > 50
    assert all(counts["yes"] == counts["no"] for counts in answers.values())


def test_told_sounds_have_the_same_questions():
    told = open_sounds_dataset("sounds-text-qa:test", n=20)
    asked = open_sounds_dataset("sounds-audio-qa:test", n=20)
    for text, sound in zip(told, asked, strict=True):
        assert text.modality == "text"
        assert text.prompt.endswith(sound.prompt)
        assert text.references == sound.references
        assert all(entity["noun"] in text.prompt for entity in sound.truth["entities"])


def test_prompts_and_answers_are_words_with_single_spaces():
    for name in SOUND_DATASET_NAMES:
        for sample in open_sounds_dataset(name, n=40):
            for text in (sample.prompt, *sample.references):
                assert text == " ".join(text.split())
                assert text


def test_sounds_load_with_planted_parts(planted_sounds):  # noqa: F811
    for name in ("sounds-audio-caption:train", "sounds-audio-qa"):
        for sample in open_sounds_dataset(name, n=6):
            wave = sample.load()
            assert (wave.shape, wave.dtype) == ((80_000,), np.float32)
            assert np.array_equal(wave, sample.load())


def test_sets_open_without_parts_and_loading_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_PARTS", str(tmp_path))
    samples = open_sounds_dataset("sounds-audio-caption", n=3)
    with pytest.raises(PartAbsentError, match="ima data fetch"):
        samples[0].load()


def test_unknown_names_and_splits_say_what_exists():
    with pytest.raises(UnknownNameError, match=r"'sounds-audio-captions'.*'sounds-audio-caption'"):
        open_sounds_dataset("sounds-audio-captions", n=1)
    with pytest.raises(UnknownNameError, match=r"Unknown split 'tests'.*'test'"):
        open_sounds_dataset("sounds-audio-qa:tests", n=1)
    with pytest.raises(UnknownNameError, match=r"split of sounds-audio-qa-unseen-pairs 'train'"):
        open_sounds_dataset("sounds-audio-qa-unseen-pairs:train", n=1)


def test_parts_are_fetched_by_name_and_their_conversions_exist():
    assert [part.get_command() for part in SOUND_PARTS] == [
        "ima data fetch speech",
        "ima data fetch instruments",
    ]
    for part in SOUND_PARTS:
        assert part.is_default
        assert callable(part.load_conversion())
        assert all(len(member.sha256) == 64 for member in part.members)
