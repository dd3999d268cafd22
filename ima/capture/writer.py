"""Writer of caches: check everything, then compute unit after unit; a stopped run continues."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ima.cache.provenance import (
    CacheParameters,
    list_attribute_differences,
    make_cache_attributes,
    parse_cache_parameters,
    validate_cache_parameters,
)
from ima.cache.reader import read_cache_attributes, read_done_mask
from ima.cache.schema import CacheLayout, choose_unit_size
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
from ima.capture.work_units import CaptureJob, write_work_unit
from ima.data.samples import SampleSet, open_samples
from ima.errors import (
    CacheDifferentError,
    CacheError,
    CacheLockedError,
    CacheUnreachableError,
    ImaError,
    ModelError,
    ParameterError,
    SampleError,
)
from ima.metrics.sample_scores import SampleScorer
from ima.models import load_model
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
        Whether to replace a cache of other settings.
    progress : bool
        Whether to show a progress bar on a terminal.
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
        If the store cannot be written.
    CacheDifferentError
        If it holds a cache of other settings.
    CacheLockedError
        If another process is writing the store.
    CacheSchemaError
        If it holds an unfinished cache of schema 1.

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
        settings |= {"device": str(model.device), "precision": _get_precision(model)}
    parameters = validate_cache_parameters(
        {
            "model": model if isinstance(model, str) else model.name,
            "dataset": dataset if isinstance(dataset, str) else f"{dataset.name}:{dataset.split}",
            **settings,
        }
    )
    location = locate_store(path)
    command = parameters.command(location.address)
    with lock_store(location), explain_memory_errors(location, command=command):
        stored = _read_existing(location)
        # Another version may have chosen other units; the numbers do not depend on them.
        unit = None if stored is None or overwrite else stored.get("layout", {}).get("unit")
        job = prepare_capture_job(parameters, model=model, dataset=dataset, unit=unit)
        requested = make_job_attributes(job)
        if stored is not None and not overwrite:
            _require_same_cache(location, stored=stored, requested=requested)
            if read_done_mask(location).all():
                logger.info("%s is finished: nothing to do", location.address)
                return location.local or location.address
        resumed = None if overwrite else stored
        with (
            set_stored_thread_count(resumed or requested),
            explain_write_errors(location, command=command, needed=job.layout.nbytes),
        ):
            _write_units(
                location,
                job=job,
                attributes=requested,
                resume=resumed is not None,
                progress=progress,
            )
    return location.local or location.address


def prepare_capture_job(
    parameters: CacheParameters,
    *,
    model: str | FrozenModel,
    dataset: str | SampleSet,
    unit: int | None = None,
) -> CaptureJob:
    """Open samples and model and check that they fit, without writing anything.

    Parameters
    ----------
    parameters : CacheParameters
        The settings.
    model, dataset : str, FrozenModel or SampleSet
        As for :func:`create_cache`.
    unit : int, optional
        Samples per unit of a cache that is there already, unless the settings name it.

    Returns
    -------
    CaptureJob
        Everything that determines the numbers of the cache.

    Raises
    ------
    SampleError
        If a sample has no media or an empty text, or the model does not take its modality.
    ParameterError
        If the data set holds too few samples, or the model lacks a hook point.

    Examples
    --------
    >>> job = prepare_capture_job(  # doctest: +SKIP
    ...     parameters, model=parameters.model, dataset=parameters.dataset
    ... )
    >>> job.layout.units  # doctest: +SKIP
    7
    """
    samples = _open_samples(parameters, dataset)
    for sample in samples:
        if sample.modality != "text" and sample.media is None:
            sample.load()
    if isinstance(model, str):
        model = load_model(model, device=parameters.device, dtype=parameters.precision)
    widths = {name: model.hook_points.width(name) for name in parameters.hook_points}
    counts = model.count_tokens(samples, perceptual=parameters.keep_tokens)
    lengths = np.array(counts, dtype=np.int64)
    empty = np.flatnonzero(lengths[:, 1] == 0)
    if empty.size:
        raise SampleError(f"Sample {samples[int(empty[0])].id!r} has an empty text.")
    unit = (
        parameters.unit
        or unit
        or choose_unit_size(len(samples), layers=model.layers, hidden=model.hidden)
    )
    layout = CacheLayout(
        samples=len(samples),
        unit=min(unit, len(samples)),
        layers=model.layers,
        widths=widths,
        tokens=int(lengths[: parameters.keep_tokens].sum()),
        dtype=parameters.dtype,
        loss=parameters.loss,
        predict=parameters.predict,
        metrics=SampleScorer(samples).metrics if parameters.predict else (),
        sinks="resid_post" in widths,
        logit_lens=parameters.logit_lens,
        vocabulary=model.hook_points.vocab_size if parameters.logit_lens else 0,
        linear_in_features=model.hook_points.linear_in_features if parameters.input_norms else {},
        contents=any(sample.source or sample.content is not None for sample in samples),
    )
    return CaptureJob(model, samples, parameters, layout, lengths)


def make_job_attributes(job: CaptureJob) -> dict[str, Any]:
    """Return the attributes of the store that a job fills.

    Examples
    --------
    >>> make_job_attributes(job)["dataset"]["split"]  # doctest: +SKIP
    'test'
    """
    model = job.model
    optional = {key: model.card.get(key) for key in ("objective", "language")}
    return make_cache_attributes(
        job.parameters,
        model={
            "name": model.name,
            "setup": model.setup,
            "modality": model.modality,
            "task": model.task,
            **{key: value for key, value in optional.items() if value},
            "weights_hash": model.weights_hash,
            "dtype": _get_precision(model),
            **({"reading": model.reading} if model.reading else {}),
        },
        dataset={
            "name": job.samples.name,
            "split": job.samples.split,
            "fingerprint": job.samples.fingerprint,
        },
        layout=job.layout,
    )


def _get_precision(model: FrozenModel) -> str:
    return str(model.language.dtype).removeprefix("torch.")


def _open_samples(parameters: CacheParameters, dataset: str | SampleSet) -> SampleSet:
    if isinstance(dataset, str):
        return open_samples(dataset, n=parameters.samples, seed=parameters.seed)
    if len(dataset) < parameters.samples:
        raise ParameterError(
            f"samples={parameters.samples} asks for more than {dataset.name!r} holds: "
            f"{len(dataset)}. Give samples={len(dataset)} or fewer."
        )
    return dataset[: parameters.samples]


def _read_existing(location: StoreLocation) -> dict[str, Any] | None:
    """Return the attributes of the cache at a location, or None if there is nothing."""
    if location.exists():
        location.clean()
        return read_cache_attributes(location)
    local = location.local
    if local is not None and local.exists() and not (local.is_dir() and not any(local.iterdir())):
        raise CacheError(
            f"{location.address!r} exists and is not a cache ({ROOT_METADATA_FILE} is missing). "
            "Give another path, or remove it."
        )
    return None


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
    job: CaptureJob,
    attributes: Mapping[str, Any],
    resume: bool,
    progress: bool,
) -> None:
    layout = job.layout
    done = read_done_mask(location) if resume else np.zeros(layout.samples, dtype=bool)
    opened: list[Any] = [location.group("r+")] if resume else []
    if done.any():
        logger.info("%s holds %d of %d samples already", location.address, done.sum(), done.size)

    def store() -> Any:
        if not opened:
            if location.exists():
                location.remove()
            write_store_metadata(location, build_store_metadata(layout.arrays(), attributes))
            opened.append(location.group("r+"))
        return opened[0]

    finished = int(done.sum())
    try:
        with make_progress_bar(
            total=layout.samples,
            description=f"caching {job.model.name}",
            unit="sample",
            initial=finished,
            show=progress,
        ) as progress_bar:
            for unit in range(layout.units):
                start, stop = layout.bounds(unit)
                if not done[start:stop].all():
                    write_work_unit(unit, job=job, store=store)
                    finished += stop - start
                    progress_bar.update(stop - start)
    except CacheUnreachableError as error:
        raise CacheUnreachableError(
            f"{error} {finished} of {layout.samples} samples are finished and kept. Continue with: "
            f"{job.parameters.command(location.address)}"
        ) from error
    except BaseException as error:
        # Whoever took the lock over has a store there now.
        if opened and finished == 0 and not isinstance(error, CacheLockedError):
            # What cannot be removed is continued by the next run.
            with suppress(OSError):
                location.remove()
        raise


@contextmanager
def set_stored_thread_count(stored: Mapping[str, Any]) -> Iterator[None]:
    """Compute with the stored number of threads: the last bits of sums depend on it.

    Examples
    --------
    >>> with set_stored_thread_count({"execution": {"threads": 1}}):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(stored["execution"]["threads"])
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
