"""Overlaps of masks against scikit-learn, and the nulls beside them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from ima.measures import overlap, subnetworks


def layer(seed, *, rows=6, columns=11):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)), rng.gamma(0.3, size=columns) * 50


def test_overlap_is_scikit_learns_jaccard():
    rng = np.random.default_rng(2)
    masks = [rng.random((7, 9)) < share for share in (0.3, 0.6, 0.9)]
    matrix = overlap.compute_pairwise_iou(masks)
    for i, a in enumerate(masks):
        for j, b in enumerate(masks):
            expected = jaccard_score(a.ravel(), b.ravel())
            assert overlap.compute_iou(a, b) == pytest.approx(expected)
            assert matrix[i, j] == pytest.approx(expected)
    np.testing.assert_array_equal(
        subnetworks.intersect_masks(masks), masks[0] & masks[1] & masks[2]
    )


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
def test_independent_masks_overlap_by_chance(sparsity):
    rng = np.random.default_rng(4)
    a, b = (
        subnetworks.mask_smallest_per_row(rng.random((400, 500)), sparsity=sparsity)
        for _ in range(2)
    )
    assert overlap.compute_iou(a, b) == pytest.approx(
        overlap.compute_chance_iou(sparsity), abs=0.01
    )


def test_shared_weights_alone_give_more_than_chance():
    # paper.md: independent activations under one |W| give about 0.63 at one half.
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(300, 400))
    a, b = (
        subnetworks.compute_wanda_mask(
            weight, rng.lognormal(sigma=0.6, size=400) ** 2, sparsity=0.5
        )
        for _ in range(2)
    )
    assert overlap.compute_iou(a, b) > overlap.compute_chance_iou(0.5) + 0.1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.5, 0.7]), st.floats(1e-3, 1e3))
def test_overlap_is_symmetric_one_on_itself_and_blind_to_the_number_of_tokens(seed, sparsity, k):
    weight, squares = layer(seed)
    other = layer(seed + 1)[1]
    a = subnetworks.compute_wanda_mask(weight, squares, sparsity=sparsity)
    b = subnetworks.compute_wanda_mask(weight, other, sparsity=sparsity)
    assert overlap.compute_iou(a, b) == overlap.compute_iou(b, a)
    assert overlap.compute_iou(a, a) == 1
    np.testing.assert_array_equal(
        a, subnetworks.compute_wanda_mask(weight, squares * k, sparsity=sparsity)
    )


def test_data_sets_of_the_same_contents_are_drawn_together():
    rng = np.random.default_rng(9)
    weights = {"q": rng.normal(size=(2, 40, 60)).astype(np.float32)}
    shared = {kind: {"q": rng.gamma(0.5, size=(6, 2, 60))} for kind in ("perceptual", "textual")}
    input_norms = {(name, kind): shared[kind] for kind in shared for name in ("caption", "qa")}
    ids = [f"{i}" for i in range(12)]
    given = {"sparsity": 0.5, "resamples": 200, "seed": 1}
    both = overlap.compute_overlap_excess(
        weights, input_norms, ids={"caption": ids, "qa": ids}, **given
    )
    apart = overlap.compute_overlap_excess(
        weights, input_norms, ids={"caption": ids, "qa": [f"q{i}" for i in ids]}, **given
    )
    for null in (overlap.PERMUTED_NULL, overlap.MAGNITUDE_NULL):
        once, twice = both[null], apart[null]
        assert (once.n, twice.n) == (12, 24)
        assert once.value == twice.value
        # Twice the same data say no more than once.
        assert once.high - once.low > twice.high - twice.low


def test_nulls_of_an_overlap_are_those_of_their_masks():
    rng = np.random.default_rng(3)
    weights = {"q": rng.normal(size=(2, 30, 40)).astype(np.float32)}
    input_norms = {
        ("a", kind): {"q": rng.gamma(0.5, size=(5, 2, 40))} for kind in ("perceptual", "textual")
    }
    overlaps = overlap.compute_mask_overlaps(weights, input_norms, sparsity=0.5)
    size = subnetworks.compute_magnitude_masks(weights, sparsity=0.5)
    own = {
        kind: subnetworks.compute_wanda_masks(
            weights, {"q": input_norms["a", kind]["q"].sum(0)}, sparsity=0.5
        )
        for kind in ("perceptual", "textual")
    }
    expected = [
        np.mean([overlap.compute_iou(size["q"][at], masks["q"][at]) for masks in own.values()])
        for at in range(2)
    ]
    np.testing.assert_allclose(overlaps.nulls[overlap.MAGNITUDE_NULL].sel(linear="q"), expected)
    assert overlaps.summary[overlap.MAGNITUDE_NULL] == pytest.approx(np.mean(expected), abs=0.01)
    # Each layer keeps as many weights, but an overlap of all is no mean of overlaps.
    permuted = overlaps.nulls[overlap.PERMUTED_NULL]
    assert float(permuted.mean()) == pytest.approx(
        overlaps.summary[overlap.PERMUTED_NULL], abs=0.01
    )
    excess = overlap.compute_overlap_excess(
        weights, input_norms, sparsity=0.5, ids={"a": list("vwxyz")}, resamples=3
    )
    for null, interval in excess.items():
        gap = overlaps.summary["perceptual–textual"] - overlaps.summary[null]
        assert interval.value == pytest.approx(gap)
        assert interval.n == 5


def test_resamples_of_a_large_model_compare_some_rows_and_say_the_same(monkeypatch):
    rng = np.random.default_rng(5)
    weights = {"q": rng.normal(size=(2, 400, 60)), "k": rng.normal(size=(2, 90, 60))}
    input_norms = {
        ("a", kind): {name: rng.gamma(0.5, size=(12, 2, 60)) for name in weights}
        for kind in ("perceptual", "textual")
    }
    given = {"sparsity": 0.5, "ids": {"a": [str(i) for i in range(12)]}, "resamples": 60}
    whole = overlap.compute_overlap_excess(weights, input_norms, **given)
    monkeypatch.setattr(overlap, "RESAMPLED_WEIGHTS", sum(w.size for w in weights.values()) // 4)
    counted = []
    compute = overlap.compute_wanda_masks
    monkeypatch.setattr(
        overlap,
        "compute_wanda_masks",
        lambda own, *args, **more: counted.append(own["q"].shape[1]) or compute(own, *args, **more),
    )
    some = overlap.compute_overlap_excess(weights, input_norms, **given)
    assert set(counted[2:]) == {100}
    for null, interval in whole.items():
        assert some[null].value == interval.value
        width = interval.high - interval.low
        assert some[null].high - some[null].low == pytest.approx(width, rel=0.2)
        assert some[null].low == pytest.approx(interval.low, abs=0.2 * width)
