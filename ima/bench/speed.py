"""Speed of this machine from samples to a cache and back."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ima.cache.reader import open_cache
from ima.cache.schema import CacheLayout, choose_unit_size
from ima.cache.store import (
    build_store_metadata,
    locate_store,
    write_array_rows,
    write_store_metadata,
)
from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures.similarity import cosine_over_pairs
from ima.timing import time_fastest_runs

#: Steps that are timed for every model.
FORWARD_STEP, MEASURE_STEP = "run the model", "run it and measure all hook points"
_PLAIN_FILES_STEP = "write means and checksums to plain files"
CACHE_WRITE_STEP = "write them to a cache"
_WRITTEN_SAMPLES = 64
#: Numbers of samples that are compared, to show how the cost grows.
_COMPARED_SAMPLES = (50, 100, 200)
_MEANS_STEP, _PAIRS_STEP = "compare {} samples with {}: means", "compare {} samples with {}: pairs"
_REFERENCE_STEPS = {
    MEASURE_STEP: FORWARD_STEP,
    CACHE_WRITE_STEP: _PLAIN_FILES_STEP,
    **{_PAIRS_STEP.format(n, n): _MEANS_STEP.format(n, n) for n in _COMPARED_SAMPLES},
}


@dataclass(frozen=True)
class StepTiming:
    """Time of one step.

    Parameters
    ----------
    step : str
        The step that was timed.
    seconds : float
        Time of the fastest repeat: the speed of the machine when nothing disturbs it.
    samples : int
        Number of samples processed.
    ratio : float or None
        Time relative to the step ``against``, timed in the same run.
    against : str
        The step that is needed without this package, too; empty if there is none.
    """

    step: str
    seconds: float
    samples: int
    ratio: float | None = None
    against: str = ""

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.samples / self.seconds


def benchmark_caching(
    model: str,
    *,
    dataset: str,
    samples: int = 64,
    batch_size: int = 16,
    repeats: int = 3,
    device: str = "cpu",
) -> list[StepTiming]:
    """Time each step from samples to a cache and back.

    Parameters
    ----------
    model : str
        A model that :func:`ima.models.load_model` takes.
    dataset : str
        A data set that :func:`ima.data.samples.open_samples` takes.
    samples : int
        Number of samples.
    batch_size : int
        Samples per forward pass.
    repeats : int
        Number of timed runs of each step.
    device : str
        Device of the model.

    Returns
    -------
    list of StepTiming
        Making the samples, encoding them, a forward pass, a forward pass that measures all hook
        points (relative to the plain one), making the whole cache, and reading the means of one
        hook point. Then writing the means of a model of 32 layers of width 4096 to plain files and
        to a cache (relative to plain files). Last, the mean cosine over all pairs of two sets of
        vectors, pair by pair (relative to the product of two means), for growing sets.

    Raises
    ------
    ParameterError
        If a number is not positive.

    Examples
    --------
    >>> timings = benchmark_caching(  # doctest: +SKIP
    ...     "llama-mini/vit/image-caption", dataset="mini-image-caption", samples=16
    ... )
    >>> timings[0].step, round(timings[0].rate)  # doctest: +SKIP
    ('make the samples', 350)
    """
    check_counts(samples, batch_size, repeats)
    from ima.capture import compute_batch_statistics
    from ima.capture.writer import create_cache
    from ima.models import load_model

    frozen = load_model(model, device=device)
    sample_set = open_samples(dataset, n=samples)
    encode = partial(frozen.encode_batches, sample_set, batch_size=batch_size)
    batches = encode()

    def make_samples() -> None:
        for sample in open_samples(dataset, n=samples):
            if sample.media is not None:
                sample.load()

    with tempfile.TemporaryDirectory(prefix="ima-bench-") as folder:
        store = Path(folder) / "bench.zarr"

        def make_cache() -> None:
            create_cache(
                frozen,
                dataset=sample_set,
                path=store,
                samples=samples,
                batch_size=batch_size,
                overwrite=True,
                progress=False,
            )

        write_files, write_cache = _make_writers(Path(folder))
        steps: dict[str, tuple[Callable[[], object], int]] = {
            "make the samples": (make_samples, samples),
            "encode them": (encode, samples),
            FORWARD_STEP: (lambda: [frozen.forward(batch) for batch in batches], samples),
            MEASURE_STEP: (
                lambda: [compute_batch_statistics(frozen, batch) for batch in batches],
                samples,
            ),
            "make a whole cache": (make_cache, samples),
            "read the means of one hook point": (lambda: _read_means(store), samples),
            _PLAIN_FILES_STEP: (write_files, _WRITTEN_SAMPLES),
            CACHE_WRITE_STEP: (write_cache, _WRITTEN_SAMPLES),
            **_make_comparisons(),
        }
        seconds = time_fastest_runs(
            {step: run for step, (run, _) in steps.items()}, repeats=repeats
        )
    timings = []
    for step, (_, count) in steps.items():
        against = _REFERENCE_STEPS.get(step, "")
        ratio = seconds[step] / seconds[against] if against else None
        timings.append(StepTiming(step, seconds[step], count, ratio, against))
    return timings


def check_counts(samples: int, batch_size: int, repeats: int) -> None:
    """Raise a :class:`~ima.errors.ParameterError` if a setting of a benchmark is below 1.

    Examples
    --------
    >>> check_counts(64, 16, 3)
    """
    if min(samples, batch_size, repeats) < 1:
        raise ParameterError(
            "samples, batch_size and repeats must be at least 1; "
            f"got {samples}, {batch_size} and {repeats}."
        )


def tabulate_pairwise_cost(timings: Sequence[StepTiming]) -> pd.DataFrame:
    """Tabulate how the cost of comparing samples grows with their number.

    Parameters
    ----------
    timings : sequence of StepTiming
        The result of :func:`benchmark_caching`.

    Returns
    -------
    pandas.DataFrame
        One row for each way and number of samples: ``way`` (``product of means`` or ``pair by
        pair``), ``samples``, ``seconds``.

    Examples
    --------
    >>> tabulate_pairwise_cost(timings).columns.tolist()  # doctest: +SKIP
    ['way', 'samples', 'seconds']
    """
    ways = {"product of means": _MEANS_STEP, "pair by pair": _PAIRS_STEP}
    seconds = {timing.step: timing.seconds for timing in timings}
    return pd.DataFrame(
        {"way": way, "samples": n, "seconds": seconds[step.format(n, n)]}
        for way, step in ways.items()
        for n in _COMPARED_SAMPLES
    )


def describe_machine(device: str = "cpu") -> dict[str, str | int]:
    """Describe the machine on which something is timed.

    Parameters
    ----------
    device : str
        Device of the models.

    Returns
    -------
    dict
        ``device`` (name of the processor or accelerator), ``cores`` that this process may use,
        ``threads`` of torch, and the version of ``torch``.

    Examples
    --------
    >>> sorted(describe_machine())
    ['cores', 'device', 'threads', 'torch']
    """
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        name = next((value.strip() for key, _, value in lines if "model name" in key), name)
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": name,
        "cores": cores or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _make_writers(folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return two functions that write the same numbers, to plain files and to a cache."""
    hidden, layers = 4096, 32
    unit = choose_unit_size(_WRITTEN_SAMPLES, layers=layers, hidden=hidden)
    layout = CacheLayout(
        samples=_WRITTEN_SAMPLES, unit=unit, layers=layers, widths={"resid_post": hidden}
    )
    shape = (unit, len(TOKEN_KINDS), layers + 1, hidden)
    means = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    location = locate_store(folder / "writes.zarr")
    write_store_metadata(location, build_store_metadata(layout.arrays(), {}))
    group, path = location.group("r+"), "means/resid_post/mean"

    def write_files() -> None:
        for number in range(layout.units):
            content = means.tobytes()
            (folder / f"plain-{number}").unlink(missing_ok=True)
            with (folder / f"plain-{number}").open("wb") as file:
                file.write(content)
                file.write(google_crc32c.value(content).to_bytes(4, "little"))

    # Files are new in each run, as in a cache that grows.
    def write_cache() -> None:
        for shard in (folder / "writes.zarr" / path / "c").rglob("*"):
            if shard.is_file():
                shard.unlink()
        for number in range(layout.units):
            start, stop = layout.bounds(number)
            write_array_rows(group, path=path, index=slice(start, stop), values=means)

    return write_files, write_cache


def _make_comparisons() -> dict[str, tuple[Callable[[], object], int]]:
    """Return steps that compute one mean cosine in O(N d) and pair by pair, for growing N."""
    hidden = 4096
    rng = np.random.default_rng(0)
    steps: dict[str, tuple[Callable[[], object], int]] = {}
    for n in _COMPARED_SAMPLES:
        a, b = rng.standard_normal((2, n, hidden))
        vectors = (xr.DataArray(side, dims=("sample", "hidden")) for side in (a, b))
        steps[_MEANS_STEP.format(n, n)] = (partial(cosine_over_pairs, *vectors), n)
        steps[_PAIRS_STEP.format(n, n)] = (partial(_average_cosine_by_pair, a, b), n)
    return steps


def _average_cosine_by_pair(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    total = 0.0
    for x in a:
        for y in b:
            total += x @ y / np.sqrt((x @ x) * (y @ y))
    return total / (len(a) * len(b))


def _read_means(store: Path) -> None:
    open_cache(store)["means/resid_post/mean"].load()
