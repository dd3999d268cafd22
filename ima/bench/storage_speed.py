"""Speed of storage: writing to a cache, reading back, and opening one."""

from __future__ import annotations

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

from ima.bench.records import BenchRecord, TimedStep, time_against
from ima.cache.schema import CacheLayout, choose_unit_size
from ima.cache.store import (
    StoreLocation,
    build_store_metadata,
    locate_store,
    write_array_rows,
    write_store_metadata,
)

WRITE_MEANS_STEP = "write means to a cache"
WRITE_STATES_STEP = "write token states to a cache"
READ_LAYER_STEP = "read the means of one layer"
READ_SAMPLE_STEP = "read the means of one sample"
OPEN_STEP = "open a cache of 10,000 samples"
#: A model of 7 billion parameters.
_LAYERS, _HIDDEN = 32, 4096
_SUBJECT = f"{_LAYERS} layers of width {_HIDDEN:,}"
_MEANS, _STATES = "means/resid_post/mean", "tokens/resid_post/state"
_OPENING_SECONDS = 0.1


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
        Reading one layer over all samples and one sample over all layers, beside reading as many
        bytes from a plain file, with files in the page cache and, where the system can drop them
        from it, without. Opening a cache of many samples, beside a tenth of a second.

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
            *_time_reading(place / "means.zarr", place / "raw", samples=samples, repeats=repeats),
            _time_opening(place, repeats=repeats),
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


def _time_reading(store: Path, raw: Path, *, samples: int, repeats: int) -> list[BenchRecord]:
    """Time reads of a store of means that :func:`_time_writing` left."""
    by_layer = samples * 2 * _HIDDEN
    by_sample = (_LAYERS + 1) * 2 * _HIDDEN
    raw.mkdir()
    for name, count in (("layer", by_layer), ("sample", by_sample)):
        (raw / name).write_bytes(np.zeros(count, "float16").tobytes())
    means = xr.open_zarr(store / "means/resid_post", consolidated=False, chunks=None)["mean"]
    reads: dict[str, tuple[Callable[[], Any], str]] = {
        READ_LAYER_STEP: (lambda: means.isel(layer=_LAYERS // 2).load(deep=True), "layer"),
        READ_SAMPLE_STEP: (lambda: means.isel(sample=samples // 2).load(deep=True), "sample"),
    }
    states = {"warm": lambda: None}
    if hasattr(os, "posix_fadvise"):
        states["cold"] = partial(_drop_from_page_cache, (store, raw))
    return [
        record
        for state, prepare in states.items()
        for name, (read, plain) in reads.items()
        for record in time_against(
            TimedStep("a plain float16 file", (raw / plain).read_bytes),
            [TimedStep(name, read, limit=2.0)],
            subject=f"{_SUBJECT}, page cache {state}",
            repeats=repeats,
            prepare=prepare,
        )
    ]


def _drop_from_page_cache(folders: tuple[Path, ...]) -> None:
    """Ask the system to forget the files of folders, so that they are read from the disk."""
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _time_opening(folder: Path, *, repeats: int) -> BenchRecord:
    layout = CacheLayout(samples=10_000, unit=32, layers=_LAYERS, widths={"resid_post": _HIDDEN})
    location = locate_store(folder / "many.zarr")
    write_store_metadata(location, build_store_metadata(layout.arrays(), {}))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        xr.open_datatree(location.address, engine="zarr", chunks=None).close()
        seconds.append(time.perf_counter() - start)
    value = statistics.median(seconds)
    return BenchRecord(
        OPEN_STEP, _SUBJECT, value, "s", value / _OPENING_SECONDS, 1.0, repeats, "cpu",
        against="a tenth of a second",
    )  # fmt: skip
