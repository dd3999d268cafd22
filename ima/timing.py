"""Timing of several steps that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def time_rounds(
    steps: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    prepare: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time each step once in every round.

    The steps take turns, so that a slow spell of the machine affects all of them. A first round
    warms up and does not count.

    Parameters
    ----------
    steps : mapping of str to callable
        By name, what to run.
    repeats : int
        Number of rounds that count.
    prepare : callable
        Called before each run; its time does not count.

    Returns
    -------
    dict of str to list of float
        By name, the seconds of each round.

    Examples
    --------
    >>> seconds = time_rounds({"nothing": lambda: None, "sum": lambda: sum(range(9))}, repeats=2)
    >>> {step: len(own) for step, own in seconds.items()}
    {'nothing': 2, 'sum': 2}
    """
    rounds = [
        {step: _time_run(run, prepare) for step, run in steps.items()} for _ in range(repeats + 1)
    ]
    return {step: [seconds[step] for seconds in rounds[1:]] for step in steps}


def time_fastest_runs(
    steps: Mapping[str, Callable[[], object]], *, repeats: int
) -> dict[str, float]:
    """Time the fastest run of each step, in rounds as :func:`time_rounds` runs them.

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
    return {step: min(own) for step, own in time_rounds(steps, repeats=repeats).items()}


def _time_run(run: Callable[[], object], prepare: Callable[[], object]) -> float:
    prepare()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
