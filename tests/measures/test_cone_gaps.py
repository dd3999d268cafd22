"""Gaps between cones: made-up states in which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from test_cones import states

from ima.errors import ParameterError
from ima.measures import cone_gaps, cones


def measure(sets, sides=cones.WITHIN_CURVES, seed=0):
    terms = cones.compute_similarity_terms(sets, resamples=200, seed=seed)
    return cone_gaps.compute_cone_gaps(terms, sides=sides)


def test_two_cones_are_supported():
    gaps = measure({"a": states(0, 1), "b": states(0, 1, seed=1)})
    assert list(gaps["layer"].values) == [1, 2, 3, 4]
    interval = cone_gaps.compute_cone_margin(gaps)
    assert interval.n == 80
    assert interval.low > 0.2
    np.testing.assert_allclose(gaps["own"] - gaps["across"], gaps["estimate"])


def test_one_cone_for_all_is_seldom_outside_the_interval():
    """Both gaps are zero at all layers: one interval in twenty may miss that."""
    outside = 0
    for seed in range(60):
        got = cone_gaps.compute_cone_margin(measure({"a": states(0, 0, seed=seed)}, seed=seed))
        outside += not got.low < 0 < got.high
    assert outside <= 60 * (0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5)


def test_texts_that_resemble_percepts_more_than_each_other_contradict():
    array = states(0, 0)
    # Each text is its own direction, and half of it is that of all percepts.
    array[:, 1] += states(0, 0, seed=7, noise=3)[:, 1]
    gaps = measure({"a": array})
    assert cone_gaps.compute_cone_margin(gaps).high < 0
    assert gaps["estimate"].sel(side="P intra").min() > 0
    assert "texts resemble each other less" in cone_gaps.describe_cone_gaps(gaps)


def test_data_sets_apart_contradict_between_and_not_within():
    """Two data sets have each a cone for both kinds: their phrasing is all that differs."""
    sets = {"a": states(0, 0, noise=0.05), "b": states(1, 1, noise=0.05, seed=1)}
    between = measure(sets, sides=cones.BETWEEN_CURVES)
    assert cone_gaps.compute_cone_margin(between).high < -0.5
    assert abs(cone_gaps.compute_cone_margin(measure(sets)).value) < 0.01
    assert "between data sets" in cone_gaps.describe_cone_gaps(between)
    assert "have less in common than percepts and texts" in cone_gaps.describe_shared_cones(between)


def test_cones_are_shared_where_the_gap_between_data_sets_is_above_zero():
    sets = {"a": states(0, 1), "b": states(0, 1, seed=1)}
    between = measure(sets, sides=cones.BETWEEN_CURVES)
    assert "one cone of each kind holds" in cone_gaps.describe_shared_cones(between)
    alike = {"a": states(0, 0), "b": states(0, 0, seed=1)}
    unclear = cone_gaps.describe_shared_cones(measure(alike, sides=cones.BETWEEN_CURVES))
    assert "reaches zero, so one cone" in unclear


def test_one_layer_decides():
    sets = {"a": states(0, 1), "b": states(0, 1, seed=1)}
    broken = {
        name: array.where(array["layer"] != 3, array.sel(kind="textual", drop=True))
        for name, array in sets.items()
    }
    gaps = measure(broken)
    assert (gaps["estimate"].min("side").idxmin("layer")) == 3
    assert cone_gaps.compute_cone_margin(gaps).low < 0.05
    assert "at 3 of 4 layers" in cone_gaps.describe_cone_gaps(gaps)


def test_a_text_only_set_does_not_count():
    sets = {"a": states(0, 1), "b": states(0, 1, seed=1)}
    text = states(0, 2, noise=3, seed=2)
    both = {**sets, "t": text.where(text["kind"] == "textual")}
    for sides in (cones.WITHIN_CURVES, cones.BETWEEN_CURVES):
        np.testing.assert_allclose(
            measure(both, sides)["estimate"], measure(sets, sides)["estimate"]
        )


def test_one_data_set_has_no_other_to_compare_with():
    assert measure({"a": states(0, 1)})["estimate"].min() > 0.2
    with pytest.raises(ParameterError, match=r"missing: PvsP, TvsT.*at least two data sets"):
        measure({"a": states(0, 1)}, sides=cones.BETWEEN_CURVES)


def measure_groups(array, groups):
    terms = cones.compute_group_terms({"a": array}, groups={"a": groups}, resamples=200)
    return cone_gaps.compute_group_gaps(terms)


def test_shared_phrases_alone_make_no_cone():
    """Texts of one wording are alike; texts of two wordings resemble the percepts instead."""
    array = states(0, 0, noise=0.1)
    array[:20, 1, :, 1] += 4
    array[20:, 1, :, 2] += 4
    gaps = measure_groups(array, [np.arange(20), np.arange(20, 40)])
    lowest = gaps["estimate"].min(("side", "layer"))
    assert lowest.sel(pairs="same") > 0.1
    assert lowest.sel(pairs="different") < -0.1
    assert cone_gaps.compute_cone_margin(gaps).high < -0.1
    assert "texts have different wording; both" in cone_gaps.describe_cone_gaps(gaps)
    # All pairs together hide it.
    assert measure({"a": array})["estimate"].min() > -0.1


def test_phrases_that_texts_do_not_share_cannot_hide_a_cone():
    array = states(0, 1, noise=0.1)
    gaps = measure_groups(array, [np.arange(20), np.arange(20, 40)])
    assert cone_gaps.compute_cone_margin(gaps).low > 0.5


def test_a_single_wording_cannot_be_compared_with_another():
    with pytest.raises(ParameterError, match="no pairs of different groups"):
        measure_groups(states(0, 1), [np.arange(40)])
