"""How fast this machine goes from samples to a cache and back."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ima.cache import open_cache
from ima.cache.chunking import choose_unit_size
from ima.cache.schema import CacheLayout
from ima.cache.store import build_store_metadata, locate_store, write_store_metadata
from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.files import write_json
from ima.hook_points import TOKEN_KINDS
from ima.measures.similarity import cosine_over_pairs
from ima.timing import time_fastest_runs

#: What every model is timed at.
FORWARD_STEP, MEASURE_STEP = "run the model", "run it and measure all hook points"
_PLAIN_FILES_STEP, CACHE_WRITE_STEP = "write means to plain files", "write them to a cache"
_ROWS = 64
#: Numbers of samples whose similarity is computed, to show how the cost grows.
_COMPARED = (50, 100, 200)
_PRODUCT, _LOOP = "compare {} samples with {}: means", "compare {} samples with {}: pairs"
_AGAINST = {
    MEASURE_STEP: FORWARD_STEP,
    CACHE_WRITE_STEP: _PLAIN_FILES_STEP,
    **{_LOOP.format(n, n): _PRODUCT.format(n, n) for n in _COMPARED},
}


@dataclass(frozen=True)
class StepTiming:
    """One step of the way, timed.

    Parameters
    ----------
    step : str
        What was timed.
    seconds : float
        The fastest of the repeats: what the machine can do when nothing disturbs it.
    samples : int
        How many samples went through.
    ratio : float or None
        Seconds per second of ``against``, timed in the same run.
    against : str
        The step that would be there without this package; empty where there is none.
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
        What :func:`ima.models.load_model` takes.
    dataset : str
        What :func:`ima.data.samples.open_samples` takes.
    samples : int
        How many samples.
    batch_size : int
        Samples per forward pass.
    repeats : int
        How often each step is timed.
    device : str
        Where the model runs.

    Returns
    -------
    list of Timing
        Making the samples, encoding, a forward pass alone, one that measures all hook points, making the
        whole cache, reading the means of one hook point; and the means of a model of 32 layers of 4096
        units written to plain files and to a cache. Measuring has its ratio to the pass alone,
        and writing to a cache its ratio to writing plain files. At last the mean cosine over all
        pairs of two sets of vectors, as one product of means and pair by pair, for growing sets.

    Raises
    ------
    ParameterError
        If a number is not positive.
    """
    if min(samples, batch_size, repeats) < 1:
        message = (
            "samples, batch_size and repeats must be at least 1; "
            f"found {samples}, {batch_size} and {repeats}."
        )
        raise ParameterError(message)
    from ima.capture import compute_batch_statistics
    from ima.capture.writer import create_cache
    from ima.models import load_model

    frozen = load_model(model, device=device)
    opened = open_samples(dataset, n=samples)
    batches = frozen.batches(opened, batch_size=batch_size)

    def make() -> None:
        for sample in open_samples(dataset, n=samples):
            if sample.media is not None:
                sample.load()

    with tempfile.TemporaryDirectory(prefix="ima-bench-") as folder:
        store = Path(folder) / "bench.zarr"

        def write() -> None:
            create_cache(
                frozen,
                dataset=opened,
                path=store,
                samples=samples,
                batch_size=batch_size,
                overwrite=True,
                progress=False,
            )

        plain, stored, rows = _writers(Path(folder))
        steps: dict[str, tuple[Callable[[], object], int]] = {
            "make the samples": (make, samples),
            "encode them": (lambda: frozen.batches(opened, batch_size=batch_size), samples),
            FORWARD_STEP: (lambda: [frozen.forward(batch) for batch in batches], samples),
            MEASURE_STEP: (
                lambda: [compute_batch_statistics(frozen, batch) for batch in batches],
                samples,
            ),
            "make a whole cache": (write, samples),
            "read the means of one hook point": (lambda: _read(store), samples),
            _PLAIN_FILES_STEP: (plain, rows),
            CACHE_WRITE_STEP: (stored, rows),
            **_comparisons(),
        }
        best = time_fastest_runs({step: run for step, (run, _) in steps.items()}, repeats=repeats)
    timings = []
    for step, (_, count) in steps.items():
        against = _AGAINST.get(step, "")
        ratio = best[step] / best[against] if against else None
        timings.append(StepTiming(step, best[step], count, ratio, against))
    return timings


def tabulate_pairwise_cost(timings: Sequence[StepTiming]) -> pd.DataFrame:
    """Return how the cost of comparing samples grows, from :func:`benchmark_caching`.

    Returns
    -------
    pandas.DataFrame
        A row per way and number of samples: ``way`` (``means``, ``pairs``), ``samples``,
        ``seconds``.
    """
    ways = {"means": _PRODUCT, "pairs": _LOOP}
    seconds = {timing.step: timing.seconds for timing in timings}
    rows = [
        {"way": way, "samples": n, "seconds": seconds[step.format(n, n)]}
        for way, step in ways.items()
        for n in _COMPARED
    ]
    return pd.DataFrame(rows)


def describe_machine(device: str = "cpu") -> dict[str, str | int]:
    """Say where something was timed.

    Parameters
    ----------
    device : str
        Where models ran.

    Returns
    -------
    dict
        ``device`` (the processor's or the accelerator's name), ``cores`` that this process may use,
        ``threads`` of torch, and the version of ``torch``.
    """
    import torch

    name = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        told = (line.partition(":") for line in facts.read_text(encoding="utf-8").splitlines())
        name = next((value.strip() for key, _, value in told if "model name" in key), name)
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": name,
        "cores": cores or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def write_timings(
    path: str | os.PathLike[str], timings: Sequence[StepTiming], *, what: str, device: str
) -> Path:
    """Keep timings with the machine that they are of, as JSON.

    Parameters
    ----------
    path : str or path
        Where to.
    timings : sequence of Timing
        From :func:`benchmark_caching` or :func:`ima.bench.model_shapes.benchmark_model_shape`.
    what : str
        What was timed: the data set, or the shape and the precision.
    device : str
        Where it ran.

    Returns
    -------
    Path
        The file written.
    """
    record = {
        "what": what,
        **describe_machine(device),
        "timings": [vars(timing) for timing in timings],
    }
    write_json(Path(path), record)
    return Path(path)


def read_timings(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Read what :func:`write_timings` kept.

    Parameters
    ----------
    folder : str or path
        Of JSON files; may be missing.

    Returns
    -------
    pandas.DataFrame
        A row a timing: ``device``, ``what``, ``step``, ``seconds``, ``samples``, ``ratio`` and
        ``against``.

    Raises
    ------
    ParameterError
        If a file is no such record.
    """
    columns = ["device", "what", "step", "seconds", "samples", "ratio", "against"]
    rows = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            rows += [
                {"device": record["device"], "what": record["what"], **vars(StepTiming(**timing))}
                for timing in record["timings"]
            ]
        except (ValueError, TypeError, KeyError) as error:
            message = f"{path} is not what `ima bench --out` writes: {error!r}."
            raise ParameterError(message) from error
    return pd.DataFrame(rows, columns=columns)


