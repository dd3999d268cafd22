"""Models and data: activations that are not finite, memory that runs out, inputs that changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from faultcaches import find_command, make_words, require_refusal, require_whole_units
from safetensors.torch import load_file, save_file
from tinycaches import MODEL, snapshot
from tinysamples import image_set

from ima.cache.reader import open_cache
from ima.capture import jobs, work_units
from ima.data.folders import write_data_folder
from ima.files import hash_file
from ima.models import load_model, zoo


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_activations_that_are_not_finite_stop_the_unit_and_keep_the_others(
    run_ima: Any,
    sound: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
) -> None:
    path, seen = tmp_path / "cache.zarr", [0]

    def load_spoiled(*arguments: Any, **given: Any) -> Any:
        model = load_model(*arguments, **given)

        def spoil(_module: Any, _arguments: Any, output: torch.Tensor) -> torch.Tensor:
            seen[0] += 1
            if seen[0] == 2:
                output[1, -1, 3] = float(value)
            return output

        model.hook_points.blocks[1].mlp.register_forward_hook(spoil)
        return model

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "load_model", load_spoiled)
        code, _, err = run_ima(*make_words(path))
    require_refusal(code, err)
    assert "Hook point 'resid_post', layer 2: NaN or infinite activations in samples" in err
    assert "'mini-image-test-000003'" in err
    assert "Look at these samples and at the model's weights, or load it in float32." in err
    assert require_whole_units(path, sound) == 2
    assert run_ima(*make_words(path))[0] == 0
    assert snapshot(path) == sound


def exhaust_torch() -> None:
    torch.empty(2**48, dtype=torch.uint8)


def exhaust_numpy() -> None:
    np.empty(2**48, dtype=np.uint8).fill(0)


def exhaust_gpu() -> None:
    message = "CUDA out of memory. Tried to allocate 20.00 GiB"
    raise torch.OutOfMemoryError(message)


EXHAUST = [exhaust_torch, exhaust_numpy, exhaust_gpu]


@pytest.mark.parametrize("exhaust", EXHAUST)
def test_a_batch_that_does_not_fit_is_halved_and_the_setting_is_named(
    run_ima: Any,
    sound: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    exhaust: Callable[[], None],
) -> None:
    path, compute = tmp_path / "cache.zarr", work_units.compute_batch_statistics

    def limited(model: Any, batch: Any, **given: Any) -> Any:
        if len(batch) > 1:
            exhaust()
        return compute(model, batch, **given)

    monkeypatch.setattr(work_units, "compute_batch_statistics", limited)
    with caplog.at_level("WARNING", logger="ima"):
        assert run_ima(*make_words(path))[0] == 0
    assert "Give batch_size=1 (--batch-size) to begin with as many." in caplog.text
    whole = tmp_path / "whole.zarr"
    for key, content in sound.items():
        (whole / key).parent.mkdir(parents=True, exist_ok=True)
        (whole / key).write_bytes(content)
    first, second = (open_cache(one)["means/resid_post/mean"] for one in (whole, path))
    xr.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("exhaust", EXHAUST)
def test_a_sample_that_does_not_fit_stops_its_unit_and_names_the_settings(
    run_ima: Any,
    sound: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exhaust: Callable[[], None],
) -> None:
    path, compute = tmp_path / "cache.zarr", work_units.compute_batch_statistics

    def limited(model: Any, batch: Any, **given: Any) -> Any:
        if "mini-image-test-000004" in batch.sample_ids:
            exhaust()
        return compute(model, batch, **given)

    with monkeypatch.context() as patch:
        patch.setattr(work_units, "compute_batch_statistics", limited)
        code, _, err = run_ima(*make_words(path))
    require_refusal(code, err)
    assert "Memory ran out on one sample: " in err
    for option in ("--hook-points", "--precision", "--device"):
        assert option in err
    assert require_whole_units(path, sound) == 4
    assert run_ima(*make_words(path))[0] == 0
    assert snapshot(path) == sound


@pytest.mark.parametrize("exhaust", EXHAUST)
def test_memory_that_runs_out_between_batches_names_the_settings(
    run_ima: Any,
    sound: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exhaust: Callable[[], None],
) -> None:
    path, write, seen = tmp_path / "cache.zarr", work_units.write_array_rows, [0]

    def limited(group: Any, *, path: str, **given: Any) -> None:
        seen[0] += path == "samples/id"
        if seen[0] == 2:
            exhaust()
        write(group, path=path, **given)

    with monkeypatch.context() as patch:
        patch.setattr(work_units, "write_array_rows", limited)
        code, _, err = run_ima(*make_words(path))
    require_refusal(code, err)
    assert f"Memory ran out while '{path}' was made: " in err
    assert "--batch-size, --unit, --keep-tokens or --logit-lens" in err
    assert require_whole_units(path, sound) == 2
    assert run_ima(*find_command(err, "ima cache create"))[0] == 0
    assert snapshot(path) == sound


def drop_last_unit(path: Path) -> dict[str, bytes]:
    for key in list(snapshot(path)):
        if key.startswith("samples/done/c/2"):
            (path / key).unlink()
    return snapshot(path)


def test_data_that_changed_are_refused_with_both_fingerprints(run_ima: Any, tmp_path: Path) -> None:
    data = write_data_folder(image_set(6), tmp_path / "data")
    path = tmp_path / "cache.zarr"
    words = make_words(path, dataset=str(data))
    assert run_ima(*words)[0] == 0
    whole = snapshot(path)
    before = drop_last_unit(path)
    stored = open_cache(path, allow_partial=True).attrs["dataset"]["fingerprint"]
    picture = sorted(data.rglob("*.png"))[0]
    good = picture.read_bytes()
    shutil.copyfile(sorted(data.rglob("*.png"))[1], picture)
    code, _, err = run_ima(*words)
    require_refusal(code, err)
    assert f"dataset.fingerprint: the cache has '{stored}', requested '" in err
    assert "Give another path, or replace it with overwrite=True (--overwrite)." in err
    assert snapshot(path) == before
    picture.write_bytes(good)
    assert run_ima(*words)[0] == 0
    assert snapshot(path) == whole


def test_a_sample_that_cannot_be_read_says_what_the_kept_ones_are_worth(
    run_ima: Any, tmp_path: Path
) -> None:
    data, path = write_data_folder(image_set(6), tmp_path / "my data"), tmp_path / "cache.zarr"
    words = make_words(path, dataset=str(data))
    pictures = sorted(data.rglob("*.png"))
    # In the first unit, nothing is kept.
    for index, kept in ((0, 0), (3, 2)):
        before = pictures[index].read_bytes()
        pictures[index].write_bytes(b"no picture")
        code, _, err = run_ima(*words)
        require_refusal(code, err)
        assert err.startswith(f"Error: Sample 's{index}': ")
        assert find_command(err, "ima data check") == ["data", "check", str(data)]
        said = f"{kept} of 6 samples are finished and kept. They are of no use" in err
        assert said == (kept > 0)
        assert path.exists() == (kept > 0)
        pictures[index].write_bytes(before)
    # Repaired, the data are others than those of the kept samples.
    pictures[3].write_bytes(pictures[2].read_bytes())
    assert run_ima(*words)[0] == 1
    assert run_ima(*find_command(err, "ima cache create"))[0] == 0


def test_weights_that_changed_are_refused_with_both_hashes(
    run_ima: Any,
    write_store: Callable[..., Path],
    sound: dict[str, bytes],
    tiny_zoo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_store(units=1)
    before = snapshot(path)
    stored = open_cache(path, allow_partial=True).attrs["model"]["weights_hash"]
    other = tmp_path / "zoo"
    shutil.copytree(tiny_zoo, other)
    weights = other / "connectors" / MODEL / zoo.WEIGHTS_FILE
    state = load_file(weights)
    state["queries"] += 1
    save_file(state, weights)
    with monkeypatch.context() as patch:
        patch.setenv("IMA_ZOO", str(other))
        # Weights that do not belong to their card are not even loaded.
        code, _, err = run_ima(*make_words(path))
        require_refusal(code, err)
        assert str(weights) in err
        card = weights.with_name(zoo.CARD_FILE)
        record = json.loads(card.read_text()) | {"sha256": hash_file(weights)}
        card.write_text(json.dumps(record))
        code, _, err = run_ima(*make_words(path))
    require_refusal(code, err)
    assert f"model.weights_hash: the cache has '{stored}', requested '" in err
    assert snapshot(path) == before
    assert run_ima(*make_words(path))[0] == 0
    assert snapshot(path) == sound
