"""Timing: the fastest of several runs, the steps taking turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def time_fastest_runs(
    steps: Mapping[str, Callable[[], object]], *, repeats: int
) -> dict[str, float]:
    """Return the fastest of each step's runs; the steps take turns, so that a slow spell hits all.

    A first round warms up and does not count.
    """
    rounds = [{step: _seconds(run) for step, run in steps.items()} for _ in range(repeats + 1)]
    return {step: min(timed[step] for timed in rounds[1:]) for step in steps}


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
