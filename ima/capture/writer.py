"""Writer of caches: check everything, then compute unit after unit; a stopped run continues."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ima.cache.provenance import (
    list_attribute_differences,
    parse_cache_parameters,
    validate_cache_parameters,
)
from ima.cache.reader import read_cache_attributes, read_done_mask
from ima.cache.schema import is_cache_file, is_leftover_file
from ima.cache.schema1 import require_schema_2
from ima.cache.store import (
    ROOT_METADATA_FILE,
    StoreLocation,
    build_store_metadata,
    describe_write_error,
    explain_space,
    locate_store,
    lock_store,
    make_unwritable_error,
    write_store_metadata,
)
from ima.capture.jobs import (
    CaptureWork,
    get_precision,
    make_job_attributes,
    prepare_capture_job,
    use_threads,
)
from ima.capture.work_units import CaptureJob, write_work_unit
from ima.capture.workers import connect_workers, require_shared_address
from ima.data.samples import SampleSet
from ima.errors import (
    CacheDifferentError,
    CacheError,
    CacheLockedError,
    CacheUnreachableError,
    ImaError,
    ModelError,
    ParameterError,
    SampleError,
    SchedulerError,
    WorkerError,
)
from ima.models.frozen import FrozenModel
from ima.models.memory import is_out_of_memory
from ima.progress import make_progress_bar

logger = logging.getLogger("ima")


def create_cache(
    model: str | FrozenModel,
    *,
    dataset: str | SampleSet,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    progress: bool = True,
    scheduler: str = "",
    **settings: Any,
) -> Path | str:
    """Run a frozen model over samples and store its activations, or continue a stopped run.

    Parameters
    ----------
    model : str or FrozenModel
        What :func:`ima.models.load_model` takes, or what it returned.
    dataset : str or SampleSet
        What :func:`ima.data.samples.open_samples` takes, or what it returned.
    path : str or path
        The store: a local folder, or a URL that starts with ``s3://``, ``gs://`` or ``memory://``.
    overwrite : bool
        Whether to replace the cache that is there, finished or not, whatever its settings are. A
        folder that holds anything else, too, is refused.
    progress : bool
        Whether to show a progress bar on a terminal.
    scheduler : str
        Where workers compute the units side by side: ``"local:2"`` starts two on this machine;
        otherwise the address of a scheduler of Dask, or its scheduler file. The workers load model
        and data set by name, and must reach the path. Empty: this process computes. The bytes do
        not depend on it.
    **settings
        Other fields of :class:`ima.cache.provenance.CacheParameters`, such as ``samples``,
        ``hook_points`` and ``keep_tokens``. A loaded model determines ``device`` and ``precision``
        itself.

    Returns
    -------
    Path or str
        Where the finished store is: a path if it is local, else its URL.

    Raises
    ------
    UnknownNameError
        If the model, the data set, a setting or a hook point does not exist.
    ParameterError
        If a setting has the wrong type or lies outside its range.
    SampleError
        If a sample cannot be used.
    ActivationError
        If an activation is NaN, infinite or beyond the range of ``dtype``.
    CacheError
        If the store is not finished and cannot be written.
    CacheDifferentError
        If it holds a cache of other settings.
    CacheLockedError
        If another process is writing the store.
    CacheSchemaError
        If it holds an unfinished cache of schema 1.
    SchedulerError
        If the scheduler does not answer, or has no workers.
    WorkerError
        If a worker cannot do its part.

    Examples
    --------
    >>> create_cache(  # doctest: +SKIP
    ...     "llama-mini/vit/image-caption",
    ...     dataset="mini-image-caption",
    ...     path="mine.zarr",
    ...     samples=50,
    ...     hook_points=["resid_post"],
    ... )
    PosixPath('mine.zarr')
    """
    if isinstance(model, FrozenModel):
        settings |= {"device": str(model.device), "precision": get_precision(model)}
    parameters = validate_cache_parameters(
        {
            "model": model if isinstance(model, str) else model.name,
            "dataset": dataset if isinstance(dataset, str) else f"{dataset.name}:{dataset.split}",
            **settings,
        }
    )
    if scheduler and not (isinstance(model, str) and isinstance(dataset, str)):
        raise ParameterError(
            f"scheduler={scheduler!r} needs the names of the model and of the data set: workers "
            "load both by themselves. Give names or folders, or leave the scheduler out."
        )
    location = locate_store(path)
    command = parameters.command(location.address)
    command += f" --scheduler {shlex.quote(scheduler)}" if scheduler else ""
    # Nothing is written to a finished cache, which may lie where nothing can be.
    finished = not overwrite and _is_finished(location)
    lock = nullcontext() if finished else lock_store(location)
    with (
        lock,
        explain_memory_errors(location, command=command),
        _tell_what_is_kept(location, command=command) as begin,
        ExitStack() as own,
    ):
        stored = _read_existing(location, clean=not finished)
        if stored is not None and overwrite:
            _require_own_files(location)
        # Another version may have chosen other units; the numbers do not depend on them.
        unit = None if stored is None or overwrite else stored.get("layout", {}).get("unit")
        work: CaptureWork
        if scheduler:
            require_shared_address(location)
            team = own.enter_context(connect_workers(scheduler))
            work = team.plan_work(parameters, unit=unit, location=location)
        else:
            work = _OwnWork(
                prepare_capture_job(parameters, model=model, dataset=dataset, unit=unit)
            )
        if stored is not None and not overwrite:
            _require_same_cache(location, stored=stored, requested=work.attributes)
            if finished or read_done_mask(location).all():
                logger.info("%s is finished: nothing to do", location.address)
                return location.local or location.address
        resumed = None if overwrite else stored
        own.enter_context(use_threads((resumed or work.attributes)["execution"]["threads"]))
        own.enter_context(
            explain_write_errors(location, command=command, needed=work.layout.nbytes)
        )
        _write_units(
            location,
            work=work,
            resume=resumed is not None,
            begin=begin,
            command=command,
            progress=progress,
        )
    return location.local or location.address


class _OwnWork:
    """Units that this process computes, one after another."""

    def __init__(self, job: CaptureJob) -> None:
        self.job, self.layout, self.attributes = job, job.layout, make_job_attributes(job)

    def write_units(
        self, units: Sequence[int], *, store: Callable[[], Any], tell: Callable[[int], None]
    ) -> Generator[int]:
        """Write units and mark them as done; yield each."""
        for unit in units:
            write_work_unit(unit, job=self.job, store=store)
            tell(unit)
            yield unit


def _is_finished(location: StoreLocation) -> bool:
    return location.exists() and bool(read_done_mask(location).all())


def _read_existing(location: StoreLocation, *, clean: bool) -> dict[str, Any] | None:
    """Return the attributes of the cache at a location, or None if there is nothing."""
    if location.exists():
        if clean:
            location.clean()
        return read_cache_attributes(location)
    local = location.local
    if local is not None and local.exists() and not (local.is_dir() and not any(local.iterdir())):
        raise CacheError(
            f"{location.address!r} exists and is not a cache ({ROOT_METADATA_FILE} is missing). "
            "Give another path."
        )
    return None


def _require_own_files(location: StoreLocation) -> None:
    """Refuse to replace a cache whose folder holds what no writer of caches has made."""
    names = sorted(location.sizes())
    strange = [key for key in names if not (is_cache_file(key) or is_leftover_file(key))]
    if strange:
        raise CacheError(
            f"{location.address!r} holds files that are no part of a cache, for example "
            f"{strange[0]}, and replacing it would delete them. Move them, or give another path."
        )


def _require_same_cache(
    location: StoreLocation, *, stored: Mapping[str, Any], requested: Mapping[str, Any]
) -> None:
    finished = read_done_mask(location).all()
    command = parse_cache_parameters(stored).command(location.address)
    if not finished:
        require_schema_2(stored, address=location.address, command=command)
    differing = list_attribute_differences(stored, requested, execution=not finished)
    if not differing:
        return
    lines = "\n".join(f"  {line}" for line in differing)
    if list_attribute_differences(stored, requested, execution=False):
        advice = "Give another path, or replace it with overwrite=True (--overwrite)."
    else:
        advice = (
            "Its remaining samples would not have the bits of an uninterrupted run. Finish it with "
            f"the settings that it was begun with: {command} — or start again with overwrite=True "
            "(--overwrite)."
        )
    raise CacheDifferentError(f"{location.address!r} holds another cache:\n{lines}\n{advice}")


def _write_units(
    location: StoreLocation,
    *,
    work: CaptureWork,
    resume: bool,
    begin: Callable[[], None],
    command: str,
    progress: bool,
) -> None:
    layout = work.layout
    done = read_done_mask(location) if resume else np.zeros(layout.samples, dtype=bool)
    opened: list[Any] = []
    if resume:
        opened.append(location.group("r+"))
        begin()
    if done.any():
        logger.info("%s holds %d of %d samples already", location.address, done.sum(), done.size)

    def store() -> Any:
        if not opened:
            if location.exists():
                location.remove()
            metadata = build_store_metadata(layout.arrays(), work.attributes)
            write_store_metadata(location, metadata)
            opened.append(location.group("r+"))
            begin()
        return opened[0]

    def count(unit: int) -> int:
        start, stop = layout.bounds(unit)
        return stop - start

    finished = int(done.sum())
    units = [unit for unit in range(layout.units) if not done[slice(*layout.bounds(unit))].all()]
    try:
        with (
            make_progress_bar(
                total=layout.samples,
                description=f"caching {work.attributes['model']['name']}",
                unit="sample",
                initial=finished,
                show=progress,
            ) as progress_bar,
            closing(
                work.write_units(
                    units, store=store, tell=lambda unit: progress_bar.update(count(unit))
                )
            ) as written,
        ):
            for unit in written:
                finished += count(unit)
        if resume and layout.tokens:
            location.remove_parts()
    except BaseException as error:
        # Whoever took the lock over has a store there now; what does not answer stays as it is.
        left = isinstance(error, CacheLockedError | CacheUnreachableError)
        if opened and not left:
            # A unit may be marked as done, and the run stopped before it was counted.
            with suppress(ImaError, OSError):
                finished = int(read_done_mask(location).sum())
        if opened and finished == 0 and not left and not location.has_parts():
            # What cannot be removed is continued by the next run.
            with suppress(OSError):
                location.remove()
        if isinstance(error, CacheUnreachableError) or (
            finished and isinstance(error, SchedulerError | WorkerError)
        ):
            kept = _describe_kept(finished, layout.samples)
            raise type(error)(f"{error} {kept} {command}") from error
        if isinstance(error, SampleError):
            advice = _advise_on_samples(
                work.attributes["parameters"]["dataset"],
                kept=f"{finished} of {layout.samples}" if finished else "",
                command=command,
            )
            raise SampleError(f"{error}{advice}") from error
        raise


@contextmanager
def _tell_what_is_kept(location: StoreLocation, *, command: str) -> Iterator[Callable[[], None]]:
    """Say what an interrupted run leaves, also where its workers were ending already."""
    begun: list[bool] = []
    try:
        yield lambda: begun.append(True)
    except KeyboardInterrupt:
        with suppress(ImaError, OSError):
            done = read_done_mask(location) if begun and location.exists() else np.zeros(0, bool)
            if done.any():
                kept = _describe_kept(int(done.sum()), done.size)
                logger.warning("Stopped: %s %s", kept, command)
        raise


def _describe_kept(finished: int, samples: int) -> str:
    return f"{finished} of {samples} samples are finished and kept. Continue with:"


def _advise_on_samples(dataset: str, *, kept: str, command: str) -> str:
    """Return what to do about a sample that cannot be used, and what is left of the cache."""
    folder = dataset if Path(dataset).is_dir() else dataset.rpartition(":")[0]
    check = shlex.join(["ima", "data", "check", folder])
    advice = f" See all that cannot be used: {check}" if folder and Path(folder).is_dir() else ""
    if kept:
        advice += (
            f"\n{kept} samples are finished and kept. They are of no use once the data change; "
            f"then make the cache anew: {command} --overwrite"
        )
    return advice


@contextmanager
def explain_write_errors(
    location: StoreLocation, *, command: str, needed: int = 0
) -> Iterator[None]:
    """Turn what the system refuses a writer into an error that says how to continue.

    Parameters
    ----------
    location : StoreLocation
        The store.
    command : str
        The command that continues.
    needed : int
        Bytes that the whole store takes; 0 if not known.

    Raises
    ------
    CacheError
        In place of any OSError.

    Examples
    --------
    >>> with explain_write_errors(locate_store("a.zarr"), command="ima cache create …"):
    ...     pass
    """
    try:
        yield
    except ImaError:
        raise
    except OSError as error:
        if location.exists():
            advice = explain_space(location, error, needed=needed)
            raise CacheError(
                f"Writing {location.address!r} stopped: {describe_write_error(error)} "
                f"{f'{advice} ' if advice else ''}Finished units are kept; continue with: {command}"
            ) from error
        raise make_unwritable_error(location, error, needed=needed) from error


@contextmanager
def explain_memory_errors(location: StoreLocation, *, command: str) -> Iterator[None]:
    """Turn memory that ran out, outside of a batch, into an error that names the settings.

    A batch that does not fit is halved before: see :mod:`ima.capture.prefetch`.

    Raises
    ------
    ModelError
        In place of any error that says that memory ran out.

    Examples
    --------
    >>> with explain_memory_errors(locate_store("a.zarr"), command="ima cache create …"):
    ...     pass
    """
    try:
        yield
    except ImaError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        kept = (
            f"Finished units are kept; continue with: {command} — or begin"
            if (location.exists())
            else "Begin"
        )
        raise ModelError(
            f"Memory ran out while {location.address!r} was made: {reason:.200}. {kept} anew with "
            "a smaller --batch-size, --unit, --keep-tokens or --logit-lens, or with --precision "
            "bfloat16."
        ) from error
