"""Scores of answers against cases worked out by hand."""

import pytest

from ima.data.samples import Sample
from ima.metrics.answers import normalize_answer, score_answers, score_exact_match


def question(answer, *, kind="colour", candidates=("blue", "red"), novel=False):
    truth = {"question": {"kind": kind, "candidates": list(candidates)}, "novel": novel}
    return Sample("x", "image", "qa", "question : ?", (answer,), truth)


def test_exact_match_compares_whole_answers():
    assert score_exact_match(" Top   left .", ["top left"]) == 1
    assert score_exact_match("top left corner", ["top left"]) == 0
    assert score_exact_match("top", ["top left"]) == 0
    assert normalize_answer("Red!") == "red"


def test_binding_counts_only_questions_that_guessing_could_miss():
    samples = [question("red"), question("blue"), question("red", candidates=("red",))]
    scores = score_answers(samples, ["red", "red", "red"])
    assert scores["exact_match"].value == pytest.approx(2 / 3)
    assert scores["binding"].value == pytest.approx(1 / 2)
    assert scores["binding"].n == 2
    assert scores["binding_guess"].value == pytest.approx(1 / 2)


def test_novel_and_familiar_samples_are_scored_apart():
    samples = [question("red", novel=True), question("red"), question("red")]
    scores = score_answers(samples, ["blue", "red", "red"])
    assert (scores["novel"].value, scores["familiar"].value) == (0, 1)
