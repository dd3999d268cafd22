"""Cached numbers against transformers' own hidden states and plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import xarray as xr
from tinysamples import image_set

import ima
from ima.cache.schema import DRIFT_STEPS
from ima.capture.writer import create_cache
from ima.hook_points import HOOK_POINTS, TOKEN_KINDS
from ima.models import load_model
from ima.models.frozen import FrozenModel

SAMPLES = 5
Arrays = dict[str, npt.NDArray[np.float64]]


@pytest.fixture(scope="module")
def model(tiny_zoo: Path) -> FrozenModel:
    return load_model("llama-mini/vit/image-caption")


@pytest.fixture(scope="module")
def cache(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    path = tmp_path_factory.mktemp("caches") / "reference.zarr"
    create_cache(
        model,
        dataset=image_set(SAMPLES),
        path=path,
        samples=SAMPLES,
        keep_tokens=SAMPLES,
        dtype="float32",
        batch_size=3,
        unit=4,
    )
    return ima.open_cache(path)


@pytest.fixture(scope="module")
def alone(model: FrozenModel) -> list[tuple[Any, Any]]:
    """Each sample by itself, without padding: its batch and transformers' own output."""
    with torch.no_grad():
        batches = [model.encode([sample]) for sample in image_set(SAMPLES)]
        return [
            (batch, model.language(inputs_embeds=batch.embeds, output_hidden_states=True))
            for batch in batches
        ]


def states(cache: xr.DataTree, hook_point: str, row: int) -> npt.NDArray[np.float32]:
    """Return the cached states of a sample, dims (layer, token, hidden)."""
    tokens = cache[f"tokens/{hook_point}"].to_dataset()
    found = tokens["state"].isel(token=np.flatnonzero(tokens["sample"].to_numpy() == row))
    return found.transpose("layer", "token", "hidden").to_numpy()


def test_residual_states_equal_transformers_hidden_states(
    cache: xr.DataTree, model: FrozenModel, alone: list[tuple[Any, Any]]
) -> None:
    for row, (_, output) in enumerate(alone):
        own = np.stack([state[0].numpy() for state in output.hidden_states])
        cached = states(cache, "resid_post", row)
        assert cached.shape == own.shape
        np.testing.assert_allclose(cached[:-1], own[:-1], atol=1e-4, rtol=1e-5)
        # The last of transformers' own states is behind the final norm.
        assert not np.allclose(cached[-1], own[-1], atol=1e-2)
        with torch.no_grad():
            normed = model.language.model.norm(torch.from_numpy(cached[-1])).numpy()
        np.testing.assert_allclose(normed, own[-1], atol=1e-4, rtol=1e-5)


def test_other_hook_points_equal_the_submodules_outputs(
    cache: xr.DataTree, model: FrozenModel, alone: list[tuple[Any, Any]]
) -> None:
    body = model.language.model
    for row, (batch, output) in enumerate(alone):
        length = batch.embeds.shape[1]
        rotary = body.rotary_emb(batch.embeds, torch.arange(length)[None])
        causal = torch.full((length, length), -torch.inf).triu(1)[None, None]
        for layer, block in enumerate(body.layers, start=1):
            # Computed part by part from transformers' state before the block, with no hook.
            before = output.hidden_states[layer - 1]
            with torch.no_grad():
                ln1 = block.input_layernorm(before)
                sa, _ = block.self_attn(
                    hidden_states=ln1, position_embeddings=rotary, attention_mask=causal
                )
                ln2 = block.post_attention_layernorm(before + sa)
                fc1 = torch.nn.functional.silu(block.mlp.gate_proj(ln2)) * block.mlp.up_proj(ln2)
                fc2 = block.mlp.down_proj(fc1)
            parts = {
                "ln1": ln1,
                "attn_out": sa,
                "resid_mid": before + sa,
                "ln2": ln2,
                "mlp_post": fc1,
                "mlp_out": fc2,
                "resid_post": before + sa + fc2,
            }
            assert tuple(parts) == HOOK_POINTS
            for hook_point, own in parts.items():
                index = layer if hook_point == "resid_post" else layer - 1
                cached = states(cache, hook_point, row)[index]
                np.testing.assert_allclose(
                    cached, own[0].numpy(), atol=1e-4, rtol=1e-4, err_msg=f"{hook_point} {layer}"
                )


