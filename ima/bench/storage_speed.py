"""Speed of storage: writing to a cache, reading back, and opening one."""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from ima.bench.records import BenchRecord, TimedStep, time_against
from ima.bench.synthetic_caches import write_synthetic_cache
from ima.cache.reader import open_cache
from ima.cache.schema import CacheLayout, choose_unit_size
from ima.cache.store import (
    StoreLocation,
    build_store_metadata,
    locate_store,
    write_array_rows,
    write_store_metadata,
)
from ima.hook_points import HOOK_POINTS, TOKEN_KINDS

WRITE_MEANS_STEP = "write means to a cache"
WRITE_STATES_STEP = "write token states to a cache"
READ_LAYER_STEP = "read the means of one layer"
READ_SAMPLE_STEP = "read the means of one sample"
#: What reading one sample would take if each sample had a checksum of its own.
READ_OWN_BYTES_STEP = "read the bytes of one sample from a plain file"
OPEN_STEP = "open a cache of 10,000 samples"
_OPENED_SAMPLES = 10_000
#: A model of 7 billion parameters.
_LAYERS, _HIDDEN = 32, 4096
_SUBJECT = f"{_LAYERS} layers of width {_HIDDEN:,}"
_MEANS, _STATES = "means/resid_post/mean", "tokens/resid_post/state"
_OPENING_SECONDS = 0.1
#: A store that is read has so many times the samples of one that is written.
_READ_FACTOR = 4


def benchmark_storage(*, repeats: int = 7, samples: int = 64) -> list[BenchRecord]:
    """Time the storage of a large model's activations.

    Parameters
    ----------
    repeats : int
        Number of rounds.
    samples : int
        Samples of the store.

    Returns
    -------
    list of BenchRecord
        Writing means and token states, beside plain files of the same bytes with checksums.
        Reading one layer over all samples and one sample over all layers, beside reading the same
        parts of plain files without checksums, with files in the page cache and, where the system
        can drop them from it, without; and beside, the same by Zarr through xarray. Opening caches
        of many samples, beside a tenth of a second.

    Examples
    --------
    >>> records = benchmark_storage(repeats=1, samples=2)  # doctest: +SKIP
    >>> records[0].name  # doctest: +SKIP
    'write means to a cache'
    """
    with tempfile.TemporaryDirectory(prefix="ima-bench-") as folder:
        place = Path(folder)
        return [
            *_time_writing(place, samples=samples, repeats=repeats),
            *_time_reading(place, samples=_READ_FACTOR * samples, repeats=repeats),
            *_time_opening(place, repeats=repeats),
        ]


def _time_writing(folder: Path, *, samples: int, repeats: int) -> list[BenchRecord]:
    unit = choose_unit_size(samples, layers=_LAYERS, hidden=_HIDDEN)
    given = {"unit": unit, "layers": _LAYERS, "widths": {"resid_post": _HIDDEN}}
    rng = np.random.default_rng(0)
    means = rng.standard_normal((samples, 2, _LAYERS + 1, _HIDDEN), dtype="float32")
    states = rng.standard_normal((samples * 8, _LAYERS + 1, _HIDDEN), dtype="float32")
    records = []
    for name, path, values, limit, rows, tokens in (
        (WRITE_MEANS_STEP, _MEANS, means, 2.0, unit, 0),
        (WRITE_STATES_STEP, _STATES, states.astype("float16"), 1.5, 8 * unit, len(states)),
    ):
        layout = CacheLayout(samples=samples, tokens=tokens, **given)  # type: ignore[arg-type]
        store = folder / ("states.zarr" if tokens else "means.zarr")
        location = locate_store(store)
        write_store_metadata(location, build_store_metadata(layout.arrays(), {}))
        write_cache = partial(_write_cache, location, path=path, values=values, rows=rows)
        write_files = partial(_write_files, folder / "plain", values=values, rows=rows)
        records += time_against(
            TimedStep("plain files with checksums", write_files),
            [TimedStep(name, write_cache, limit=limit)],
            subject=f"{values.nbytes / 2**20:.0f} MiB, {_SUBJECT}",
            repeats=repeats,
        )
    return records


def _write_cache(
    location: StoreLocation, *, path: str, values: npt.NDArray[Any], rows: int
) -> None:
    """Write an array as a cache grows: its files are new in each run."""
    for shard in (Path(location.address) / path / "c").rglob("*"):
        if shard.is_file():
            shard.unlink()
    group = location.group("r+")
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        write_array_rows(group, path=path, index=slice(start, start + len(part)), values=part)


def _write_files(folder: Path, *, values: npt.NDArray[Any], rows: int) -> None:
    folder.mkdir(exist_ok=True)
    for start in range(0, len(values), rows):
        path, content = folder / str(start), values[start : start + rows].tobytes()
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.write(google_crc32c.value(content).to_bytes(4, "little"))