def _writers(folder: Path) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Return two functions that write the same numbers, and how many samples they are of."""
    hidden, layers = 4096, 32
    unit = choose_unit_size(_ROWS, layers=layers, hidden=hidden)
    layout = CacheLayout(samples=_ROWS, unit=unit, layers=layers, widths={"resid_post": hidden})
    shape = (unit, len(TOKEN_KINDS), layers + 1, hidden)
    means = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    location = locate_store(folder / "writes.zarr")
    write_store_metadata(location, build_store_metadata(layout.arrays(), {}))
    array = location.group("r+")["means/resid_post/mean"]

    # New files each time: Zarr would read a shard that is there before it writes it anew.
    def plain() -> None:
        for number in range(layout.units):
            (folder / f"plain-{number}").unlink(missing_ok=True)
            (folder / f"plain-{number}").write_bytes(means.data)

    def stored() -> None:
        shutil.rmtree(folder / "writes.zarr/means/resid_post/mean/c", ignore_errors=True)
        for number in range(layout.units):
            start, stop = layout.bounds(number)
            array[start:stop] = means

    return plain, stored, _ROWS


def _comparisons() -> dict[str, tuple[Callable[[], object], int]]:
    """Return the same similarity computed in O(N d) and pair by pair, for growing N."""
    hidden = 4096
    rng = np.random.default_rng(0)
    steps: dict[str, tuple[Callable[[], object], int]] = {}
    for n in _COMPARED:
        a, b = (
            xr.DataArray(rng.standard_normal((n, hidden)), dims=("sample", "hidden"))
            for _ in range(2)
        )
        steps[_PRODUCT.format(n, n)] = (partial(cosine_over_pairs, a, b), n)
        steps[_LOOP.format(n, n)] = (partial(_pair_by_pair, a.to_numpy(), b.to_numpy()), n)
    return steps


def _pair_by_pair(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    total = 0.0
    for x in a:
        for y in b:
            total += x @ y / np.sqrt((x @ x) * (y @ y))
    return total / (len(a) * len(b))


def _read(store: Path) -> None:
    open_cache(store)["means/resid_post/mean"].load()
