"""The p-value of a verdict agrees with its interval; Holm's method adjusts within a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ima import claims
from ima.claims.families import adjust_verdicts, compute_verdict_p
from ima.stats.intervals import Interval

MARGIN = claims.CLAIMS["F3.1"].as_tested.margin.size


def record(value, width, claim="F3.1", model="m"):
    interval = Interval(value, value - width, value + width, n=60)
    given = {"model": model, "dataset": "d"}
    return claims.make_claim_record(claim, "as tested", interval=interval, **given)


@given(
    value=st.floats(-0.3, 0.3),
    width=st.floats(1e-4, 0.3),
    claim=st.sampled_from(["F3.1", "F1.5", "I2"]),
)
def test_a_verdict_has_a_p_value_below_one_in_twenty(value, width, claim):
    one = record(value, width, claim)
    assert (compute_verdict_p(one) < 0.05 + 1e-9) == (one.verdict != "inconclusive")


def test_the_p_value_is_that_of_the_normal_test_at_the_margin():
    one = record(MARGIN + 0.3, 0.196)
    assert compute_verdict_p(one) == pytest.approx(2 * stats.norm.sf(3), rel=1e-3)
    below = record(-MARGIN - 0.3, 0.196)
    assert below.verdict == "contradicted"
    assert compute_verdict_p(below) == pytest.approx(compute_verdict_p(one))


def test_other_models_and_untestable_readings_are_not_in_the_family():
    close = 0.021 + 0.18
    alone = record(close, 0.18)
    others = [record(close, 0.18, model="another")]
    untestable = claims.make_untestable_record("I1", "as tested", n=2, model="m", dataset="d")
    adjusted = adjust_verdicts([alone, *others, untestable])
    assert adjusted["F3.1", "m"] == "supported"
    assert adjusted["I1", "m"] == "not testable here"
    both = adjust_verdicts([alone, record(close, 0.18, claim="F3.2")])
    assert set(both.values()) == {"inconclusive"}


def test_holm_spares_the_strongest_test():
    sure, close = record(0.5, 0.1), record(0.201, 0.18, claim="F3.2")
    weak = record(0.0, 0.3, claim="F3.3")
    adjusted = adjust_verdicts([sure, close, weak])
    assert adjusted["F3.1", "m"] == "supported"
    assert adjusted["F3.2", "m"] == "inconclusive"
    stated = claims.make_claim_record(
        "F3.1", "as stated", interval=sure.interval, model="m", dataset="d"
    )
    assert adjust_verdicts([stated]) == {}
