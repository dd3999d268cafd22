"""Wanda's masks and overlaps against the reference algorithm and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from ima.errors import ParameterError
from ima.measures import overlap, subnetworks


def layer(seed, *, rows=6, columns=11):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)), rng.gamma(0.3, size=columns) * 50


def reference(weight, squares, sparsity):
    """Wanda as its authors wrote it: torch.sort, stable, row by row."""
    scores = torch.from_numpy(np.abs(weight)) * torch.sqrt(torch.from_numpy(squares)).reshape(1, -1)
    removed = torch.zeros(scores.shape, dtype=torch.bool)
    order = torch.sort(scores, dim=-1, stable=True)[1]
    removed.scatter_(1, order[:, : int(scores.shape[1] * sparsity)], True)
    return ~removed.numpy()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.7])
def test_masks_are_the_reference_codes(sparsity):
    for seed in range(5):
        weight, squares = layer(seed)
        weight[0, 3:6] = 0.0
        squares[2] = 0.0
        got = subnetworks.compute_wanda_mask(weight, squares, sparsity=sparsity)
        np.testing.assert_array_equal(got, reference(weight, squares, sparsity))
        assert (got.sum(1) == 11 - int(11 * sparsity)).all()


def test_magnitude_ignores_inputs_and_permuted_inputs_keep_their_spread():
    weight, squares = layer(1)
    ones = subnetworks.compute_wanda_mask(weight, np.ones(11), sparsity=0.5)
    np.testing.assert_array_equal(subnetworks.compute_magnitude_mask(weight, sparsity=0.5), ones)
    order = np.random.default_rng(3).permuted(np.arange(11))
    got = subnetworks.compute_permuted_wanda_mask(
        weight, squares, sparsity=0.5, rng=np.random.default_rng(3)
    )
    np.testing.assert_array_equal(
        got, subnetworks.compute_wanda_mask(weight, squares[order], sparsity=0.5)
    )


def test_overlap_is_scikit_learns_jaccard():
    rng = np.random.default_rng(2)
    masks = [rng.random((7, 9)) < share for share in (0.3, 0.6, 0.9)]
    matrix = subnetworks.compute_pairwise_iou(masks)
    for i, a in enumerate(masks):
        for j, b in enumerate(masks):
            expected = jaccard_score(a.ravel(), b.ravel())
            assert subnetworks.compute_iou(a, b) == pytest.approx(expected)
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
    assert subnetworks.compute_iou(a, b) == pytest.approx(
        subnetworks.compute_chance_iou(sparsity), abs=0.01
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
    assert subnetworks.compute_iou(a, b) > subnetworks.compute_chance_iou(0.5) + 0.1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.5, 0.7]), st.floats(1e-3, 1e3))
def test_overlap_is_symmetric_one_on_itself_and_blind_to_the_number_of_tokens(seed, sparsity, k):
    weight, squares = layer(seed)
    other = layer(seed + 1)[1]
    a = subnetworks.compute_wanda_mask(weight, squares, sparsity=sparsity)
    b = subnetworks.compute_wanda_mask(weight, other, sparsity=sparsity)
    assert subnetworks.compute_iou(a, b) == subnetworks.compute_iou(b, a)
    assert subnetworks.compute_iou(a, a) == 1
    np.testing.assert_array_equal(
        a, subnetworks.compute_wanda_mask(weight, squares * k, sparsity=sparsity)
    )


def test_masks_of_a_model_are_those_of_its_layers():
    weights, squares = {}, {}
    for name, (rows, columns) in {"q": (4, 6), "down": (3, 8)}.items():
        layers = [layer(seed, rows=rows, columns=columns) for seed in range(5)]
        weights[name] = np.stack([weight for weight, _ in layers])
        squares[name] = np.stack([total for _, total in layers])
    masks = subnetworks.compute_wanda_masks(weights, squares, sparsity=0.5)
    other = subnetworks.compute_wanda_masks(
        weights, {k: v[::-1] for k, v in squares.items()}, sparsity=0.5
    )
    for name, mask in masks.items():
        for at in range(5):
            expected = reference(weights[name][at], squares[name][at], 0.5)
            np.testing.assert_array_equal(mask[at], expected)
    found = subnetworks.compute_layer_iou(masks, other)
    expected = subnetworks.compute_iou(masks["q"][3], other["q"][3])
    assert found.sel(linear="q", layer=4) == expected
    whole = subnetworks.compute_iou(
        subnetworks.flatten_masks(masks), subnetworks.flatten_masks(other)
    )
    assert whole == pytest.approx(
        subnetworks.compute_pairwise_iou(
            [subnetworks.flatten_masks(masks), subnetworks.flatten_masks(other)]
        )[0, 1]
    )


def test_data_sets_of_the_same_contents_are_drawn_together():
    rng = np.random.default_rng(9)
    weights = {"q": rng.normal(size=(2, 40, 60)).astype(np.float32)}
    shared = {kind: {"q": rng.gamma(0.5, size=(6, 2, 60))} for kind in ("perceptual", "textual")}
    units = {(name, kind): shared[kind] for kind in shared for name in ("caption", "qa")}
    ids = [f"{i}" for i in range(12)]
    given = {"sparsity": 0.5, "resamples": 30, "seed": 1}
    both = overlap.compute_overlap_excess(weights, units, ids={"caption": ids, "qa": ids}, **given)
    apart = overlap.compute_overlap_excess(
        weights, units, ids={"caption": ids, "qa": [f"q{i}" for i in ids]}, **given
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
    units = {
        ("a", kind): {"q": rng.gamma(0.5, size=(5, 2, 40))} for kind in ("perceptual", "textual")
    }
    found = overlap.compute_mask_overlaps(weights, units, sparsity=0.5)
    size = subnetworks.compute_magnitude_masks(weights, sparsity=0.5)
    own = {
        kind: subnetworks.compute_wanda_masks(
            weights, {"q": units["a", kind]["q"].sum(0)}, sparsity=0.5
        )
        for kind in ("perceptual", "textual")
    }
    expected = [
        np.mean([subnetworks.compute_iou(size["q"][at], masks["q"][at]) for masks in own.values()])
        for at in range(2)
    ]
    np.testing.assert_allclose(found.nulls[overlap.MAGNITUDE_NULL].sel(linear="q"), expected)
    assert found.summary[overlap.MAGNITUDE_NULL] == pytest.approx(np.mean(expected), abs=0.01)
    # Each layer keeps as many weights, but an overlap of all is no mean of overlaps.
    permuted = found.nulls[overlap.PERMUTED_NULL]
    assert float(permuted.mean()) == pytest.approx(found.summary[overlap.PERMUTED_NULL], abs=0.01)
    excess = overlap.compute_overlap_excess(
        weights, units, sparsity=0.5, ids={"a": list("vwxyz")}, resamples=3
    )
    for null, interval in excess.items():
        gap = found.summary["perceptual–textual"] - found.summary[null]
        assert interval.value == pytest.approx(gap)
        assert interval.n == 5


def test_what_cannot_be_masked_is_refused():
    weight, squares = layer(0)
    with pytest.raises(ParameterError, match="below 1"):
        subnetworks.compute_wanda_mask(weight, squares, sparsity=1.0)
    with pytest.raises(ParameterError, match="do not fit"):
        subnetworks.compute_wanda_mask(weight, squares[:4], sparsity=0.5)
    with pytest.raises(ParameterError, match="finite"):
        subnetworks.compute_wanda_mask(weight, squares * np.nan, sparsity=0.5)
    with pytest.raises(ParameterError, match="one shape"):
        subnetworks.compute_iou(weight > 0, weight[:2] > 0)
    with pytest.raises(ParameterError, match="nothing"):
        subnetworks.compute_iou(weight > 99, weight > 99)


def test_the_largest_of_all_layers_together():
    rng = np.random.default_rng(3)
    weights = {"a": rng.normal(size=(2, 3, 4)), "b": 10 * rng.normal(size=(2, 5, 4))}
    kept = subnetworks.compute_global_magnitude_masks(weights, sparsity=0.4)
    sizes = np.concatenate([np.abs(weights["a"]).ravel(), np.abs(weights["b"]).ravel()])
    border = np.sort(sizes)[int(0.4 * len(sizes))]
    for name, weight in weights.items():
        assert (kept[name] == (np.abs(weight) >= border)).all()
    assert kept["a"].mean() < kept["b"].mean()


def test_the_best_of_each_group_are_kept():
    scores = np.random.default_rng(4).random((3, 5, 8))
    mask = subnetworks.compute_nm_sparsity_mask(scores, kept=2, group=4)
    for row, kept in zip(scores.reshape(-1, 4), mask.reshape(-1, 4), strict=True):
        assert set(np.flatnonzero(kept)) == set(np.argsort(row)[2:])
    with pytest.raises(ParameterError, match="2 of every 3 cannot be kept of rows of 8"):
        subnetworks.compute_nm_sparsity_mask(scores, kept=2, group=3)
