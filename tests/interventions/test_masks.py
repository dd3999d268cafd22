"""Masks of a model's weights: made from caches, stored, applied, found block after block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from tinysamples import image_set

from ima.capture import capture_activations, compute_batch_statistics
from ima.capture.writer import create_cache
from ima.errors import CacheError, ParameterError, UnknownNameError
from ima.measures import subnetworks
from ima.models import load_model
from ima.models.frozen import FrozenModel
from ima.models.linear_layers import get_linear_weights
from ima.pruning.masks import Masks, compute_masks_from_cache, open_masks
from ima.pruning.wanda import apply_masks, compute_sequential_masks


@pytest.fixture(scope="module")
def model(tiny_zoo: Path) -> FrozenModel:
    return load_model("llama-mini/vit/image-caption")


@pytest.fixture(scope="module")
def cache(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masks") / "inputs.zarr"
    create_cache(
        model, dataset=image_set(6), path=path, samples=6, unit=2, taps=["ln1"], inputs=True
    )
    return path


def weights(model: FrozenModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.language.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kinds", [("perceptual",), ("textual",), ("perceptual", "textual")])
def test_masks_from_a_cache_are_wanda_on_its_tokens(
    model: FrozenModel, cache: Path, kinds: tuple[str, ...]
) -> None:
    masks = compute_masks_from_cache(model, cache, sparsity=0.5, kinds=kinds)
    batch = model.encode(image_set(6))
    states = capture_activations(model, batch, taps=["ln2"])["ln2"]
    chosen = batch.modality >= 0
    if len(kinds) == 1:
        chosen = batch.modality > 0 if kinds[0] == "perceptual" else batch.modality == 0
    for layer, state in states.items():
        squares = state[chosen].double().square().sum(0).numpy()
        weight = get_linear_weights(model)["mlp.up_proj"][layer - 1]
        expected = subnetworks.compute_wanda_mask(weight, squares, sparsity=0.5)
        agree = (masks.kept["mlp.up_proj"][layer - 1] == expected).mean()
        # The last bits of a sum can swap two equal scores.
        assert agree > 0.999
    assert masks.sparsity == pytest.approx(0.5, abs=0.02)
    assert masks.attributes["kinds"] == list(kinds)
    assert masks.attributes["samples"] == 6


def test_neither_batches_nor_padding_move_a_mask(model: FrozenModel, tmp_path: Path) -> None:
    found = []
    for size in (1, 4):
        path = tmp_path / f"{size}.zarr"
        create_cache(
            model, dataset=image_set(6), path=path, samples=6, batch_size=size, taps=["ln1"],
            inputs=True,
        )  # fmt: skip
        found.append(compute_masks_from_cache(model, path, sparsity=0.5))
    for name, mask in found[0].kept.items():
        assert (mask == found[1].kept[name]).mean() > 0.999


def test_stored_masks_are_the_masks_and_plain_xarray_reads_them(
    model: FrozenModel, cache: Path, tmp_path: Path
) -> None:
    masks = compute_masks_from_cache(model, cache, sparsity=0.3)
    path = masks.save(tmp_path / "a.masks.zarr")
    again = open_masks(path)
    assert again.attributes == masks.attributes
    for name, mask in masks.kept.items():
        np.testing.assert_array_equal(again.kept[name], mask)
    plain = xr.open_zarr(path, consolidated=False)
    packed = plain["mlp.down_proj"]
    bits = np.unpackbits(packed.to_numpy(), axis=-1, count=packed.attrs["in_features"])
    np.testing.assert_array_equal(bits.astype(bool), masks.kept["mlp.down_proj"])
    assert packed.nbytes * 8 >= masks.kept["mlp.down_proj"].size > packed.nbytes * 7
    with pytest.raises(CacheError, match="No masks"):
        open_masks(tmp_path / "b")


def test_a_masked_model_runs_without_those_weights_and_is_whole_afterwards(
    model: FrozenModel, cache: Path
) -> None:
    masks, before = compute_masks_from_cache(model, cache, sparsity=0.7), weights(model)
    batch = model.encode(image_set(2))
    whole = model.forward(batch, logits=True)
    with apply_masks(model, masks):
        pruned = model.forward(batch, logits=True)
        for name, layers in get_linear_weights(model).items():
            assert (layers[~masks.kept[name]] == 0).all()
    assert same(before, weights(model))
    assert not torch.allclose(whole, pruned)
    assert torch.equal(whole, model.forward(batch, logits=True))
    with pytest.raises(ZeroDivisionError), apply_masks(model, masks):
        model.layers / 0
    assert same(before, weights(model))


def test_keeping_everything_changes_nothing(model: FrozenModel, cache: Path) -> None:
    batch = model.encode(image_set(2))
    whole = model.forward(batch, logits=True)
    with apply_masks(model, compute_masks_from_cache(model, cache, sparsity=0.0)):
        assert torch.equal(whole, model.forward(batch, logits=True))


def test_sequential_masks_see_what_pruned_blocks_feed_them(model: FrozenModel, cache: Path) -> None:
    before = weights(model)
    found = compute_sequential_masks(model, list(image_set(6)), sparsity=0.5, batch_size=4)
    assert same(before, weights(model))
    at_once = compute_masks_from_cache(model, cache, sparsity=0.5)
    differing = False
    # Block after block by hand: prune all blocks below, run, look at the inputs of this one.
    for at in range(model.layers):
        below = {
            name: np.concatenate([mask[:at], np.ones_like(mask[at:])])
            for name, mask in found.kept.items()
        }
        with apply_masks(model, Masks(below)):
            squares = compute_batch_statistics(
                model, model.encode(image_set(6)), taps=["ln1"], inputs=True
            ).squares
        for name, layers in get_linear_weights(model).items():
            total = squares[name].sum(0)[at]
            expected = subnetworks.compute_wanda_mask(layers[at], total, sparsity=0.5)
            assert (found.kept[name][at] == expected).mean() > 0.999
            differing |= not np.array_equal(expected, at_once.kept[name][at])
            if at == 0:
                assert (found.kept[name][0] == at_once.kept[name][0]).mean() > 0.999
    assert differing
    assert found.attributes["sequential"]


def test_masks_of_another_model_and_caches_without_inputs_are_refused(
    model: FrozenModel, cache: Path, tmp_path: Path
) -> None:
    foreign = Masks({"mlp.up_proj": np.ones((model.layers, 3, 4), dtype=bool)})
    with pytest.raises(ParameterError, match="not of"), apply_masks(model, foreign):
        pass
    with (
        pytest.raises(ParameterError, match="not of"),
        apply_masks(model, Masks({"x": np.ones(3)})),
    ):
        pass
    plain = tmp_path / "plain.zarr"
    create_cache(model, dataset=image_set(4), path=plain, samples=4, taps=["ln1"])
    with pytest.raises(CacheError, match="--inputs"):
        compute_masks_from_cache(model, plain, sparsity=0.5)
    with pytest.raises(UnknownNameError, match="textual"):
        compute_masks_from_cache(model, cache, sparsity=0.5, kinds=["text"])
