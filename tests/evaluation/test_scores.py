"""Scores against cases worked out by hand."""

import pytest

from ima.data.samples import Sample, open_samples
from ima.errors import ParameterError
from ima.metrics.answers import normalize_answer, score_answers, score_exact_match
from ima.miniature.caption_metrics import count_named_entities, score_captions
from ima.stats.scores import compute_mean_score


def question(answer, *, kind="colour", candidates=("blue", "red"), novel=False):
    truth = {"question": {"kind": kind, "candidates": list(candidates)}, "novel": novel}
    return Sample("x", "image", "qa", "question : ?", (answer,), truth)


def test_exact_match_compares_whole_answers():
    assert score_exact_match(" Top   left .", ["top left"]) == 1
    assert score_exact_match("top left corner", ["top left"]) == 0
    assert score_exact_match("top", ["top left"]) == 0
    assert normalize_answer("Red!") == "red"


def test_binding_counts_only_answers_that_guessing_could_miss():
    samples = [question("red"), question("blue"), question("red", candidates=("red",))]
    scores = score_answers(samples, ["red", "red", "red"])
    assert scores["exact_match"].value == pytest.approx(2 / 3)
    assert scores["binding"].value == pytest.approx(1 / 2)
    assert scores["binding"].n == 2
    assert scores["binding_guess"].value == pytest.approx(1 / 2)


def test_novel_and_familiar_samples_are_told_apart():
    samples = [question("red", novel=True), question("red"), question("red")]
    scores = score_answers(samples, ["blue", "red", "red"])
    assert (scores["novel"].value, scores["familiar"].value) == (0, 1)


def test_entities_are_read_with_the_attributes_before_their_noun():
    caption = "a big red ring , a small blue star and a big red ring"
    assert count_named_entities(caption, "image") == {("ring", "red"): 2, ("star", "blue"): 1}
    full = count_named_entities(caption, "image", full=True)
    assert full == {("ring", "red", "big"): 2, ("star", "blue", "small"): 1}


def test_what_an_object_does_stands_behind_it():
    caption = "a red ring that moves left and a blue star that rests"
    assert count_named_entities(caption, "video", full=True) == {
        ("ring", "red", "moves left"): 1,
        ("star", "blue", "rests"): 1,
    }


def test_an_attribute_that_is_not_told_stays_empty():
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


@pytest.mark.parametrize("values", [[0, 1], [0.25, 0.75]])
def test_intervals_hold_the_mean_and_shrink_with_n(values):
    few, many = compute_mean_score(values * 10), compute_mean_score(values * 1000)
    assert few.low < 0.5 < few.high
    assert many.high - many.low < few.high - few.low
    assert compute_mean_score(values * 10, seed=1) == compute_mean_score(values * 10, seed=1)


def test_a_perfect_score_is_not_certain():
    assert compute_mean_score([1.0] * 20).low < compute_mean_score([1.0] * 200).low < 1
    assert compute_mean_score([0.0] * 20).high > 0


def test_no_values_no_score():
    with pytest.raises(ParameterError, match="at least one sample; got none"):
        compute_mean_score([])
