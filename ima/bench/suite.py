"""All benchmarks that have a limit, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial

from ima.bench.capture_speed import (
    CAPTURE_SUBJECTS,
    benchmark_capture,
    benchmark_capture_memory,
)
from ima.bench.measure_growth import benchmark_measure_growth
from ima.bench.peers import PEERS, benchmark_peer
from ima.bench.records import BenchRecord
from ima.bench.storage_speed import benchmark_storage
from ima.bench.worker_speed import benchmark_workers
from ima.errors import PartAbsentError, UnknownNameError

_Benchmark = Callable[[], list[BenchRecord]]


def list_benchmarks(*, repeats: int = 7) -> Mapping[str, _Benchmark]:
    """List the benchmarks by name.

    Parameters
    ----------
    repeats : int
        Rounds of each.

    Returns
    -------
    mapping of str to callable
        Each returns its records.

    Examples
    --------
    >>> list(list_benchmarks())[-4:]
    ['capture/memory', 'storage', 'measures', 'workers']
    """
    capture: dict[str, _Benchmark] = {
        f"capture/{subject.shape or subject.model}/{threads}": partial(
            benchmark_capture, subject, threads=threads, repeats=repeats
        )
        for subject in CAPTURE_SUBJECTS
        for threads in (1, 2)
    }
    peers: dict[str, _Benchmark] = {
        f"peers/{name}": partial(benchmark_peer, name, repeats=repeats) for name in PEERS
    }
    return {
        **capture,
        **peers,
        "capture/memory": lambda: [benchmark_capture_memory()],
        "storage": partial(benchmark_storage, repeats=repeats),
        "measures": benchmark_measure_growth,
        "workers": benchmark_workers,
    }


def run_benchmarks(
    only: Sequence[str] = (), *, repeats: int = 7
) -> Iterator[tuple[str, list[BenchRecord] | PartAbsentError]]:
    """Run benchmarks and yield their records as they come.

    Parameters
    ----------
    only : sequence of str
        Patterns of names (:func:`list_benchmarks`), such as ``capture/*``. Empty: all.
    repeats : int
        Rounds of each.

    Yields
    ------
    str, list of BenchRecord or PartAbsentError
        The name of a benchmark, and what it measured, or which part is absent.

    Raises
    ------
    UnknownNameError
        If a pattern fits no benchmark.

    Examples
    --------
    >>> dict(run_benchmarks(["storage"]))  # doctest: +SKIP
    """
    benchmarks = list_benchmarks(repeats=repeats)
    for pattern in only:
        if not any(fnmatch(name, pattern) for name in benchmarks):
            raise UnknownNameError.among(kind="benchmark", asked=pattern, available=benchmarks)
    for name, run in benchmarks.items():
        if not only or any(fnmatch(name, pattern) for pattern in only):
            try:
                yield name, run()
            except PartAbsentError as error:
                yield name, error
