"""Verification of caches: every byte against its checksum, and repair of what fails."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ima.cache.check import Checked, Problem, check
from ima.cache.provenance import differences, parameters_of
from ima.cache.store import Location, locate, lock
from ima.errors import CacheError

if TYPE_CHECKING:
    from ima.models import FrozenModel
    from ima.samples import SampleSet

__all__ = ["Problem", "Report", "verify"]


@dataclass(frozen=True)
class Report:
    """What :func:`verify` found.

    Parameters
    ----------
    path : str
        The store.
    ok : bool
        Whether everything that the store says it holds is there, now, unaltered.
    samples, done : int
        How many samples the store has room for, and how many are finished.
    files : int
        How many files were read.
    problems : tuple of Problem
        What was damaged.
    repaired : tuple of int
        Units that were computed again.
    unexpected : tuple of str
        Files that do not belong to the cache.
    """

    path: str
    ok: bool
    samples: int
    done: int
    files: int
    problems: tuple[Problem, ...] = ()
    repaired: tuple[int, ...] = ()
    unexpected: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the report as JSON-serialisable values."""
        return asdict(self)


def verify(
    path: str | os.PathLike[str],
    *,
    repair: bool = False,
    model: FrozenModel | None = None,
    dataset: SampleSet | None = None,
) -> Report:
    """Read every file of a cache against its checksums.

    Parameters
    ----------
    path : str or path
        A local folder or an fsspec URL.
    repair : bool
        Whether to compute the damaged units, and no others, again: the store then has the bytes
        that it had before. Needs torch.
    model, dataset : FrozenModel, SampleSet, optional
        What made the cache, where it cannot be opened by the names in the cache's attributes.

    Returns
    -------
    Report
        Samples that are not finished are no problem; damage is.

    Raises
    ------
    CacheError
        If there is no cache, or repair would not give the same bytes.
    CacheSchemaError
        If what is there is not a cache of this schema version.
    CacheCorruptError
        If the root and its copy are both damaged, so that nothing says what the store holds.
    """
    location = locate(path)
    checked = check(location)
    problems, repaired = list(checked.problems), set[int]()
    if repair and problems:
        with lock(location):
            while checked.problems:
                _repair(location, checked, model=model, dataset=dataset)
                repaired |= checked.units
                # What was damaged can hide other damage: metadata its data, counts their tokens.
                checked = check(location)
                if not set(checked.problems).isdisjoint(problems):
                    break
                problems += checked.problems
    return Report(
        path=location.address,
        ok=not checked.problems,
        samples=checked.layout.samples,
        done=int(checked.done.sum()),
        files=checked.files,
        problems=tuple(problems),
        repaired=tuple(sorted(repaired)),
        unexpected=checked.unexpected,
    )


def _repair(
    location: Location,
    checked: Checked,
    *,
    model: FrozenModel | None,
    dataset: SampleSet | None,
) -> None:
    if not checked.units:
        _restore(location, checked)
        return
    from ima.cache.units import write_unit
    from ima.cache.writer import describe, prepare, thread_count

    parameters = parameters_of(checked.attributes)
    work = prepare(
        parameters, model=model or parameters.model, dataset=dataset or parameters.dataset
    )
    differing = differences(checked.attributes, describe(work), execution=True)
    if differing:
        lines = "\n".join(f"  {line}" for line in differing)
        message = (
            f"Repairing {location.address!r} here would not give the bytes that it had:\n{lines}\n"
            "Repair it with what made it, or make it again with --overwrite."
        )
        raise CacheError(message)
    # A repair that is killed leaves an unfinished cache, never a finished one with holes.
    for unit in sorted(checked.units):
        location.delete(f"samples/done/c/{unit}")
    for key in checked.delete:
        location.delete(key)
    _restore(location, checked)
    store = location.group("r+")
    with thread_count(checked.attributes):
        for unit in sorted(checked.units):
            write_unit(unit, work=work, store=lambda: store)


def _restore(location: Location, checked: Checked) -> None:
    for key, content in checked.restore.items():
        location.write(key, content)