def test_statistics_equal_numpy_without_padding(
    cache: xr.DataTree, alone: list[tuple[Any, Any]]
) -> None:
    for row, (batch, _) in enumerate(alone):
        textual = batch.modality[0].numpy() == 0
        for kind, chosen in zip(TOKEN_KINDS, (~textual, textual), strict=True):
            count = cache["samples"][f"n_{kind}"].to_numpy()[row]
            assert count == chosen.sum()
            for hook_point in HOOK_POINTS:
                state = states(cache, hook_point, row).astype(np.float64)[:, chosen]
                at = {"sample": row, "kind": TOKEN_KINDS.index(kind)}
                norm = np.sqrt((state**2).sum(axis=-1))
                for path, own in {
                    f"means/{hook_point}/mean": state.mean(axis=1),
                    f"norms/{hook_point}/mean": norm.mean(axis=1),
                    f"norms/{hook_point}/median": np.median(norm, axis=1),
                }.items():
                    np.testing.assert_allclose(
                        cache[path].isel(at).to_numpy(), own, rtol=1e-5, atol=1e-5, err_msg=path
                    )


def test_drift_is_the_cosine_of_the_same_token(
    cache: xr.DataTree, model: FrozenModel, alone: list[tuple[Any, Any]]
) -> None:
    drift = cache["drift/cosine"]
    assert drift.dims == ("sample", "kind", "step", "layer")
    for row, (batch, _) in enumerate(alone):
        state = states(cache, "resid_post", row).astype(np.float64)
        unit = state / np.linalg.norm(state, axis=-1, keepdims=True)
        textual = batch.modality[0].numpy() == 0
        for kind, chosen in zip(TOKEN_KINDS, (~textual, textual), strict=True):
            for step in DRIFT_STEPS:
                found = drift.isel(sample=row).sel(kind=kind, step=step)
                for layer in range(model.layers + 1):
                    value = float(found.sel(layer=layer))
                    if layer + step > model.layers:
                        assert np.isnan(value)
                    else:
                        cosine = (unit[layer] * unit[layer + step]).sum(axis=-1)[chosen].mean()
                        assert value == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batch_size_does_not_change_a_value(
    cache: xr.DataTree, model: FrozenModel, tmp_path: Path, batch_size: int
) -> None:
    path = tmp_path / "other.zarr"
    create_cache(
        model,
        dataset=image_set(SAMPLES),
        path=path,
        samples=SAMPLES,
        keep_tokens=SAMPLES,
        dtype="float32",
        batch_size=batch_size,
        unit=4,
    )
    _assert_close(ima.open_cache(path), cache)


def test_padding_side_does_not_change_a_value(
    cache: xr.DataTree, model: FrozenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = FrozenModel.encode
    monkeypatch.setattr(
        FrozenModel, "encode", lambda self, samples: encode(self, samples, side="left")
    )
    path = tmp_path / "left.zarr"
    create_cache(
        model,
        dataset=image_set(SAMPLES),
        path=path,
        samples=SAMPLES,
        keep_tokens=SAMPLES,
        dtype="float32",
        unit=4,
    )
    _assert_close(ima.open_cache(path), cache)


def _assert_close(left: xr.DataTree, right: xr.DataTree) -> None:
    assert [node.path for node in left.subtree] == [node.path for node in right.subtree]
    for node in right.subtree:
        for name, values in node.variables.items():
            found = left[node.path][str(name)].to_numpy()
            if values.dtype.kind == "f":
                np.testing.assert_allclose(
                    found, values.to_numpy(), atol=1e-4, rtol=1e-4, err_msg=f"{node.path}/{name}"
                )
            else:
                assert (found == values.to_numpy()).all(), f"{node.path}/{name}"
