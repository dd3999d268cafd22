"""Wording: what two texts share when their content words are replaced by slots."""

from __future__ import annotations

import numpy as np
import pytest

from ima.measures import wording


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("caption : a big red heart and a small pink diamond", "_ : _ and _"),
        ("caption : an orange ring , a blue star and a green cross", "_ : _ , _ and _"),
        ("The picture shows a penguin in the snow", "the _ in the _"),
        ("The picture shows two keys and three trophies in the snow", "the _ and _ in the _"),
        ("Question: How many frogs are there? Answer: two", "_ : how many _ are there ? _ : _"),
        ("question : is there a square ? answer : no", "_ : is there _ ? _ : _"),
        ("question : is there a square ? answer : yes", "_ : is there _ ? _ : _"),
        ("A man riding a wave on top of a surfboard.", "_ on _ of _ ."),
        ("The woman’s voice isn’t loud", "the _ isn't _"),
        ("snake_case _ 3rd", "_"),
        ("", ""),
    ],
)
def test_content_words_become_slots(text, expected):
    assert wording.extract_wording(text) == expected


def test_the_order_of_phrases_is_part_of_the_wording():
    first, second = ("a dog in the snow", "in the snow a dog")
    assert wording.extract_wording(first) != wording.extract_wording(second)


def test_groups_hold_each_sample_once_and_small_ones_are_left_out():
    texts = ["a dog", "a dog on a roof", "an owl", "two owls on the sea", "ten cats", "a red cat"]
    got = wording.group_by_wording({"a": texts, "b": texts[:3]}, smallest=3)
    assert list(got) == ["a"]
    np.testing.assert_array_equal(got["a"], [[0, 2, 4, 5]])
    every = wording.group_by_wording({"a": texts}, smallest=1)["a"]
    assert sorted(np.concatenate(every)) == list(range(6))
    assert [len(rows) for rows in every] == [4, 1, 1]
