"""The readings of F2.1: values, coverage of their intervals, and what cannot be tested."""

from __future__ import annotations

import numpy as np
import pytest

from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures import overlap, overlap_excess
from ima.measures.overlap_excess import compute_overlap_excess
from ima.stats.intervals import Interval

WEIGHTS = {"q": np.random.default_rng(0).normal(size=(1, 60, 50)).astype(np.float32)}


def draw_norms(rng, *, scales, units=8, columns=50):
    """Draw sums of squares whose spread over channels is the sets' own, times noise of a unit."""
    return {
        key: {"q": scale * rng.gamma(4.0, size=(units, 1, columns))}
        for key, scale in scales.items()
    }


def make_scales(names, *, agreement):
    """Return by set the scale of its channels; sets of one kind agree so far with the others."""
    rng = np.random.default_rng(5)
    common = rng.normal(size=50)
    return {
        (name, kind): np.exp(agreement[kind] * common + rng.normal(size=50))
        for name in names
        for kind in TOKEN_KINDS
    }


def measure(norms, *, ids, permutations=4, weights=WEIGHTS):
    overlaps = overlap.compute_mask_overlaps(
        weights, norms, sparsity=0.5, permutations=permutations
    )
    return overlaps, compute_overlap_excess(overlaps, weights=weights, input_norms=norms, ids=ids)


def list_ids(*names, per_unit=2, units=8):
    return {name: [f"{name}{at}" for at in range(units * per_unit)] for name in names}


def test_readings_are_differences_and_a_ratio_of_what_the_table_shows():
    scales = make_scales("abc", agreement={"perceptual": 0.5, "textual": 2.0})
    norms = draw_norms(np.random.default_rng(1), scales=scales)
    overlaps, excess = measure(norms, ids=list_ids(*"abc"))
    beyond = overlap.tabulate_pair_overlaps(overlaps)["beyond permuted"]
    stated, attainable = beyond[overlap.SAME_DATASET], beyond[overlap.TWO_TEXTUAL]
    assert excess.perceptual_textual.value == pytest.approx(stated)
    assert excess.textual.value == pytest.approx(attainable)
    assert excess.share.value == pytest.approx(stated / attainable)
    assert excess.over_magnitude.value == pytest.approx(
        overlaps.summary["perceptual–textual"] - overlaps.summary[overlap.MAGNITUDE_NULL]
    )
    # Percepts agree with text less than texts do.
    assert 0.1 < excess.share.value < 0.9
    assert excess.perceptual_textual.n == 48


def test_intervals_hold_what_other_samples_would_give():
    scales = make_scales("ab", agreement={"perceptual": 1.0, "textual": 2.0})
    rng = np.random.default_rng(2)
    drawn = [
        measure(draw_norms(rng, scales=scales), ids=list_ids(*"ab"), permutations=8)[1]
        for _ in range(60)
    ]
    for name in ("perceptual_textual", "share"):
        intervals = [getattr(excess, name) for excess in drawn]
        truth = np.mean([one.value for one in intervals])
        assert np.mean([one.low <= truth <= one.high for one in intervals]) >= 0.88
        # They are not wide for nothing.
        widths = np.mean([one.high - one.low for one in intervals])
        assert widths < 8 * np.std([one.value for one in intervals])


def test_the_mean_over_permutations_is_at_least_as_sure_as_it_says():
    scales = make_scales("ab", agreement={"perceptual": 1.0, "textual": 2.0})
    norms = draw_norms(np.random.default_rng(3), scales=scales)
    values, errors = [], []
    for seed in range(24):
        overlaps = overlap.compute_mask_overlaps(
            WEIGHTS, norms, sparsity=0.5, permutations=6, seed=seed
        )
        given = {"weights": WEIGHTS, "input_norms": norms, "ids": list_ids(*"ab")}
        excess = compute_overlap_excess(overlaps, **given, seed=seed)
        values.append(excess.perceptual_textual.value)
        errors.append(excess.permutation_error)
    # A jackknife's error is not too small (Efron & Stein 1981), and not far too large.
    spread = np.std(values, ddof=1)
    assert 0.9 * spread < np.sqrt(np.mean(np.square(errors))) < 2 * spread


def test_the_order_of_data_sets_changes_nothing():
    scales = make_scales("abc", agreement={"perceptual": 0.5, "textual": 2.0})
    norms = draw_norms(np.random.default_rng(1), scales=scales)
    _, first = measure(norms, ids=list_ids(*"abc"))
    _, second = measure(dict(reversed(norms.items())), ids=list_ids(*"cba"))
    for name in ("perceptual_textual", "textual", "share", "over_magnitude"):
        ends = (
            [getattr(getattr(each, name), end) for end in ("value", "low", "high")]
            for each in (first, second)
        )
        np.testing.assert_allclose(*ends, atol=1e-10)


