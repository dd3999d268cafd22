"""Speed of workers: how a cache that two processes make scales, and what a thousand would cost."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ima.bench.records import BenchRecord
from ima.cache.schema import CacheLayout, choose_unit_size
from ima.cache.store import (
    build_store_metadata,
    locate_store,
    write_array_rows,
    write_store_metadata,
)
from ima.hook_points import HOOK_POINTS

SCALING_STEP = "a cache made by two workers"
#: A language model of 7 billion parameters that reads 576 tokens of a picture and 64 of text.
LARGE_LAYERS, LARGE_HIDDEN, LARGE_INNER, LARGE_PARAMETERS = 32, 4096, 11_008, 6.74e9
LARGE_TOKENS = 640
_MATRIX, _TASKS = 1024, 200
_UNIT = 8


def benchmark_workers(
    model: str = "smollm2/dinov2/image-caption",
    *,
    dataset: str = "drawings-image-caption",
    samples: int = 96,
    repeats: int = 3,
) -> list[BenchRecord]:
    """Time one cache made by one worker and by two, on this machine.

    Parameters
    ----------
    model, dataset : str
        What the workers load.
    samples : int
        Number of samples, in units of eight.
    repeats : int
        Number of rounds. Each worker has one thread. The time includes loading the model.

    Returns
    -------
    list of BenchRecord
        The time of two workers, relative to half of the time of one.

    Raises
    ------
    PartAbsentError
        If a worker does not find the model.

    Examples
    --------
    >>> benchmark_workers(repeats=1)[0].name  # doctest: +SKIP
    'a cache made by two workers'
    """
    from distributed import LocalCluster

    from ima.capture.writer import create_cache

    seconds: dict[int, list[float]] = {1: [], 2: []}
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="ima-bench-")))
        clusters = {
            n: opened.enter_context(
                LocalCluster(
                    n_workers=n, threads_per_worker=1, dashboard_address=":0", memory_limit=0
                )
            )
            for n in seconds
        }
        for number in range(repeats + 1):
            for n, cluster in clusters.items():
                begun = time.perf_counter()
                create_cache(
                    model,
                    dataset=dataset,
                    path=folder / f"{n}-{number}.zarr",
                    samples=samples if number else _UNIT * n,
                    unit=_UNIT,
                    batch_size=_UNIT,
                    progress=False,
                    scheduler=cluster.scheduler_address,
                )
                # In the first round, each worker imports its packages and makes one unit.
                if number:
                    seconds[n].append(time.perf_counter() - begun)
    ratios = [2 * two / one for one, two in zip(seconds[1], seconds[2], strict=True)]
    return [
        BenchRecord(
            SCALING_STEP,
            f"{model}, {samples} samples",
            statistics.median(seconds[2]),
            "s",
            statistics.median(ratios),
            1.3,
            repeats,
            "cpu",
            against="half of the time of one worker",
        )
    ]


@dataclass(frozen=True)
class ClusterConstants:
    """What one part of a cluster does in a second.

    Parameters
    ----------
    flops : float
        Operations of one worker in a second.
    written : float
        Bytes that one worker writes to a store in a second, checksums included.
    tasks : float
        Tasks that one scheduler hands out in a second.
    marks : float
        Units that the process which creates the cache marks as done in a second.
    requests : float
        Files that a store takes in a second. S3 promises 3,500 for one prefix.
    read : float
        Bytes of weights that all workers together read in a second when they start.
    """

    flops: float
    written: float
    tasks: float
    marks: float
    requests: float = 3500.0
    read: float = 10e9


def measure_cluster_constants() -> ClusterConstants:
    """Measure on this machine what can be measured here; the store and the weights are given.

    Returns
    -------
    ClusterConstants
        Operations are those of a product of matrices on the threads that NumPy takes. Client,
        scheduler and worker share one process, so a scheduler of its own hands out more tasks.

    Examples
    --------
    >>> measure_cluster_constants().tasks > 10  # doctest: +SKIP
    True
    """
    from distributed import Client, LocalCluster

    from ima.capture.work_units import mark_work_unit

    matrix = np.random.default_rng(0).random((_MATRIX, _MATRIX), dtype="float32")
    flops = 2 * _MATRIX**3 / _time_once(lambda: matrix @ matrix)
    with tempfile.TemporaryDirectory(prefix="ima-bench-") as folder:
        layout = make_large_layout(64)
        location = locate_store(Path(folder) / "unit.zarr")
        write_store_metadata(location, build_store_metadata(layout.arrays(), {}))
        group, path = location.group("r+"), "means/resid_post/mean"
        values = np.zeros((layout.unit, 2, LARGE_LAYERS + 1, LARGE_HIDDEN), "float32")
        rows = slice(0, layout.unit)
        written = values.nbytes / _time_once(
            lambda: write_array_rows(group, path=path, index=rows, values=values)
        )
        marks = 1 / _time_once(lambda: mark_work_unit(0, layout=layout, group=group))
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):

        def hand_out() -> Any:
            return client.gather(client.map(_do_nothing, range(_TASKS), pure=False))

        tasks = _TASKS / _time_once(hand_out)
    return ClusterConstants(flops, written, tasks, marks)


def _do_nothing(number: int) -> int:
    return number


def _time_once(run: Callable[[], object]) -> float:
    """Return the seconds of the faster of two runs; the first one also loads what is needed."""
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def make_large_layout(samples: int, *, tokens: int = 0) -> CacheLayout:
    """Return the layout of a cache of a model of 7 billion parameters, at all hook points.

    Parameters
    ----------
    samples : int
        Number of samples.
    tokens : int
        Number of token states per layer and hook point.

    Examples
    --------
    >>> round(make_large_layout(1000).nbytes / 1000 / 1e6, 1)  # MB for a sample
    9.1
    """
    widths = {name: LARGE_INNER if name == "mlp_post" else LARGE_HIDDEN for name in HOOK_POINTS}
    unit = choose_unit_size(samples, layers=LARGE_LAYERS, hidden=LARGE_HIDDEN)
    return CacheLayout(samples, unit, layers=LARGE_LAYERS, widths=widths, tokens=tokens)


@dataclass(frozen=True)
class LargeModelBytes:
    """What a model of 7 billion parameters and its caches take, in bytes.

    Parameters
    ----------
    weights : float
        The weights, of two bytes each.
    means : float
        A sample in a cache at all hook points.
    states : float
        The states of all tokens of a sample, where the cache keeps them.
    """

    weights: float
    means: float
    states: float


def compute_large_bytes() -> LargeModelBytes:
    """Compute what a model of 7 billion parameters and its caches take.

    Examples
    --------
    >>> size = compute_large_bytes()
    >>> [round(each / 1e9, 3) for each in (size.weights, size.means, size.states)]
    [13.48, 0.009, 1.463]
    """
    samples = 1000
    means = make_large_layout(samples).nbytes
    states = make_large_layout(samples, tokens=LARGE_TOKENS).nbytes - means
    return LargeModelBytes(2 * LARGE_PARAMETERS, means / samples, states)


@dataclass(frozen=True)
class ClusterRun:
    """What a cache costs that many workers make.

    Parameters
    ----------
    seconds : float
        From the start to the last unit. Beyond the first limit, more workers wait for its part.
    loading : float
        Seconds of it until all workers have read the weights.
    nbytes : int
        Bytes of the cache.
    requests : int
        Files that are written.
    limits : pandas.DataFrame
        A row for each part of the cluster, the one that breaks first on top: ``part``, ``demand``
        and ``capacity`` in a second, ``unit``, and ``workers``: how many can use the part at once.
    """

    seconds: float
    loading: float
    nbytes: int
    requests: int
    limits: pd.DataFrame


def estimate_cluster_run(
    layout: CacheLayout,
    *,
    workers: int,
    constants: ClusterConstants,
    parameters: float = LARGE_PARAMETERS,
    tokens: int = LARGE_TOKENS,
) -> ClusterRun:
    """Estimate what a cache costs that many workers make, and what breaks first.

    Parameters
    ----------
    layout : CacheLayout
        The cache.
    workers : int
        Number of workers.
    constants : ClusterConstants
        What each part of the cluster does in a second.
    parameters : float
        Parameters of the model, of two bytes each.
    tokens : int
        Tokens of a sample.

    Examples
    --------
    >>> constants = ClusterConstants(flops=1e14, written=1e9, tasks=1000, marks=500)
    >>> run = estimate_cluster_run(make_large_layout(10**6), workers=1000, constants=constants)
    >>> run.limits["part"].tolist()[0]
    'requests of the store'
    """
    arrays = layout.arrays()
    requests = sum(
        int(np.prod([-(-size // part) for size, part in zip(a.shape, a.files, strict=True)]))
        for a in arrays
        if a.values is None  # noqa: PD011
    )
    computing = 2 * parameters * tokens * layout.unit / constants.flops
    # Writing overlaps the next batch for token states only; means are written after their unit.
    unit_seconds = computing + layout.nbytes / layout.units / constants.written
    # What the workers ask for; they get no more than the part that breaks first gives.
    units = workers / unit_seconds
    loading = 2 * parameters * workers / constants.read
    rows = [
        ("requests of the store", requests / layout.units * units, constants.requests, "files"),
        ("tasks of the scheduler", units, constants.tasks, "tasks"),
        ("marks of finished units", units, constants.marks, "units"),
    ]
    limits = pd.DataFrame(rows, columns=["part", "demand", "capacity", "unit"])
    served = limits["capacity"] / limits["demand"]
    limits["workers"] = (workers * served).astype(int)
    return ClusterRun(
        seconds=loading + layout.units / (units * min(1.0, served.min())),
        loading=loading,
        nbytes=layout.nbytes,
        requests=requests,
        limits=limits.sort_values("workers", ignore_index=True),
    )


def describe_cluster_size(
    layout: CacheLayout, *, workers: int, constants: ClusterConstants, called: str
) -> str:
    """Say how many workers a cluster can use, how long these take, and how long others do.

    Parameters
    ----------
    layout : CacheLayout
        The cache.
    workers : int
        The number of workers that is compared with how many the first part can serve.
    constants : ClusterConstants
        What each part of the cluster does in a second.
    called : str
        What the workers are, in the plural.

    Examples
    --------
    >>> constants = ClusterConstants(flops=2e14, written=1e9, tasks=1000, marks=500)
    >>> layout = make_large_layout(10**6)
    >>> print(describe_cluster_size(layout, workers=1000, constants=constants, called="machines"))
    44 machines take 21 minutes: no more of them can use the requests of the store. More only load \
longer: 1,000 take 42 minutes, of which the weights take 22 minutes.
    """
    run = estimate_cluster_run(layout, workers=workers, constants=constants)
    part, enough = run.limits["part"][0], max(1, int(run.limits["workers"][0]))
    if workers <= enough:
        took = _say_duration(run.seconds)
        return f"{workers:,} {called} take {took}. No more than {enough:,} can use the {part}."
    few = estimate_cluster_run(layout, workers=enough, constants=constants)
    return (
        f"{enough:,} {called} take {_say_duration(few.seconds)}: no more of them can use the "
        f"{part}. More only load longer: {workers:,} take {_say_duration(run.seconds)}, of which "
        f"the weights take {_say_duration(run.loading)}."
    )


def _say_duration(seconds: float) -> str:
    """Say a duration in the largest unit of which there are two."""
    units = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
    unit = next((name for name, length in units.items() if seconds >= 2 * length), "seconds")
    number = seconds / units[unit]
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
