"""Growth of the measures of the Findings with the number of samples: time and memory."""

from __future__ import annotations

import ctypes
import gc
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ima.bench.records import BenchRecord, read_resident_memory
from ima.bench.synthetic_caches import write_synthetic_cache
from ima.cache.cache_set import CacheSet, open_cache_set
from ima.measures import (
    alignment,
    baselines,
    cone_gaps,
    cones,
    hook_point_comparison,
    labelled_states,
    neighbours,
    norms,
    separability,
)

TIME_RECORD, MEMORY_RECORD = "time of a measure", "memory of a measure"
#: Numbers of samples in each of two data sets. The last two are compared; the first shows what a
#: measure takes at any size.
_SIZES = (200, 2_000, 20_000)
_LAYERS, _HIDDEN = 4, 64
_RESAMPLES = 100
#: Time may grow by this factor beyond the number of samples.
_TIME_LIMIT = 1.2
#: Part of the additional means that may be in memory at once.
_MEMORY_LIMIT = 0.5
#: Measures that compare each sample with all others, by their definition.
_OVER_PAIRS = ("nearest neighbours (F1.2)", "retrieval@1 (F3.1, beside)")
_INTERVAL_SECONDS = 0.002

_Measure = Callable[[CacheSet], object]


@dataclass(frozen=True)
class MeasureCost:
    """What a measure takes.

    Parameters
    ----------
    seconds : float
        Time of the processor, of all threads.
    peak : int
        Bytes of memory at the highest, beyond those before.
    """

    seconds: float
    peak: int


def list_measures(*, resamples: int = _RESAMPLES) -> Mapping[str, _Measure]:
    """List the measures of the Findings that read caches, by name.

    Parameters
    ----------
    resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    mapping of str to callable
        Each takes a cache set.

    Examples
    --------
    >>> list(list_measures())[:2]
    ['similarity of all pairs (F1.1)', 'pairs of the same wording (F1.1)']
    """
    draws: dict[str, Any] = {"resamples": resamples, "seed": 0}

    def group(own: CacheSet) -> dict[str, list[npt.NDArray[np.int64]]]:
        counts = {name: array.sizes["sample"] for name, array in own.means.items()}
        return {name: [np.arange(first, n, 5) for first in range(5)] for name, n in counts.items()}

    def label(own: CacheSet) -> pd.DataFrame:
        given = {"modalities": own.modalities, "tasks": own.tasks}
        return labelled_states.list_labelled_states(own.means, **given)

    return {
        "similarity of all pairs (F1.1)": lambda own: cone_gaps.compute_cone_gaps(
            cones.compute_similarity_terms(own.means, **draws)
        ),
        "pairs of the same wording (F1.1)": lambda own: cones.compute_group_terms(
            own.means, groups=group(own), **draws
        ),
        "silhouette (F1.2)": lambda own: separability.compute_silhouette(
            own.means, states=label(own), **draws
        ),
        "nearest neighbours (F1.2)": lambda own: neighbours.compare_nearest_neighbours(
            own.means, states=label(own)
        ),
        "norms (F1.3)": lambda own: norms.average_over_samples(
            own.read_arrays("norms/resid_post/median"), **draws
        ),
        "drift (F1.4)": lambda own: norms.average_layer_drift(
            own.read_arrays("drift/cosine"), step=1, **draws
        ),
        "PvsT by layer (F3.1)": lambda own: alignment.compute_alignment_curves(own.means, **draws),
        "PvsT by hook point (F3.3)": lambda own: hook_point_comparison.compute_hook_point_alignment(
            own.read_hook_points(), **draws
        ),
        "retrieval@1 (F3.1, beside)": lambda own: baselines.compute_retrieval_curve(
            own.means, **draws
        ),
    }


def benchmark_measure_growth() -> list[BenchRecord]:
    """Measure how time and memory of each measure grow from 2,000 to 20,000 samples.

    Returns
    -------
    list of BenchRecord
        Two for each measure. Time: relative to ten times that of a tenth of the samples. Memory:
        growth of the peak, relative to that of the means on disk; 1 means that all is held. The
        time of measures that compare each sample with all others has no limit.

    Examples
    --------
    >>> benchmark_measure_growth()  # doctest: +SKIP
    """
    with tempfile.TemporaryDirectory(prefix="ima-bench-") as folder:
        paths = {n: _write_caches(Path(folder), samples=n) for n in _SIZES}
        return [
            record
            for name, run in list_measures().items()
            for record in _compare_sizes(name, run, paths)
        ]


def _write_caches(folder: Path, *, samples: int) -> list[Path]:
    paths = []
    for seed, modality in enumerate(("image", "audio")):
        paths.append(folder / f"{modality}-{samples}.zarr")
        write_synthetic_cache(
            paths[-1],
            samples=samples,
            layers=_LAYERS,
            hidden=_HIDDEN,
            modality=modality,
            filled=("samples/*", "means/*", "norms/*", "drift/*"),
            seed=seed,
        )
    return paths


def _compare_sizes(name: str, run: _Measure, paths: Mapping[int, list[Path]]) -> list[BenchRecord]:
    costs = {n: measure_cost(run, open_cache_set(own)) for n, own in paths.items()}
    _, smaller, larger = _SIZES
    factor = larger / smaller
    means = {n: sum(each.nbytes for each in open_cache_set(paths[n]).means.values()) for n in costs}
    is_over_pairs = name in _OVER_PAIRS
    grown = costs[larger].peak - costs[smaller].peak
    return [
        BenchRecord(
            TIME_RECORD,
            name,
            costs[larger].seconds,
            "s",
            costs[larger].seconds / (factor * costs[smaller].seconds),
            None if is_over_pairs else _TIME_LIMIT,
            1,
            "cpu",
            against=f"{factor:g} times that of {smaller:,} samples",
        ),
        BenchRecord(
            MEMORY_RECORD,
            name,
            costs[larger].peak / 2**20,
            "MiB",
            max(0, grown) / (means[larger] - means[smaller]),
            _MEMORY_LIMIT,
            1,
            "cpu",
            against=f"growth of the means on disk from {smaller:,} to {larger:,} samples",
        ),
    ]


def measure_cost(run: _Measure, cache_set: CacheSet) -> MeasureCost:
    """Measure time and memory of one call.

    Parameters
    ----------
    run : callable
        The measure.
    cache_set : CacheSet
        What it reads.

    Returns
    -------
    MeasureCost
        Its cost.

    Examples
    --------
    >>> measure_cost(lambda own: own.means, open_cache_set(["image.zarr"]))  # doctest: +SKIP
    MeasureCost(seconds=0.01, peak=0)
    """
    _return_free_memory()
    before, highest, ended = read_resident_memory(), [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(_INTERVAL_SECONDS):
            highest[0] = max(highest[0], read_resident_memory())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.process_time()
    run(cache_set)
    seconds = time.process_time() - start
    ended.set()
    watcher.join()
    return MeasureCost(seconds, max(0, int((highest[0] - before) * 2**20)))


def _return_free_memory() -> None:
    """Return to the system what the allocator keeps of arrays that are gone.

    Else a measure after a larger one would seem to take no memory.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
