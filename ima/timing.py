"""Timing of several steps that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def time_fastest_runs(
    steps: Mapping[str, Callable[[], object]], *, repeats: int
) -> dict[str, float]:
    """Time the fastest run of each step.

    The steps take turns, so that a slow spell of the machine affects all of them. A first round
    warms up and does not count.

    Parameters
    ----------
    steps : mapping of str to callable
        By name, what to run.
    repeats : int
        Number of rounds that count.

    Returns
    -------
    dict of str to float
        By name, seconds.

    Examples
    --------
    >>> steps = {"nothing": lambda: None, "sum": lambda: sum(range(9))}
    >>> seconds = time_fastest_runs(steps, repeats=2)
    >>> list(seconds), min(seconds.values()) >= 0
    (['nothing', 'sum'], True)
    """
    rounds = [{step: _time_run(run) for step, run in steps.items()} for _ in range(repeats + 1)]
    return {step: min(seconds[step] for seconds in rounds[1:]) for step in steps}


def _time_run(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
