"""Labelled states: listed once per sample and kind, classed, balanced and read in order."""

from __future__ import annotations

import numpy as np
import pytest
from madestates import MODALITIES

from ima.errors import ParameterError, UnknownNameError
from ima.measures import labelled_states


def test_every_sample_is_listed_once_per_kind(listed):
    assert len(listed) == 160
    assert listed["content"].nunique() == 80
    assert (listed.groupby("content")["kind"].nunique() == 2).all()
    assert set(listed.loc[listed["kind"] == "textual", "modality"]) == {"text"}
    assert listed.groupby("content")["source"].nunique().max() == 1


def test_kinds_that_a_sample_lacks_are_left_out(clear):
    text = clear["sound"].where(clear["sound"]["kind"] == "textual")
    listed = labelled_states.list_labelled_states({**clear, "sound": text}, modalities=MODALITIES)
    assert len(listed) == 120
    assert not ((listed["dataset"] == "sound") & (listed["kind"] == "perceptual")).any()


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ("modality", {"text": 80, "image": 40, "audio": 40}),
        ("text source", {"image": 40, "audio": 40}),
    ],
)
def test_problems(listed, problem, expected):
    assert (
        labelled_states.get_class_labels(listed, problem=problem).value_counts().to_dict()
        == expected
    )


def test_balanced_draws_as_many_of_every_class(listed):
    drawn = labelled_states.balance_classes(
        labelled_states.get_class_labels(listed, problem="modality"), seed=0
    )
    assert set(drawn.value_counts()) == {40}
    assert drawn.index.is_monotonic_increasing
    assert not drawn.index.equals(
        labelled_states.balance_classes(
            labelled_states.get_class_labels(listed, problem="modality"), seed=1
        ).index
    )


def test_states_come_in_the_order_asked(clear, listed):
    rows = np.array([150, 3, 77])
    got = labelled_states.read_layer_states(clear, states=listed, rows=rows, layer=1)
    for vector, row in zip(got, rows, strict=True):
        entry = listed.loc[row]
        expected = clear[entry["dataset"]].sel(kind=entry["kind"], layer=1)[entry["sample"]]
        np.testing.assert_array_equal(vector, expected)


def test_unknown_problem_names_the_closest(listed):
    with pytest.raises(UnknownNameError, match="Did you mean 'modality'"):
        labelled_states.get_class_labels(listed, problem="modalty")


def test_one_class_cannot_be_told_apart(clear):
    listed = labelled_states.list_labelled_states(
        {"picture": clear["picture"]}, modalities=MODALITIES
    )
    with pytest.raises(ParameterError, match="at least two classes; found image"):
        labelled_states.get_class_labels(listed, problem="text source")
