from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from tinycaches import MODEL, SETTINGS, snapshot
from tinysamples import image_sample, image_set

import ima
from ima.cache.reader import open_cache, read_done_mask
from ima.cache.store import locate_store, lock_store
from ima.capture import jobs, writer
from ima.capture.writer import create_cache
from ima.data.samples import SampleSet
from ima.errors import (
    ActivationError,
    CacheError,
    CacheLockedError,
    CacheSchemaError,
    ImaError,
    ModelError,
    ParameterError,
    SampleError,
    UnknownNameError,
)
from ima.models.frozen import FrozenModel


def test_the_same_run_gives_the_same_bytes_and_a_second_one_does_nothing(
    model: FrozenModel, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "again.zarr"
    assert create_cache(model, dataset=image_set(7), path=path, **SETTINGS) == path
    assert snapshot(path) == snapshot(finished)
    stamps = {file: file.stat().st_mtime_ns for file in path.rglob("*")}

    def never(*_: Any, **__: Any) -> None:
        pytest.fail("a finished cache was computed again")

    monkeypatch.setattr(writer, "write_work_unit", never)
    create_cache(model, dataset=image_set(7), path=path, **SETTINGS)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == stamps
    # Neither batch size nor device make it another cache once it is finished.
    create_cache(model, dataset=image_set(7), path=path, **(SETTINGS | {"batch_size": 5}))


def test_a_cache_of_other_units_is_the_same_cache(
    model: FrozenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version chose other units for as many samples."""
    settings = {name: value for name, value in SETTINGS.items() if name != "unit"}
    path = tmp_path / "old.zarr"
    monkeypatch.setattr(jobs, "choose_unit_size", lambda *_, **__: 4)
    create_cache(model, dataset=image_set(7), path=path, **settings)
    before = snapshot(path)
    monkeypatch.undo()
    create_cache(model, dataset=image_set(7), path=path, **settings)
    assert snapshot(path) == before
    assert open_cache(path).attrs["layout"]["unit"] == 4


def test_a_store_has_no_trace_of_when_and_where_it_was_made(finished: Path) -> None:
    attributes = json.loads((finished / "zarr.json").read_text())["attributes"]
    assert set(attributes) == {
        "schema",
        "schema_version",
        "model",
        "dataset",
        "parameters",
        "layout",
        "execution",
        "sha256",
    }
    text = json.dumps(attributes)
    assert str(finished.parent) not in text
    assert re.search(r"20\d\d-\d\d|\d\d:\d\d", text) is None
    assert attributes["model"]["name"] == MODEL
    assert len(attributes["model"]["weights_hash"]) == 64
    assert attributes["dataset"]["fingerprint"] == image_set(7).fingerprint
    assert attributes["parameters"]["hook_points"] == list(ima.hook_points.HOOK_POINTS)
    assert attributes["parameters"]["seed"] == 0
    assert set(attributes["execution"]["packages"]) == {
        "ima",
        "python",
        "numpy",
        "torch",
        "transformers",
        "zarr",
    }


def test_a_stopped_writer_continues_where_it_was(
    model: FrozenModel, partial: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = []
    write = writer.write_work_unit
    monkeypatch.setattr(
        writer, "write_work_unit", lambda unit, **rest: (units.append(unit), write(unit, **rest))
    )
    create_cache(model, dataset=image_set(7), path=partial, **SETTINGS)
    assert units == [1, 2]
    assert snapshot(partial) == snapshot(finished)


def test_a_unit_that_is_marked_but_not_counted_is_kept(
    model: FrozenModel,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ctrl-C between the mark of the first unit and the count of finished samples."""
    path, write = tmp_path / "cache.zarr", writer.write_work_unit

    def stop(unit: int, **arguments: Any) -> None:
        write(unit, **arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, caplog.at_level("WARNING", logger="ima"):
        patch.setattr(writer, "write_work_unit", stop)
        with pytest.raises(KeyboardInterrupt):
            create_cache(model, dataset=image_set(7), path=path, **SETTINGS)
    assert "Stopped: 3 of 7 samples are finished and kept. Continue with:" in caplog.text
    assert read_done_mask(locate_store(path)).tolist() == [True] * 3 + [False] * 4
    create_cache(model, dataset=image_set(7), path=path, **SETTINGS)
    assert snapshot(path) == snapshot(finished)


def test_an_error_says_that_finished_units_are_kept(
    model: FrozenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "full.zarr"
    write = writer.write_work_unit

    def stop(unit: int, **arguments: Any) -> None:
        if unit:
            raise OSError(28, "No space left on device")
        write(unit, **arguments)

    monkeypatch.setattr(writer, "write_work_unit", stop)
    with pytest.raises(CacheError) as caught:
        create_cache(model, dataset=image_set(7), path=path, **SETTINGS)
    assert "No space left on device" in str(caught.value)
    command = f"ima cache create --model {MODEL} --dataset tiny:test --samples 7 --out {path}"
    assert command in str(caught.value)
    assert "--keep-tokens 4 --batch-size 2 --unit 3" in str(caught.value)


def test_a_failure_in_the_first_unit_leaves_nothing(model: FrozenModel, tmp_path: Path) -> None:
    def spoil(_module: Any, _arguments: Any, output: torch.Tensor) -> torch.Tensor:
        return output * (float("nan") if output.shape[0] == 1 else 1.0)

    handle = model.hook_points.blocks[0].mlp.register_forward_hook(spoil)
    try:
        # The unit's second batch holds one sample, after tokens of the first were written.
        path = tmp_path / "new" / "deep" / "nan.zarr"
        with pytest.raises(ActivationError, match=r"Hook point 'mlp_out', layer 1: NaN .* 's2'"):
            create_cache(
                model, dataset=image_set(3), path=path, samples=3, keep_tokens=3, batch_size=2
            )
    finally:
        handle.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_refused(model: FrozenModel, finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "locked.zarr"
    with (
        lock_store(locate_store(path)),
        pytest.raises(CacheLockedError, match="Another process is writing"),
    ):
        create_cache(model, dataset=image_set(2), path=path, samples=2)
    assert list(tmp_path.iterdir()) == []
    # A lock file that a killed writer left behind locks nothing.
    path.with_name("locked.zarr.lock").touch()
    create_cache(model, dataset=image_set(2), path=path, samples=2, hook_points=["attn_out"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["locked.zarr"]


def test_other_parameters_are_refused_by_name(model: FrozenModel, finished: Path) -> None:
    before = snapshot(finished)
    with pytest.raises(CacheError) as caught:
        create_cache(
            model,
            dataset=image_set(6),
            path=finished,
            **(SETTINGS | {"samples": 6, "hook_points": ["attn_out"], "dtype": "float32"}),
        )
    for line in (
        "samples: the cache has 7, requested 6",
        "dtype: the cache has 'float16', requested 'float32'",
        "hook_points: the cache has ['ln1',",
        "dataset.fingerprint: the cache has '",
        "overwrite=True (--overwrite)",
    ):
        assert line in str(caught.value)
    assert snapshot(finished) == before


def test_an_unfinished_cache_is_not_finished_by_another_kind_of_run(
    model: FrozenModel, partial: Path
) -> None:
    with pytest.raises(
        CacheError, match=r"execution\.batch_size: the cache has 2, requested 3"
    ) as error:
        create_cache(model, dataset=image_set(7), path=partial, **(SETTINGS | {"batch_size": 3}))
    assert "with the settings that it was begun with: ima cache create --model" in str(error.value)


def test_overwrite_replaces_a_cache_and_nothing_else(
    model: FrozenModel, partial: Path, tmp_path: Path
) -> None:
    create_cache(
        model,
        dataset=image_set(2),
        path=partial,
        samples=2,
        hook_points=["attn_out"],
        overwrite=True,
    )
    cache = ima.open_cache(partial)
    assert list(cache["means"].children) == ["attn_out"]
    assert cache["samples"].sizes["sample"] == 2
    # A cache that somebody keeps notes in.
    (partial / "notes").mkdir()
    (partial / "notes" / "c").write_text("mine")
    before = snapshot(partial)
    with pytest.raises(CacheError, match=r"no part of a cache, for example notes/c, .* Move them"):
        create_cache(model, dataset=image_set(2), path=partial, samples=2, overwrite=True)
    assert snapshot(partial) == before
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.md").touch()
    with pytest.raises(CacheError, match="exists and is not a cache"):
        create_cache(model, dataset=image_set(2), path=folder, samples=2, overwrite=True)
    assert (folder / "chapter1.md").exists()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"samples": 0}, ParameterError, "Parameter 'samples': input should be greater than"),
        ({"samples": "many"}, ParameterError, "'samples': .*integer; found 'many' \\(str\\)"),
        ({"samples": 8}, ParameterError, "asks for more than 'tiny' holds: 7"),
        ({"keep_tokens": 9}, ParameterError, "keep_tokens=9 .* at most samples=7"),
        ({"batch_size": 0}, ParameterError, "'batch_size'"),
        ({"dtype": "bfloat16"}, ParameterError, "'dtype': input should be 'float16' or 'float32'"),
        ({"hook_points": ()}, ParameterError, "at least one hook point"),
        (
            {"hook_points": "attn_out"},
            ParameterError,
            "'hook_points': .*found 'attn_out' \\(str\\)",
        ),
        (
            {"hook_points": ["resid"]},
            UnknownNameError,
            "Unknown hook point 'resid'. Did you mean 'resid_mid'",
        ),
        ({"model": "llama-mimi"}, UnknownNameError, "Unknown model 'llama-mimi'. Did you mean"),
        ({"dataset": "mini-image-captoin"}, UnknownNameError, "Unknown data ?set"),
        ({"path": "foo://cache.zarr"}, CacheError, "Cannot open 'foo://cache.zarr'"),
    ],
)
def test_bad_parameters_write_nothing(
    model: FrozenModel,
    tmp_path: Path,
    changed: dict[str, Any],
    error: type[ImaError],
    message: str,
) -> None:
    arguments = {"model": model, "dataset": image_set(7), "path": tmp_path / "a" / "b.zarr"}
    with pytest.raises(error, match=message):
        create_cache(**(arguments | SETTINGS | changed))
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_path_is_an_error(model: FrozenModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"Cannot write a cache to .*file is not a folder"):
        create_cache(model, dataset=image_set(1), path=tmp_path / "file" / "a.zarr", samples=1)
    with pytest.raises(CacheError, match=r"Cannot write a cache to '/proc/nowhere/a\.zarr'"):
        create_cache(model, dataset=image_set(1), path="/proc/nowhere/a.zarr", samples=1)


def test_bad_samples_write_nothing(model: FrozenModel, tmp_path: Path) -> None:
    good = image_sample(0)
    for bad, message in [
        (replace(good, media=None), "has modality 'image' and no media"),
        (replace(good, prompt="", references=("",)), "Sample 's0'"),
        (replace(good, modality="audio"), "modality 'audio'"),
    ]:
        samples = SampleSet("tiny", "test", (image_sample(1), bad))
        with pytest.raises(SampleError, match=message):
            create_cache(model, dataset=samples, path=tmp_path / "bad.zarr", samples=2)
        assert list(tmp_path.iterdir()) == []


def test_another_schema_version_is_refused(
    model: FrozenModel, partial: Path, finished: Path
) -> None:
    root = partial / "zarr.json"
    root.write_text(root.read_text().replace('"schema_version": "2"', '"schema_version": "9"'))
    with pytest.raises(
        CacheSchemaError, match="schema version '9'; this version of ima reads '1' and '2'"
    ):
        create_cache(model, dataset=image_set(7), path=partial, **SETTINGS)


def test_predictions_are_what_the_model_generates(model: FrozenModel, tmp_path: Path) -> None:
    path = tmp_path / "predict.zarr"
    create_cache(
        model,
        dataset=image_set(3),
        path=path,
        samples=3,
        hook_points=["attn_out"],
        predict=True,
        loss=False,
    )
    samples = ima.open_cache(path)["samples"].to_dataset()
    assert samples["prediction"].to_numpy().tolist() == model.generate(list(image_set(3)))
    assert "loss" not in samples


def test_a_batch_that_does_not_fit_is_halved_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    from ima.capture import work_units

    real, sizes = work_units.compute_batch_statistics, []

    def measure(model, batch, **given):
        sizes.append(len(batch))
        if len(batch) > 2:
            message = "CUDA out of memory"
            raise torch.OutOfMemoryError(message)
        return real(model, batch, **given)

    given = {"dataset": "mini-image-caption", "samples": 7, "keep_tokens": 5, "progress": False}
    model = "llama-mini/vit/image-caption"
    whole = create_cache(model, path=tmp_path / "whole.zarr", batch_size=2, **given)
    monkeypatch.setattr(work_units, "compute_batch_statistics", measure)
    with caplog.at_level("WARNING", logger="ima"):
        path = create_cache(model, path=tmp_path / "a.zarr", batch_size=7, **given)
    assert sizes[:3] == [7, 4, 2]
    assert max(sizes[2:]) == 2
    assert "continuing with 2 samples per batch" in caplog.text
    first, second = (open_cache(one)["means/resid_post/mean"] for one in (whole, path))
    xr.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5)


def test_one_sample_that_does_not_fit_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    from ima.capture import work_units

    def measure(*_, **__):
        message = "CUDA out of memory"
        raise torch.OutOfMemoryError(message)

    monkeypatch.setattr(work_units, "compute_batch_statistics", measure)
    with pytest.raises(
        ModelError, match=r"Memory ran out on one sample: CUDA out of memory\. Give .*device='auto'"
    ):
        create_cache(
            "llama-mini/vit/image-caption",
            dataset="mini-image-caption",
            samples=3,
            path=tmp_path / "a.zarr",
            progress=False,
        )
    assert not (tmp_path / "a.zarr").exists()
