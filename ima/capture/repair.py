"""Repair of caches: compute the damaged units of work again, and no others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ima.cache.addresses import format_cache_command
from ima.cache.provenance import list_attribute_differences, parse_cache_parameters
from ima.cache.schema1 import require_schema_2
from ima.cache.store import StoreLocation, locate_store, lock_store
from ima.cache.verification import (
    CacheProblem,
    VerificationReport,
    build_initial_files,
    read_trusted_metadata,
    verify_cache,
)
from ima.capture.jobs import make_job_attributes, prepare_capture_job, use_threads
from ima.capture.work_units import write_work_unit
from ima.capture.writer import explain_memory_errors, explain_write_errors
from ima.data.samples import SampleSet
from ima.errors import CacheError
from ima.models.frozen import FrozenModel


def repair_cache(
    path: str | os.PathLike[str],
    *,
    model: FrozenModel | None = None,
    dataset: SampleSet | None = None,
) -> VerificationReport:
    """Give a damaged cache back the bytes that it had.

    Parameters
    ----------
    path : str or path
        A local folder, or a URL as for :func:`ima.cache.reader.open_cache`.
    model, dataset : FrozenModel, SampleSet, optional
        What made the cache, where the names in its attributes do not open it.

    Returns
    -------
    VerificationReport
        What was damaged, and which units were computed again.

    Raises
    ------
    CacheError
        If there is no cache, or repair would not give the same bytes.
    CacheSchemaError
        If the store is not a cache, or a damaged one of schema 1, which is not written.
    CacheCorruptError
        If the root and its copy are both damaged: nothing states what the store holds.

    Examples
    --------
    >>> repair_cache("data/caches/llama-mini--image.zarr").repaired  # doctest: +SKIP
    (3,)
    """
    location = locate_store(path)
    report = verify_cache(path)
    problems, repaired = list(report.problems), set[int]()
    if problems:
        command = format_cache_command("verify", location.address, "--repair")
        with (
            lock_store(location),
            explain_memory_errors(location, command=command),
            explain_write_errors(location, command=command),
        ):
            while report.problems:
                _repair(location, report.problems, model=model, dataset=dataset)
                repaired |= {unit for problem in report.problems for unit in problem.units}
                # Damage can hide other damage: that of metadata its data, that of counts tokens.
                report = verify_cache(path)
                if not set(report.problems).isdisjoint(problems):
                    break
                problems += report.problems
    return replace(report, problems=tuple(problems), repaired=tuple(sorted(repaired)))


def _repair(
    location: StoreLocation,
    problems: Sequence[CacheProblem],
    *,
    model: FrozenModel | None,
    dataset: SampleSet | None,
) -> None:
    attributes, metadata = read_trusted_metadata(location)
    parameters = parse_cache_parameters(attributes)
    command = parameters.command(location.address)
    require_schema_2(attributes, address=location.address, command=command)
    initial = {**build_initial_files(attributes), **metadata}
    units = sorted({unit for problem in problems for unit in problem.units})
    if units:
        job = prepare_capture_job(
            parameters, model=model or parameters.model, dataset=dataset or parameters.dataset
        )
        differing = list_attribute_differences(attributes, make_job_attributes(job), execution=True)
        if differing:
            lines = "\n".join(f"  {line}" for line in differing)
            raise CacheError(
                f"Repairing {location.address!r} here would not give the bytes that it had:\n"
                f"{lines}\nRepair it with what made it, or make it again with --overwrite."
            )
    # A repair that is killed leaves an unfinished cache, never a finished one with holes.
    for unit in units:
        location.delete(f"samples/done/c/{unit}")
    for problem in problems:
        if problem.file in initial:
            location.write(problem.file, initial[problem.file])
        else:
            location.delete(problem.file)
    if units:
        store = location.group("r+")
        with use_threads(attributes["execution"]["threads"]):
            for unit in units:
                write_work_unit(unit, job=job, store=lambda: store)
