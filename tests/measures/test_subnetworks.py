"""Masks against the reference algorithm of Wanda."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from madestates import make_linear

from ima.errors import ParameterError
from ima.measures import overlap, subnetworks


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
        weight, squares = make_linear(seed)
        weight[0, 3:6] = 0.0
        squares[2] = 0.0
        got = subnetworks.compute_wanda_mask(weight, squares, sparsity=sparsity)
        np.testing.assert_array_equal(got, reference(weight, squares, sparsity))
        assert (got.sum(1) == 11 - int(11 * sparsity)).all()


def test_magnitude_ignores_inputs_and_permuted_inputs_keep_their_spread():
    weight, squares = make_linear(1)
    ones = subnetworks.compute_wanda_mask(weight, np.ones(11), sparsity=0.5)
    np.testing.assert_array_equal(subnetworks.compute_magnitude_mask(weight, sparsity=0.5), ones)
    order = np.random.default_rng(3).permuted(np.arange(11))
    given = {"sparsity": 0.5, "rng": np.random.default_rng(3)}
    got = subnetworks.permute_wanda_masks({"q": weight}, {"q": squares}, **given)["q"]
    expected = subnetworks.compute_wanda_mask(weight, squares[order], sparsity=0.5)
    np.testing.assert_array_equal(got, expected)


def test_masks_of_a_model_are_those_of_its_layers():
    weights, squares = {}, {}
    for name, (rows, columns) in {"q": (4, 6), "down": (3, 8)}.items():
        layers = [make_linear(seed, rows=rows, columns=columns) for seed in range(5)]
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
    found = overlap.compute_layer_iou(masks, other)
    expected = overlap.compute_iou(masks["q"][3], other["q"][3])
    assert found.sel(linear="q", layer=4) == expected
    whole = overlap.compute_iou(subnetworks.flatten_masks(masks), subnetworks.flatten_masks(other))
    assert whole == pytest.approx(
        overlap.compute_pairwise_iou(
            [subnetworks.flatten_masks(masks), subnetworks.flatten_masks(other)]
        )[0, 1]
    )


def test_what_cannot_be_masked_is_refused():
    weight, squares = make_linear(0)
    with pytest.raises(ParameterError, match="below 1"):
        subnetworks.compute_wanda_mask(weight, squares, sparsity=1.0)
    with pytest.raises(ParameterError, match="do not fit"):
        subnetworks.compute_wanda_mask(weight, squares[:4], sparsity=0.5)
    with pytest.raises(ParameterError, match="finite"):
        subnetworks.compute_wanda_mask(weight, squares * np.nan, sparsity=0.5)
    with pytest.raises(ParameterError, match="one shape"):
        overlap.compute_iou(weight > 0, weight[:2] > 0)
    with pytest.raises(ParameterError, match="nothing"):
        overlap.compute_iou(weight > 99, weight > 99)


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
    with pytest.raises(ParameterError, match="Cannot keep 2 of every 3 in rows of 8"):
        subnetworks.compute_nm_sparsity_mask(scores, kept=2, group=3)
