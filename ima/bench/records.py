"""Records of benchmarks: a ratio to what is needed anyway, and the limit that it should keep."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ima.errors import ParameterError
from ima.files import write_json
from ima.timing import time_rounds

_EXTRA = "extra work of "


@dataclass(frozen=True)
class BenchRecord:
    """One measured speed.

    Parameters
    ----------
    name : str
        What was measured.
    subject : str
        The model or store, and the number of threads where it matters.
    value : float
        The measured value, the median over rounds.
    unit : str
        Its unit, such as ``s`` or ``MiB``.
    ratio : float
        The value relative to what is needed anyway; lower is better. Median over rounds of the
        ratio within a round.
    limit : float or None
        The largest ratio that passes; None for what is shown beside.
    n : int
        Number of rounds.
    device : str
        Device that ran it.
    against : str
        What the ratio is relative to.
    floor : float or None
        The smallest ratio that this machine allows, whatever the code; None if not known.
    """

    name: str
    subject: str
    value: float
    unit: str
    ratio: float
    limit: float | None
    n: int
    device: str
    against: str = ""
    floor: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the ratio keeps its limit; true without a limit."""
        return self.limit is None or self.ratio <= self.limit


@dataclass(frozen=True)
class TimedStep:
    """A step of a benchmark.

    Parameters
    ----------
    name : str
        What it does.
    run : callable
        Does it once.
    limit : float or None
        The largest ratio to the reference that passes; None for a step without a limit.
    extra : callable or None
        Does what any code must do in addition, such as to read each activation once. It gives the
        record's ``floor``. None if there is nothing.
    overlaps : bool
        Whether the extra work can go on beside the reference, as a disk writes while a processor
        computes.
    against : str
        Another step that is its reference instead; empty for the one of all.
    """

    name: str
    run: Callable[[], object]
    limit: float | None = None
    extra: Callable[[], object] | None = None
    overlaps: bool = False
    against: str = ""


def time_against(
    reference: TimedStep,
    steps: Sequence[TimedStep],
    *,
    subject: str,
    repeats: int,
    device: str = "cpu",
    prepare: Callable[[], object] = lambda: None,
) -> list[BenchRecord]:
    """Time steps and a reference in alternation and record their ratios.

    Parameters
    ----------
    reference : TimedStep
        What is needed anyway.
    steps : sequence of TimedStep
        What is compared with it.
    subject : str
        The model or store.
    repeats : int
        Number of rounds.
    device : str
        Device that runs the steps.
    prepare : callable
        Called before each run; its time does not count.

    Returns
    -------
    list of BenchRecord
        One for each step, in seconds.

    Examples
    --------
    >>> steps = [TimedStep("twice", lambda: sum(range(2000)), limit=9.0)]
    >>> records = time_against(
    ...     TimedStep("once", lambda: sum(range(1000))), steps, subject="a sum", repeats=3
    ... )
    >>> [(record.name, record.against, record.n) for record in records]
    [('twice', 'once', 3)]
    """
    everything = {step.name: step.run for step in (reference, *steps)}
    extras = {_EXTRA + step.name: step.extra for step in steps if step.extra is not None}
    seconds = time_rounds({**everything, **extras}, repeats=repeats, prepare=prepare)

    bases = {step.name: step.against or reference.name for step in steps}

    def compute_floor(step: TimedStep) -> float:
        if step.extra is None:
            return 1.0
        ratio = compare(_EXTRA + step.name, base=bases[step.name])
        return max(1.0, ratio) if step.overlaps else 1.0 + ratio

    def compare(name: str, *, base: str) -> float:
        pairs = zip(seconds[name], seconds[base], strict=True)
        return statistics.median(own / other for own, other in pairs)

    return [
        BenchRecord(
            name=step.name,
            subject=subject,
            value=statistics.median(seconds[step.name]),
            unit="s",
            ratio=compare(step.name, base=bases[step.name]),
            limit=step.limit,
            n=repeats,
            device=device,
            against=bases[step.name],
            floor=compute_floor(step),
        )
        for step in steps
    ]


def read_resident_memory() -> float:
    """Read how much memory of this process is in use, in MiB.

    Pages of files do not count: the system takes them back whenever it likes, so that the memory of
    two moments would differ by what the process did not do.

    Examples
    --------
    >>> read_resident_memory() > 1
    True
    """
    _, resident, of_files, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return (int(resident) - int(of_files)) * os.sysconf("SC_PAGE_SIZE") / 2**20


def write_records(
    path: str | os.PathLike[str], records: Sequence[BenchRecord], *, machine: Mapping[str, Any]
) -> Path:
    """Write records and a description of their machine as JSON.

    Parameters
    ----------
    path : str or path
        The file.
    records : sequence of BenchRecord
        What was measured.
    machine : mapping
        From :func:`ima.bench.speed.describe_machine`, with the ``date`` and ``commit``.

    Returns
    -------
    Path
        The file that was written.

    Examples
    --------
    >>> write_records("_build/bench.json", records, machine=machine)  # doctest: +SKIP
    PosixPath('_build/bench.json')
    """
    target = Path(path)
    write_json(target, {"machine": dict(machine), "records": [asdict(each) for each in records]})
    return target


def read_records(paths: Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Read files that :func:`write_records` wrote.

    Parameters
    ----------
    paths : sequence of str or path
        The files.

    Returns
    -------
    pandas.DataFrame
        A row for each record: its fields, ``met``, the ``run`` (0 for the first file), and what
        describes its machine. The ``device`` is the machine's.

    Raises
    ------
    ParameterError
        If a file was not written by :func:`write_records`.

    Examples
    --------
    >>> read_records([]).empty
    True
    """
    rows = []
    for run, path in enumerate(map(Path, paths)):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            machine = dict(content["machine"])
            records = [BenchRecord(**each) for each in content["records"]]
        except (ValueError, TypeError, KeyError) as error:
            raise ParameterError(
                f"{path} is not what `ima bench` writes: {error!r}. Measure again: make bench"
            ) from error
        rows += [{**asdict(each), "met": each.is_met, "run": run, **machine} for each in records]
    return pd.DataFrame(rows)
