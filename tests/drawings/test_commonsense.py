"""The questions and passages of the world of drawings: their form, lengths, and what is new."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from ima.data.choices import measure_answer_lengths
from ima.data.samples import open_samples
from ima.drawings.commonsense import list_commonsense_questions
from ima.drawings.datasets import DATASET_NAMES
from ima.drawings.passages import list_passages
from ima.drawings.sources import DATA_PARTS
from ima.packages import is_fetched

QUESTIONS = list_commonsense_questions()


def test_there_are_two_hundred_questions_spread_over_topics():
    assert len(QUESTIONS) == 200
    assert len({own.prompt for own in QUESTIONS}) == 200
    topics = Counter(own.topic for own in QUESTIONS)
    assert len(topics) >= 9
    assert max(topics.values()) < 50
    assert min(topics.values()) >= 5


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda own: own.id)
def test_each_has_a_best_another_true_and_three_false_answers(question):
    assert question.true[0] == question.best
    assert len(question.true) >= 2
    assert len(question.false) >= 3
    everything = [text.lower() for text in (*question.true, *question.false)]
    assert len(set(everything)) == len(everything)
    assert re.fullmatch(r"Question: [A-Z][^?]+\?\nAnswer:", question.prompt)
    assert all(re.fullmatch(r"[a-z' ]+", text) for text in everything)


def test_lengths_do_not_give_the_best_answers_away():
    lengths = measure_answer_lengths(QUESTIONS)
    # Neither the shortest nor the longest answer is right more often than by chance.
    assert lengths["shortest"] < lengths["chance"]
    assert lengths["longest"] < lengths["chance"]
    assert abs(lengths["true"] - lengths["false"]) < 1
    assert abs(lengths["best"] - lengths["false"]) < 1.5


def list_sequences(text, n):
    words = re.findall(r"[a-z']+", text.lower())
    return {tuple(words[at : at + n]) for at in range(len(words) - n + 1)}


def test_passages_are_whole_and_different():
    passages = list_passages()
    assert all(50 < len(own.split()) < 90 for own in passages)
    assert all(own.endswith(".") and "  " not in own for own in passages)
    pairs = [list_sequences(own, 8) for own in passages]
    assert len(set.union(*pairs)) == sum(map(len, pairs))


def test_passages_and_questions_share_nothing_with_what_trainings_of_this_world_read():
    if not all(map(is_fetched, DATA_PARTS.values())):
        pytest.skip("not fetched: the drawings")
    new = {own for text in list_passages() for own in list_sequences(text, 8)}
    asked = {own.prompt.split("\n")[0].removeprefix("Question: ").lower() for own in QUESTIONS}
    for name in DATASET_NAMES:
        if "unseen" in name or "poll" in name:
            continue
        for sample in open_samples(f"{name}:train", n=150, at_most=True):
            read = f"{sample.prompt} {' '.join(sample.references)}"
            assert not list_sequences(read, 8) & new
            assert not any(question in read.lower() for question in asked)