def test_data_sets_of_the_same_contents_lack_a_group_together():
    scales = make_scales("a", agreement={"perceptual": 0.5, "textual": 2.0})
    one = draw_norms(np.random.default_rng(4), scales=scales)
    norms = {(name, kind): one["a", kind] for name in ("caption", "qa") for kind in TOKEN_KINDS}
    ids = [f"{at}" for at in range(16)]
    _, both = measure(norms, ids={"caption": ids, "qa": ids})
    _, apart = measure(norms, ids={"caption": ids, "qa": [f"q{at}" for at in ids]})
    once, twice = both.over_magnitude, apart.over_magnitude
    assert (once.n, twice.n) == (16, 32)
    assert once.value == twice.value
    # Twice the same data say no more than once.
    assert once.high - once.low > 1.2 * (twice.high - twice.low)


def test_one_data_set_has_no_attainable_overlap():
    scales = make_scales("a", agreement={"perceptual": 1.0, "textual": 1.0})
    _, excess = measure(draw_norms(np.random.default_rng(5), scales=scales), ids=list_ids("a"))
    assert excess.textual is None
    assert excess.share is None
    assert "one data set" in excess.explain_missing_share()
    with pytest.raises(ParameterError, match="one data set"):
        excess.describe_share()


def test_a_ratio_to_nothing_is_not_formed():
    scales = make_scales("ab", agreement={"perceptual": 1.0, "textual": 0.0})
    _, excess = measure(draw_norms(np.random.default_rng(5), scales=scales), ids=list_ids(*"ab"))
    assert excess.textual.low <= 0
    assert excess.share is None
    assert "do not surely overlap beyond permuted activations" in excess.explain_missing_share()


def test_sentences_read_right_either_way():
    assert "0.700, more than the 0.600" in overlap_excess.describe_overlap(0.7, permuted=0.6)
    assert "0.600, and not more than the 0.700" in overlap_excess.describe_overlap(
        0.6, permuted=0.7
    )


def test_the_sentence_on_the_largest_weights_has_a_side_for_each_interval():
    one = Interval(0.06, 0.05, 0.07, n=80)
    for ends, words in (
        ((-0.02, -0.01), "overlap less with each other"),
        ((0.01, 0.02), "overlap more with each other"),
        ((-0.01, 0.01), "no difference is shown"),
    ):
        over = Interval(sum(ends) / 2, *ends, n=80)
        text = overlap_excess.OverlapExcess(one, None, None, over, 0.0).describe_over_magnitude()
        assert words in text
        assert str(over) in text
        assert ("does not contradict" in text) is (over.high < 0)


def test_a_large_model_is_compared_by_some_rows_and_says_the_same(monkeypatch):
    rng = np.random.default_rng(5)
    weights = {"q": rng.normal(size=(1, 800, 50)), "k": rng.normal(size=(1, 180, 50))}
    scales = make_scales("ab", agreement={"perceptual": 1.0, "textual": 2.0})
    norms = {
        key: dict.fromkeys(weights, own["q"]) for key, own in draw_norms(rng, scales=scales).items()
    }
    given = {"ids": list_ids(*"ab"), "weights": weights}
    whole_overlaps, whole = measure(norms, **given)
    monkeypatch.setattr(overlap, "COMPARED_WEIGHTS", sum(w.size for w in weights.values()) // 4)
    counted = []
    compute = overlap_excess.compute_wanda_masks
    monkeypatch.setattr(
        overlap_excess,
        "compute_wanda_masks",
        lambda own, *args, **more: counted.append(own["q"].shape[1]) or compute(own, *args, **more),
    )
    some_overlaps, some = measure(norms, **given)
    assert set(counted) == {200}
    # The overlaps are of all rows, the nulls of some.
    np.testing.assert_array_equal(some_overlaps.matrix, whole_overlaps.matrix)
    for name in ("perceptual_textual", "share"):
        all_rows, few_rows = getattr(whole, name), getattr(some, name)
        width = all_rows.high - all_rows.low
        assert few_rows.value == pytest.approx(all_rows.value, abs=0.3 * width)
        assert few_rows.high - few_rows.low == pytest.approx(width, rel=0.3)


def test_one_unit_of_samples_or_units_that_differ_are_refused():
    scales = make_scales("ab", agreement={"perceptual": 1.0, "textual": 2.0})
    norms = draw_norms(np.random.default_rng(1), scales=scales, units=1)
    with pytest.raises(ParameterError, match="at least two groups of samples; got 1"):
        measure(norms, ids=list_ids(*"ab"))
    norms = draw_norms(np.random.default_rng(1), scales=scales)
    norms["b", "textual"] = {"q": norms["b", "textual"]["q"][:4]}
    same = list_ids("a")["a"]
    with pytest.raises(ParameterError, match="must have the same units of samples"):
        measure(norms, ids={"a": same, "b": same})