def _time_reading(folder: Path, *, samples: int, repeats: int) -> list[BenchRecord]:
    """Time reads beside plain files that hold the same numbers in the same order."""
    store, raw = folder / "read.zarr", folder / "raw"
    unit = choose_unit_size(samples, layers=_LAYERS, hidden=_HIDDEN)
    write_synthetic_cache(
        store, samples=samples, layers=_LAYERS, hidden=_HIDDEN, filled=("samples/done", _MEANS)
    )
    means: Any = open_cache(store)[_MEANS]
    files = _write_raw_means(raw, means, unit=unit)
    layer, sample = _LAYERS // 2, samples // 2
    steps: dict[TimedStep, list[TimedStep]] = {
        TimedStep(
            "the same part of each plain file",
            lambda: _read_raw_layer(files, layer=layer, samples=samples, unit=unit),
        ): [
            TimedStep(READ_LAYER_STEP, lambda: means.isel(layer=layer).load(), limit=2.0),
            *_list_other_readers(store, READ_LAYER_STEP, {"layer": layer}),
        ],
        # The checksum of a chunk is that of all samples of a unit.
        TimedStep("the plain file of its unit", files[sample // unit].read_bytes): [
            TimedStep(READ_SAMPLE_STEP, lambda: means.isel(sample=sample).load(), limit=2.0),
            TimedStep(
                READ_OWN_BYTES_STEP,
                lambda: _read_raw_sample(files[sample // unit], row=sample % unit, unit=unit),
            ),
            *_list_other_readers(store, READ_SAMPLE_STEP, {"sample": sample}),
        ],
    }
    states: dict[str, Callable[[], object]] = {"warm": lambda: None}
    if hasattr(os, "posix_fadvise"):
        states["cold"] = partial(_drop_from_page_cache, (store, raw))
    return [
        record
        for state, prepare in states.items()
        for reference, compared in steps.items()
        for record in time_against(
            reference,
            compared,
            subject=f"{samples} samples, {_SUBJECT}, page cache {state}",
            repeats=repeats,
            prepare=prepare,
        )
    ]


def _list_other_readers(store: Path, name: str, index: dict[str, int]) -> list[TimedStep]:
    """List the same read by Zarr through xarray, with each of its pipelines that is installed."""
    group = _MEANS.rpartition("/")[0]
    pipelines = {"Zarr": zarr.config.get("codec_pipeline.path")}
    if importlib.util.find_spec("zarrs"):
        pipelines["zarrs"] = "zarrs.ZarrsCodecPipeline"

    opened = {}
    for pipeline in pipelines.values():
        with zarr.config.set({"codec_pipeline.path": pipeline}):
            opened[pipeline] = xr.open_zarr(store, group=group, chunks=None)["mean"]

    def read(pipeline: str) -> None:
        with zarr.config.set({"codec_pipeline.path": pipeline}):
            opened[pipeline].isel(index).load()

    return [
        TimedStep(f"{name}, {library}", partial(read, pipeline))
        for library, pipeline in pipelines.items()
    ]


def _write_raw_means(folder: Path, means: xr.DataArray, *, unit: int) -> list[Path]:
    """Write a plain file for each shard, with the layers one after another, and no checksums."""
    folder.mkdir()
    files = []
    for start in range(0, means.sizes["sample"], unit):
        part = means.isel(sample=slice(start, start + unit)).transpose("layer", ...)
        files.append(folder / str(start))
        files[-1].write_bytes(np.ascontiguousarray(part.to_numpy()).tobytes())
    return files


def _read_raw_layer(
    files: list[Path], *, layer: int, samples: int, unit: int
) -> npt.NDArray[np.float32]:
    values = np.empty((samples, len(TOKEN_KINDS), _HIDDEN), "float32")
    for number, path in enumerate(files):
        part = values[number * unit : (number + 1) * unit]
        with path.open("rb", buffering=0) as file:
            file.seek(layer * part.nbytes)
            file.readinto(part.data)
    return values


def _read_raw_sample(file: Path, *, row: int, unit: int) -> npt.NDArray[np.float32]:
    values = np.empty((_LAYERS + 1, len(TOKEN_KINDS), _HIDDEN), "float32")
    with file.open("rb", buffering=0) as opened:
        for layer, part in enumerate(values):
            opened.seek((layer * unit + row) * part.nbytes)
            opened.readinto(part.data)
    return values


def _drop_from_page_cache(folders: tuple[Path, ...]) -> None:
    """Ask the system to forget the files of folders, so that they are read from the disk."""
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _time_opening(folder: Path, *, repeats: int) -> list[BenchRecord]:
    """Time opening caches of a large model, which has small units, and of a small one."""
    records = []
    for layers, hidden in ((_LAYERS, _HIDDEN), (12, 768)):
        store = folder / f"many-{hidden}.zarr"
        write_synthetic_cache(
            store,
            samples=_OPENED_SAMPLES,
            layers=layers,
            hidden=hidden,
            hook_points=HOOK_POINTS,
            filled=("samples/done",),
        )
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            open_cache(store)
            seconds.append(time.perf_counter() - start)
        value = statistics.median(seconds)
        records.append(
            BenchRecord(
                OPEN_STEP,
                f"{layers} layers of width {hidden:,}, {len(HOOK_POINTS)} hook points",
                value,
                "s",
                value / _OPENING_SECONDS,
                1.0,
                repeats,
                "cpu",
                against="a tenth of a second",
            )
        )
    return records
