"""Repair of caches: the units that a check finds damaged are computed again."""

from __future__ import annotations

import os

from ima.cache.provenance import differences, parameters_of
from ima.cache.store import Location, locate, lock
from ima.cache.verification import Checked, Report, check, report_of
from ima.capture.work_units import write_unit
from ima.capture.writer import describe, prepare, thread_count
from ima.data.samples import SampleSet
from ima.errors import CacheError
from ima.models.frozen import FrozenModel


def repair_cache(
    path: str | os.PathLike[str],
    *,
    model: FrozenModel | None = None,
    dataset: SampleSet | None = None,
) -> Report:
    """Compute the damaged units of a cache, and no others, again: it has the bytes it had before.

    Parameters
    ----------
    path : str or path
        A local folder or an fsspec URL.
    model, dataset : FrozenModel, SampleSet, optional
        What made the cache, where it cannot be opened by the names in the cache's attributes.

    Returns
    -------
    Report
        What was damaged, and which units were computed again.

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
    if problems:
        with lock(location):
            while checked.problems:
                _repair(location, checked, model=model, dataset=dataset)
                repaired |= checked.units
                # What was damaged can hide other damage: metadata its data, counts their tokens.
                checked = check(location)
                if not set(checked.problems).isdisjoint(problems):
                    break
                problems += checked.problems
    return report_of(location, checked, problems=problems, repaired=repaired)


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
