"""How fast this machine goes from samples to a cache and back."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima import cache
from ima.cache.schema import KINDS, Layout
from ima.cache.shards import default_unit
from ima.cache.store import locate, place, skeleton
from ima.errors import ParameterError
from ima.measures.similarity import cross
from ima.samples import open_samples

#: What every model is timed at.
PASS, MEASURE = "run the model", "run it and measure all taps"
_PLAIN, _STORED = "write means to plain files", "write them to a cache"
_ROWS = 64
#: Numbers of samples whose similarity is computed, to show how the cost grows.
_COMPARED = (50, 100, 200)
_PRODUCT, _LOOP = "compare {} samples with {}: means", "compare {} samples with {}: pairs"
_AGAINST = {
    MEASURE: PASS,
    _STORED: _PLAIN,
    **{_LOOP.format(n, n): _PRODUCT.format(n, n) for n in _COMPARED},
}


@dataclass(frozen=True)
class Timing:
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


def bench(
    model: str,
    *,
    dataset: str,
    samples: int = 64,
    batch_size: int = 16,
    repeats: int = 3,
    device: str = "cpu",
) -> list[Timing]:
    """Time each step from samples to a cache and back.

    Parameters
    ----------
    model : str
        What :func:`ima.models.load` takes.
    dataset : str
        What :func:`ima.samples.open_samples` takes.
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
        Making the samples, encoding, a forward pass alone, one that measures all taps, making the
        whole cache, reading the means of one tap; and the means of a model of 32 layers of 4096
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
    from ima.capture import measure
    from ima.models import load

    frozen = load(model, device=device)
    opened = open_samples(dataset, n=samples)
    batches = frozen.batches(opened, batch_size=batch_size)

    def make() -> None:
        for sample in open_samples(dataset, n=samples):
            if sample.media is not None:
                sample.load()

    with tempfile.TemporaryDirectory(prefix="ima-bench-") as folder:
        store = Path(folder) / "bench.zarr"

        def write() -> None:
            cache.create(
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
            PASS: (lambda: [frozen.forward(batch) for batch in batches], samples),
            MEASURE: (lambda: [measure(frozen, batch) for batch in batches], samples),
            "make a whole cache": (write, samples),
            "read the means of one tap": (lambda: _read(store), samples),
            _PLAIN: (plain, rows),
            _STORED: (stored, rows),
            **_comparisons(),
        }
        best = fastest({step: run for step, (run, _) in steps.items()}, repeats=repeats)
    timings = []
    for step, (_, count) in steps.items():
        against = _AGAINST.get(step, "")
        ratio = best[step] / best[against] if against else None
        timings.append(Timing(step, best[step], count, ratio, against))
    return timings


def fastest(steps: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, float]:
    """Return the fastest of each step's runs; the steps take turns, so that a slow spell hits all.

    A first round warms up and does not count.
    """
    rounds = [{step: _seconds(run) for step, run in steps.items()} for _ in range(repeats + 1)]
    return {step: min(timed[step] for timed in rounds[1:]) for step in steps}


def _writers(folder: Path) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Return two functions that write the same numbers, and how many samples they are of."""
    hidden, layers = 4096, 32
    unit = default_unit(_ROWS, layers=layers, hidden=hidden)
    layout = Layout(samples=_ROWS, unit=unit, layers=layers, widths={"resid_post": hidden})
    shape = (unit, len(KINDS), layers + 1, hidden)
    means = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    location = locate(folder / "writes.zarr")
    place(location, skeleton(layout.arrays(), {}))
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
        steps[_PRODUCT.format(n, n)] = (partial(cross, a, b), n)
        steps[_LOOP.format(n, n)] = (partial(_pair_by_pair, a.to_numpy(), b.to_numpy()), n)
    return steps


def _pair_by_pair(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    total = 0.0
    for x in a:
        for y in b:
            total += x @ y / np.sqrt((x @ x) * (y @ y))
    return total / (len(a) * len(b))


def _read(store: Path) -> None:
    cache.open_cache(store)["means/resid_post/mean"].load()


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
