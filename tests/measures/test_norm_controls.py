"""Sentences on the controls of norms and of change follow the intervals, whichever side holds."""

from __future__ import annotations

import pytest

from ima.measures.norm_controls import describe_change_controls, describe_scaling
from ima.stats.intervals import Interval

SLOW, LESS, SAME, WIDE = (
    Interval(value, low, high, n=8)
    for value, low, high in (
        (0.3, 0.2, 0.4),
        (0.1, 0.05, 0.15),
        (0.01, 0.0, 0.02),
        (0.05, 0.0, 0.1),
    )
)
MEASURES = ("norm-matched cosine", "mean-centred cosine", "cosine without sinks")


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (SAME, "explains this"),
        (LESS, "explains only a part of this"),
        (SLOW, "does not explain this"),
        (WIDE, "may explain this"),
    ],
)
def test_each_control_explains_or_does_not(control, words):
    gaps = {"cosine": SLOW, "relative change": SLOW, **dict.fromkeys(MEASURES, control)}
    text = describe_change_controls(gaps, margin=0.02)
    assert text.startswith("Perceptual tokens turn less")
    assert text.count(words) == text.count(str(control)) - (control is SLOW) == len(MEASURES)
    assert "relative" not in text


def test_without_slow_change_nothing_is_explained():
    text = describe_change_controls({"cosine": SAME, MEASURES[0]: SLOW}, margin=0.02)
    assert "do not turn less by more than the margin of 0.02" in text
    assert text.endswith("They give: norm-matched cosine 0.300.")
    assert "explains" not in text
    assert describe_change_controls({"cosine": SAME}, margin=0.02).endswith("nothing to explain.")


def test_the_control_run_says_how_far_each_model_moved():
    before = {"one": SLOW, "two": WIDE, "three": SAME}
    text = describe_scaling(before, {"one": SAME, "two": WIDE})
    assert text.endswith("of one from 0.300 to 0.010, of two from 0.050 to 0.050.")
    assert describe_scaling(before, {}) == "No model has a control run."
