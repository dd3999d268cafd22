"""Models that run with masks, and masks that are computed block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.capture import compute_batch_statistics
from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures import subnetworks
from ima.measures.overlap import compute_iou
from ima.models.frozen import FrozenModel
from ima.models.linear_layers import get_linear_weights
from ima.pruning import wanda
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


def test_variants_are_compared_by_the_masks_of_each_kind_of_token(
    model: FrozenModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, before = list(image_set(20)), copy_weights(model)
    monkeypatch.setattr(wanda, "open_calibration_samples", lambda *_, n: samples[:n])
    found = wanda.compare_wanda_variants(model, cache, sparsity=0.5, samples=20)
    assert same(before, copy_weights(model))
    one_pass, by_block = {}, {}
    batches = model.encode_batches(samples)
    assert len(batches) == 2
    for kind, name in enumerate(TOKEN_KINDS):
        norms = [
            compute_batch_statistics(model, batch, hook_points=["ln1"], input_norms=True)
            for batch in batches
        ]
        squares = {
            linear: sum(each.input_norms[linear][kind].astype(np.float64) for each in norms)
            for linear in get_linear_weights(model)
        }
        one_pass[name] = subnetworks.flatten_masks(
            subnetworks.compute_wanda_masks(get_linear_weights(model), squares, sparsity=0.5)
        )
        masks = compute_sequential_masks(model, samples, sparsity=0.5, kinds=[name])
        by_block[name] = subnetworks.flatten_masks(masks.kept)
    assert found == {
        "one pass": compute_iou(one_pass["perceptual"], one_pass["textual"]),
        "block after block": compute_iou(by_block["perceptual"], by_block["textual"]),
        "both forms, perceptual": compute_iou(one_pass["perceptual"], by_block["perceptual"]),
        "both forms, textual": compute_iou(one_pass["textual"], by_block["textual"]),
    }
    assert len(set(found.values())) > 1


def test_masks_of_another_model_are_refused(model: FrozenModel) -> None:
    small = Masks({"mlp.up_proj": np.ones((model.layers, 3, 4), dtype=bool)})
    for foreign in (small, Masks({"x": np.ones(3, dtype=bool)})):
        with pytest.raises(ParameterError, match="do not belong to"), apply_masks(model, foreign):
            pass
