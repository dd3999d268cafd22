"""Repair of caches: the units that a check finds damaged are computed again."""

from __future__ import annotations

import os

from ima.cache.provenance import list_attribute_differences, parse_cache_parameters
from ima.cache.store import StoreLocation, locate_store, lock_store
from ima.cache.verification import (
    CacheCheckResult,
    VerificationReport,
    check_cache_files,
    report_of,
)
from ima.capture.work_units import write_work_unit
from ima.capture.writer import make_job_attributes, prepare_capture_job, set_stored_thread_count
from ima.data.samples import SampleSet
from ima.errors import CacheError
from ima.models.frozen import FrozenModel


def repair_cache(
    path: str | os.PathLike[str],
    *,
    model: FrozenModel | None = None,
    dataset: SampleSet | None = None,
) -> VerificationReport:
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
    location = locate_store(path)
    checked = check_cache_files(location)
    problems, repaired = list(checked.problems), set[int]()
    if problems:
        with lock_store(location):
            while checked.problems:
                _repair(location, checked, model=model, dataset=dataset)
                repaired |= checked.units
                # What was damaged can hide other damage: metadata its data, counts their tokens.
                checked = check_cache_files(location)
                if not set(checked.problems).isdisjoint(problems):
                    break
                problems += checked.problems
    return report_of(location, checked, problems=problems, repaired=repaired)


def _repair(
    location: StoreLocation,
    checked: CacheCheckResult,
    *,
    model: FrozenModel | None,
    dataset: SampleSet | None,
) -> None:
    if not checked.units:
        _restore(location, checked)
        return
    parameters = parse_cache_parameters(checked.attributes)
    work = prepare_capture_job(
        parameters, model=model or parameters.model, dataset=dataset or parameters.dataset
    )
    differing = list_attribute_differences(
        checked.attributes, make_job_attributes(work), execution=True
    )
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
    with set_stored_thread_count(checked.attributes):
        for unit in sorted(checked.units):
            write_work_unit(unit, work=work, store=lambda: store)


def _restore(location: StoreLocation, checked: CacheCheckResult) -> None:
    for key, content in checked.restore.items():
        location.write(key, content)
