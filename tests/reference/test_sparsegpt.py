"""SparseGPT against the elimination that it abbreviates, in plain NumPy, and its guarantees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.errors import ParameterError
from ima.measures import subnetworks
from ima.models import load_model
from ima.models.linear_layers import get_linear_weights
from ima.pruning.sparsegpt import compute_sparsegpt_masks, solve_sparsegpt_layer
from ima.pruning.wanda import apply_masks


def draw_layer(rows=6, columns=12, tokens=40, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(columns, columns))
    inputs = rng.normal(size=(tokens, columns)) @ mixing
    return rng.normal(size=(rows, columns)), inputs


def eliminate(weight, inputs, *, sparsity, damping=0.01):
    """Prune column by column; invert the remaining moments for each column."""
    w = weight.copy()
    h = inputs.T @ inputs
    h += damping * np.diag(h).mean() * np.eye(len(h))
    left = [np.linalg.inv(h[i:, i:]) for i in range(len(h))]
    scores = w**2 / np.array([inverse[0, 0] for inverse in left])
    order = np.argsort(scores.ravel(), kind="stable")[: int(scores.size * sparsity)]
    kept = np.ones(scores.size, bool)
    kept[order] = False
    kept = kept.reshape(w.shape)
    for i, inverse in enumerate(left):
        error = np.where(kept[:, i], 0.0, w[:, i]) / inverse[0, 0]
        w[:, i:] -= error[:, None] * inverse[0]
    return np.where(kept, w, 0.0), kept


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("seed", [0, 1])
def test_blocks_of_all_columns_are_plain_elimination(sparsity, seed):
    weight, inputs = draw_layer(seed=seed)
    moments = torch.from_numpy(inputs.T @ inputs)
    updated, kept = solve_sparsegpt_layer(torch.from_numpy(weight), moments, sparsity=sparsity)
    expected, mask = eliminate(weight, inputs, sparsity=sparsity)
    assert (kept.numpy() == mask).all()
    np.testing.assert_allclose(updated.numpy(), expected, rtol=2e-3, atol=2e-3)
    assert (updated.numpy()[~mask] == 0).all()
    # A common factor of the inputs changes nothing.
    again, _ = solve_sparsegpt_layer(torch.from_numpy(weight), 9.0 * moments, sparsity=sparsity)
    torch.testing.assert_close(updated, again, rtol=1e-3, atol=1e-3)


def test_the_update_makes_up_for_what_is_removed():
    weight, inputs = draw_layer(rows=16, columns=32, tokens=200)
    for block_size in (8, 32):
        updated, kept = solve_sparsegpt_layer(
            torch.from_numpy(weight),
            torch.from_numpy(inputs.T @ inputs),
            sparsity=0.5,
            block_size=block_size,
        )
        share = 1 - kept.double().mean().item()
        assert share == pytest.approx(0.5)
        lost = np.linalg.norm(inputs @ (weight - updated.numpy()).T)
        cut = np.linalg.norm(inputs @ (weight - weight * kept.numpy()).T)
        wanda = subnetworks.compute_wanda_mask(weight, (inputs**2).sum(0), sparsity=0.5)
        assert lost < 0.8 * cut
        assert lost < np.linalg.norm(inputs @ (weight - weight * wanda).T)


def test_two_of_four_are_removed():
    weight, inputs = draw_layer(columns=16)
    moments = torch.from_numpy(inputs.T @ inputs)
    updated, kept = solve_sparsegpt_layer(
        torch.from_numpy(weight), moments, pattern=(2, 4), block_size=8
    )
    assert (kept.reshape(6, 4, 4).sum(-1) == 2).all()
    assert (updated[~kept] == 0).all()
    cut = np.linalg.norm(inputs @ (weight - weight * kept.numpy()).T)
    assert np.linalg.norm(inputs @ (weight - updated.numpy()).T) < cut


def test_an_input_that_never_fires_loses_its_weights():
    weight, inputs = draw_layer()
    inputs[:, 3] = 0.0
    updated, _ = solve_sparsegpt_layer(
        torch.from_numpy(weight), torch.from_numpy(inputs.T @ inputs), sparsity=0.25
    )
    assert not updated[:, 3].any()
    assert updated.isfinite().all()


def test_what_does_not_fit_is_refused():
    weight, inputs = draw_layer()
    moments = torch.from_numpy(inputs.T @ inputs)
    with pytest.raises(ParameterError, match=r"moments \(11, 11\) do not match"):
        solve_sparsegpt_layer(torch.from_numpy(weight), moments[:11, :11])
    with pytest.raises(ParameterError, match="sparsity must be at least 0 and below 1"):
        solve_sparsegpt_layer(torch.from_numpy(weight), moments, sparsity=1.0)


def test_a_model_is_pruned_block_after_block_and_put_back(tiny_zoo):
    model = load_model("llama-mini/vit/image-caption")
    before = get_linear_weights(model)
    samples = list(image_set(5))
    masks = compute_sparsegpt_masks(
        model, model.encode_batches(samples, batch_size=2), sparsity=0.5
    )
    assert all((get_linear_weights(model)[name] == weight).all() for name, weight in before.items())
    with apply_masks(model, masks):
        within = get_linear_weights(model)
    assert masks.sparsity == pytest.approx(0.5, abs=0.02)
    for name, kept in masks.kept.items():
        assert not within[name][~kept].any()
        assert np.abs(within[name] - before[name])[kept].max() > 1e-3
        assert (get_linear_weights(model)[name] == before[name]).all()
    # How samples are put together changes nothing.
    alone = compute_sparsegpt_masks(
        model, model.encode_batches(samples, batch_size=1), sparsity=0.5
    )
    agree = [(alone.kept[name] == kept).mean() for name, kept in masks.kept.items()]
    assert min(agree) > 0.99
