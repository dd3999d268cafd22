"""Overlaps of masks against scikit-learn, and the nulls beside them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from madestates import make_linear
from sklearn.metrics import jaccard_score

from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures import overlap, subnetworks


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
    weight, squares = make_linear(seed)
    other = make_linear(seed + 1)[1]
    a = subnetworks.compute_wanda_mask(weight, squares, sparsity=sparsity)
    b = subnetworks.compute_wanda_mask(weight, other, sparsity=sparsity)
    assert overlap.compute_iou(a, b) == overlap.compute_iou(b, a)
    assert overlap.compute_iou(a, a) == 1
    np.testing.assert_array_equal(
        a, subnetworks.compute_wanda_mask(weight, squares * k, sparsity=sparsity)
    )


def make_norms(rng, names, *, units=6, columns=40):
    """Draw the sums of squares of both kinds of each data set."""
    return {
        (name, kind): {"q": rng.gamma(0.5, size=(units, 2, columns))}
        for name in names
        for kind in TOKEN_KINDS
    }


def test_nulls_of_an_overlap_are_those_of_their_masks():
    rng = np.random.default_rng(3)
    weights = {"q": rng.normal(size=(2, 30, 40)).astype(np.float32)}
    input_norms = make_norms(rng, "a")
    overlaps = overlap.compute_mask_overlaps(weights, input_norms, sparsity=0.5)
    size = subnetworks.compute_magnitude_masks(weights, sparsity=0.5)
    own = {
        kind: subnetworks.compute_wanda_masks(
            weights, {"q": input_norms["a", kind]["q"].sum(0)}, sparsity=0.5
        )
        for kind in TOKEN_KINDS
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
        overlaps.summary[overlap.PERMUTED_NULL], abs=0.02
    )


def test_the_permuted_null_is_the_mean_over_orders_of_both_sets():
    rng = np.random.default_rng(6)
    weights = {"q": rng.normal(size=(1, 50, 60))}
    input_norms = make_norms(rng, "a", columns=60)
    input_norms = {key: {"q": own["q"][:, :1]} for key, own in input_norms.items()}
    overlaps = overlap.compute_mask_overlaps(weights, input_norms, sparsity=0.5, permutations=20)
    squares = [input_norms["a", kind]["q"].sum(axis=0)[0] for kind in TOKEN_KINDS]
    expected = []
    for _ in range(200):
        masks = [
            subnetworks.compute_wanda_mask(weights["q"][0], rng.permutation(own), sparsity=0.5)
            for own in squares
        ]
        expected.append(jaccard_score(*(mask.ravel() for mask in masks)))
    error = np.std(expected) / np.sqrt(200)
    assert overlaps.summary[overlap.PERMUTED_NULL] == pytest.approx(
        np.mean(expected), abs=4 * error
    )
    # Every permutation of the one set meets every one of the other.
    pairs = overlaps.permuted[0, :, 1]
    assert pairs.shape == (20, 20)
    assert len(np.unique(pairs)) > 40
    assert np.isnan(overlaps.permuted[0, :, 0]).all()


def test_overlaps_do_not_depend_on_the_order_of_data_sets():
    rng = np.random.default_rng(8)
    weights = {"q": rng.normal(size=(2, 30, 40))}
    input_norms = make_norms(rng, ("caption", "qa", "speech"))
    turned = dict(reversed(input_norms.items()))
    first, second = (
        overlap.compute_mask_overlaps(weights, norms, sparsity=0.5, permutations=3)
        for norms in (input_norms, turned)
    )
    assert first.summary == pytest.approx(second.summary, abs=1e-12)
    tables = [overlap.tabulate_pair_overlaps(each) for each in (first, second)]
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-12)
    # Another seed permutes otherwise.
    other = overlap.compute_mask_overlaps(
        weights, input_norms, sparsity=0.5, permutations=3, seed=1
    )
    key = overlap.PERMUTED_NULL
    assert abs(other.summary[key] - first.summary[key]) > 1e-6


def test_pairs_of_token_sets_are_told_apart():
    rng = np.random.default_rng(9)
    weights = {"q": rng.normal(size=(2, 30, 40))}
    overlaps = overlap.compute_mask_overlaps(weights, make_norms(rng, "abc"), sparsity=0.5)
    table = overlap.tabulate_pair_overlaps(overlaps)
    assert table["pairs"].to_dict() == {
        overlap.SAME_DATASET: 3,
        overlap.OTHER_DATASET: 6,
        overlap.TWO_PERCEPTUAL: 3,
        overlap.TWO_TEXTUAL: 3,
    }
    texts = [overlaps.kept[name, "textual"] for name in "abc"]
    expected = np.mean([jaccard_score(texts[i], texts[j]) for i, j in ((0, 1), (0, 2), (1, 2))])
    assert table.loc[overlap.TWO_TEXTUAL, "overlap"] == pytest.approx(expected)
    same = [jaccard_score(*(overlaps.kept[name, kind] for kind in TOKEN_KINDS)) for name in "abc"]
    assert table.loc[overlap.SAME_DATASET, "overlap"] == pytest.approx(np.mean(same))


def test_one_permutation_is_refused():
    rng = np.random.default_rng(9)
    weights = {"q": rng.normal(size=(2, 30, 40))}
    with pytest.raises(ParameterError, match="at least 2 of them; got 1"):
        overlap.compute_mask_overlaps(weights, make_norms(rng, "a"), sparsity=0.5, permutations=1)
