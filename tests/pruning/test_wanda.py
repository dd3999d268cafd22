"""Models that run with masks, and masks that are computed block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.capture import compute_batch_statistics
from ima.errors import ParameterError
from ima.measures import subnetworks
from ima.models.frozen import FrozenModel
from ima.models.linear_layers import get_linear_weights
from ima.pruning.masks import Masks, compute_masks_from_cache
from ima.pruning.wanda import apply_masks, compute_sequential_masks


def copy_weights(model: FrozenModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.language.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_masked_model_runs_without_those_weights_and_is_whole_afterwards(
    model: FrozenModel, cache: Path
) -> None:
    masks, before = compute_masks_from_cache(model, cache, sparsity=0.7), copy_weights(model)
    batch = model.encode(image_set(2))
    whole = model.forward(batch, logits=True)
    with apply_masks(model, masks):
        pruned = model.forward(batch, logits=True)
        for name, layers in get_linear_weights(model).items():
            assert (layers[~masks.kept[name]] == 0).all()
    assert same(before, copy_weights(model))
    assert not torch.allclose(whole, pruned)
    assert torch.equal(whole, model.forward(batch, logits=True))
    with pytest.raises(ZeroDivisionError), apply_masks(model, masks):
        model.layers / 0
    assert same(before, copy_weights(model))


def test_keeping_everything_changes_nothing(model: FrozenModel, cache: Path) -> None:
    batch = model.encode(image_set(2))
    whole = model.forward(batch, logits=True)
    with apply_masks(model, compute_masks_from_cache(model, cache, sparsity=0.0)):
        assert torch.equal(whole, model.forward(batch, logits=True))


def test_sequential_masks_see_what_pruned_blocks_pass_on(model: FrozenModel, cache: Path) -> None:
    before = copy_weights(model)
    masks = compute_sequential_masks(model, list(image_set(6)), sparsity=0.5, batch_size=4)
    assert same(before, copy_weights(model))
    one_pass = compute_masks_from_cache(model, cache, sparsity=0.5)
    differing = False
    # By hand: prune all earlier blocks, run, and read the inputs of this block.
    for index in range(model.layers):
        earlier = {
            name: np.concatenate([kept[:index], np.ones_like(kept[index:])])
            for name, kept in masks.kept.items()
        }
        with apply_masks(model, Masks(earlier)):
            norms = compute_batch_statistics(
                model, model.encode(image_set(6)), hook_points=["ln1"], input_norms=True
            ).input_norms
        for name, layers in get_linear_weights(model).items():
            expected = subnetworks.compute_wanda_mask(
                layers[index], norms[name].sum(0)[index], sparsity=0.5
            )
            assert (masks.kept[name][index] == expected).mean() > 0.999
            differing |= not np.array_equal(expected, one_pass.kept[name][index])
            if index == 0:
                assert (masks.kept[name][0] == one_pass.kept[name][0]).mean() > 0.999
    assert differing
    assert masks.attributes["sequential"]


def test_masks_of_another_model_are_refused(model: FrozenModel) -> None:
    small = Masks({"mlp.up_proj": np.ones((model.layers, 3, 4), dtype=bool)})
    for foreign in (small, Masks({"x": np.ones(3, dtype=bool)})):
        with pytest.raises(ParameterError, match="do not belong to"), apply_masks(model, foreign):
            pass
