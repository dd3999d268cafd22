"""Captions of the miniature world against its truth."""

import pytest

from ima.data.samples import open_samples
from ima.miniature.caption_metrics import count_named_entities, score_captions


def test_entities_are_read_with_the_attributes_before_their_noun():
    caption = "a big red ring , a small blue star and a big red ring"
    assert count_named_entities(caption, "image") == {("ring", "red"): 2, ("star", "blue"): 1}
    full = count_named_entities(caption, "image", full=True)
    assert full == {("ring", "red", "big"): 2, ("star", "blue", "small"): 1}


def test_a_motion_follows_its_noun():
    caption = "a red ring that moves left and a blue star that rests"
    assert count_named_entities(caption, "video", full=True) == {
        ("ring", "red", "moves left"): 1,
        ("star", "blue", "rests"): 1,
    }


def test_a_missing_attribute_is_empty():
    assert count_named_entities("a ring", "image") == {("ring", ""): 1}


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_every_reference_caption_is_right_and_every_shortened_one_is_wrong(modality):
    samples = open_samples(f"mini-{modality}-caption", n=40)
    for which in range(3):
        scores = score_captions(samples, [s.references[which] for s in samples])
        assert scores["exact_full"].value == 1
    without_last = [s.references[0].rsplit(" a", 1)[0] for s in samples]
    several = [i for i, s in enumerate(samples) if len(s.truth["entities"]) > 1]
    cut = score_captions([samples[i] for i in several], [without_last[i] for i in several])
    assert cut["exact_set"].value == 0


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_captions_of_other_samples_are_mostly_wrong(modality):
    samples = open_samples(f"mini-{modality}-caption", n=40)
    other = [samples[(i + 1) % 40].references[0] for i in range(40)]
    assert score_captions(samples, other)["exact_set"].value < 0.2
