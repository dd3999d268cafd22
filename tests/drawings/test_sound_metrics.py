"""Captions of sounds, and their scores."""

from __future__ import annotations

import pytest

from ima.data.samples import Sample
from ima.drawings.sound_datasets import SOUND_DATASET_NAMES, open_sounds_dataset
from ima.drawings.sound_metrics import read_caption, score_sound_caption, sound_objects

_VIOLIN = {"noun": "violin", "source": "music", "phrase": "trill", "tempo": "fast"}
_BASS = {"noun": "bass guitar", "source": "music", "phrase": "chords", "tempo": "slow"}
_DOG = {"noun": "dog", "source": "speech", "sentence": "Look, there is a dog!"}


def _score(caption, *entities):
    truth = {"world": "sounds", "entities": list(entities)}
    return score_sound_caption(Sample("0", "audio", "caption", "One hears", (), truth), caption)


@pytest.mark.parametrize("name", [name for name in SOUND_DATASET_NAMES if "caption" in name])
def test_every_reference_is_perfect(name):
    for sample in open_sounds_dataset(name, n=150):
        for reference in sample.references:
            scores = score_sound_caption(sample, reference)
            n = len(sample.truth["entities"])
            assert scores.pop("absent_named") == 0
            assert scores.pop("named") == n
            assert set(scores.values()) == {1.0}, reference


@pytest.mark.parametrize(
    ("caption", "nouns", "exact", "full"),
    [
        ("a violin playing a fast trill, then a woman talking about a dog", 1, 1, 1),
        ("a woman talking about a dog, then a violin playing a fast trill", 1, 1, 0),
        ("a violin playing a slow trill, then a woman talking about a dog", 1, 1, 0),
        ("a violin playing a fast trill and a puppy", 1, 1, 0),
        ("a fiddle playing fast chords, then a woman talking about a dog", 1, 0, 0),
        ("a violin playing a fast trill, then a woman talking about a cat", 0, 0, 0),
        ("a violin playing a fast trill", 0, 0, 0),
        ("a violin playing a fast trill, then a violin playing a fast trill", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_scores_need_every_event_once(caption, nouns, exact, full):
    scores = _score(caption, _VIOLIN, _DOG)
    assert [scores[name] for name in ("exact_nouns", "exact_set", "exact_full")] == [
        nouns,
        exact,
        full,
    ]


def test_names_of_two_words_are_no_names_of_one():
    scores = _score("a bass guitar playing slow chords", _BASS)
    assert scores["exact_full"] == scores["named"] == 1
    assert _score("a guitar playing slow chords", _BASS)["absent_named"] == 1
    assert _score("a music box playing slow chords", _BASS)["absent_named"] == 1


def test_phrase_before_its_instrument_is_understood():
    (first, second) = read_caption("a slow rising scale on a harp and then chords on an oboe")
    assert (first.nouns, first.phrase, first.tempo) == (["harp"], "rising scale", "slow")
    assert (second.nouns, second.phrase, second.tempo) == (["oboe"], "chords", None)


def test_other_words_for_a_scale_are_understood():
    (event,) = read_caption("a harp playing a scale up quickly")
    assert (event.phrase, event.tempo) == ("rising scale", "fast")


def test_quoted_tempo_is_not_played():
    bus = {"noun": "bus", "source": "speech"}
    caption = 'a woman saying "The bus was going too fast."'
    assert _score(caption, bus)["exact_full"] == 1


def test_objects_are_instruments_and_nouns():
    sample = Sample("0", "audio", "caption", "", (), {"entities": [_VIOLIN, _DOG]})
    names, present = sound_objects(sample)
    assert present == {"violin", "dog"}
    assert names["fiddle"] == "violin"
    assert names["puppies"] == "dog"
    assert names["bass guitars"] == "bass guitar"
