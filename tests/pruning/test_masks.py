"""Masks of a model's weights: made from caches, and stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tinysamples import image_set

from ima.capture import capture_activations
from ima.capture.writer import create_cache
from ima.errors import CacheCorruptError, CacheError, ParameterError, UnknownNameError
from ima.measures import subnetworks
from ima.models import load_model
from ima.models.frozen import FrozenModel
from ima.models.linear_layers import get_linear_weights
from ima.pruning.masks import compute_masks_from_cache, open_masks, sum_input_norms


@pytest.mark.parametrize("kinds", [("perceptual",), ("textual",), ("perceptual", "textual")])
def test_masks_from_a_cache_are_wanda_on_its_tokens(
    model: FrozenModel, cache: Path, kinds: tuple[str, ...]
) -> None:
    masks = compute_masks_from_cache(model, cache, sparsity=0.5, kinds=kinds)
    batch = model.encode(image_set(6))
    states = capture_activations(model, batch, hook_points=["ln2"])["ln2"]
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
    masks = []
    for size in (1, 4):
        path = tmp_path / f"{size}.zarr"
        create_cache(
            model, dataset=image_set(6), path=path, samples=6, batch_size=size, hook_points=["ln1"],
            input_norms=True,
        )  # fmt: skip
        masks.append(compute_masks_from_cache(model, path, sparsity=0.5))
    for name, mask in masks[0].kept.items():
        assert (mask == masks[1].kept[name]).mean() > 0.999


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


def test_a_flipped_byte_in_masks_is_never_read_as_a_mask(
    model: FrozenModel, cache: Path, tmp_path: Path
) -> None:
    path = compute_masks_from_cache(model, cache, sparsity=0.3).save(tmp_path / "a.masks.zarr")
    chunks = [file for file in path.rglob("c/*") if file.is_file()]
    chunks += [file for file in path.rglob("c/*/**/*") if file.is_file()]
    assert len(set(chunks)) > 5
    random = np.random.default_rng(2)
    for chunk in set(chunks):
        sound = chunk.read_bytes()
        content = bytearray(sound)
        content[random.integers(len(content))] ^= 1 << random.integers(8)
        chunk.write_bytes(content)
        with pytest.raises(CacheCorruptError, match=r"are damaged: .* make them again with"):
            open_masks(path)
        chunk.write_bytes(sound)
    open_masks(path)


def test_caches_without_inputs_and_kinds_that_do_not_exist_are_refused(
    model: FrozenModel, cache: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.zarr"
    create_cache(model, dataset=image_set(4), path=plain, samples=4, hook_points=["ln1"])
    with pytest.raises(CacheError, match="--input-norms"):
        compute_masks_from_cache(model, plain, sparsity=0.5)
    with pytest.raises(UnknownNameError, match="textual"):
        compute_masks_from_cache(model, cache, sparsity=0.5, kinds=["text"])
    with pytest.raises(ParameterError, match="belongs to another language model"):
        compute_masks_from_cache(load_model("opt-mini/vit/image-caption"), cache, sparsity=0.5)


def test_norms_of_several_caches_add_up(model: FrozenModel, cache: Path) -> None:
    once, twice = (sum_input_norms(model, [cache] * number) for number in (1, 2))
    assert all((2 * norms == twice[name]).all() for name, norms in once.items())
