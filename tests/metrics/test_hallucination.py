"""CHAIR and POPE against cases worked out by hand."""

import numpy as np
import pytest

from ima.data.samples import Sample
from ima.metrics.hallucination import (
    count_chair_mentions,
    find_mentioned_objects,
    map_object_names,
    says_yes,
    score_chair,
    score_pope,
)


def picture(*nouns):
    entities = [{"noun": noun, "colour": "red"} for noun in nouns]
    truth = {"modality": "image", "entities": entities}
    return Sample("x", "image", "caption", "caption :", ("",), truth)


def poll(answer):
    return Sample("x", "image", "qa", "question : is there a ring ? answer :", (answer,))


def test_chair_counts_mentions_of_what_is_absent():
    samples = [picture("ring"), picture("star", "heart"), picture("cross")]
    predictions = ["a red ring and a star", "two stars and a heart", "nothing at all"]
    counts = count_chair_mentions(samples, predictions)
    assert counts.tolist() == [[1, 2], [0, 2], [0, 0]]
    scores = score_chair(counts)
    assert scores["chair_s"].value == pytest.approx(1 / 3)
    assert scores["chair_i"].value == pytest.approx(1 / 4)
    assert scores["chair_i"].low <= 1 / 4 <= scores["chair_i"].high


def test_synonyms_and_plurals_name_the_same_object():
    samples = [picture("ring", "cross"), picture("square")]
    counts = count_chair_mentions(samples, ["hoops with a plus sign", "a box and a Disc."])
    assert counts.tolist() == [[0, 2], [1, 2]]


def test_irregular_plurals_name_the_same_object():
    names = map_object_names(
        ["woman", "knife", "child", "mouse", "sheep", "bus"], {"child": ["kid"]}
    )
    caption = "women with knives, children, kids, mice, sheep and two buses"
    mentioned = find_mentioned_objects(caption, names=names, true_objects=set())
    expected = ("woman", "knife", "child", "child", "mouse", "sheep", "bus")
    assert mentioned.absent == expected


def test_the_longest_name_is_taken():
    names = map_object_names(["dog", "hot dog"], {})
    mentioned = find_mentioned_objects("a hot dog and a dog", names=names, true_objects={"hot dog"})
    assert (mentioned.present, mentioned.absent) == (("hot dog",), ("dog",))


def test_captions_that_name_nothing_have_no_share_of_mentions():
    assert set(score_chair(np.zeros((3, 2)))) == {"chair_s"}


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("yes", True),
        ("No, there is a star", False),
        ("there is not", False),
        ("a note. no", True),
        ("Not really", True),
        ("NO", True),
        ("No!", True),
        ("Yes, there is no dog", False),
        ("it is not. Yes", False),
        ("", True),
    ],
)
def test_an_answer_says_yes_unless_the_published_rule_reads_a_no(text, yes):
    assert says_yes(text) is yes


def test_polls_are_scored_as_a_confusion_matrix():
    samples = [poll("yes")] * 4 + [poll("no")] * 4
    predictions = ["yes", "yes", "yes", "no", "yes", "no", "no", "no"]
    scores = {name: score.value for name, score in score_pope(samples, predictions).items()}
    assert scores["accuracy"] == 6 / 8
    assert scores["precision"] == scores["recall"] == scores["f1"] == 3 / 4
    assert scores["yes_ratio"] == 4 / 8


def test_polls_without_any_yes_have_no_precision():
    scores = score_pope([poll("yes"), poll("no")] * 5, ["no"] * 10)
    assert (scores["precision"].value, scores["recall"].value, scores["f1"].value) == (0, 0, 0)
    assert (scores["accuracy"].value, scores["yes_ratio"].value) == (0.5, 0)
