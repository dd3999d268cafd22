"""Jobs: samples and a model that fit, and everything else that determines a cache's numbers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch

from ima.cache.provenance import CacheParameters, make_cache_attributes
from ima.cache.schema import CacheLayout, choose_unit_size
from ima.capture.work_units import CaptureJob
from ima.data.samples import SampleSet, open_samples
from ima.errors import ParameterError, SampleError
from ima.metrics.sample_scores import SampleScorer
from ima.models import load_model
from ima.models.frozen import FrozenModel


class CaptureWork(Protocol):
    """Whoever computes the units of a store: this process, or workers."""

    @property
    def layout(self) -> CacheLayout:
        """Sizes of the store."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the store."""

    def write_units(
        self, units: Sequence[int], *, store: Callable[[], Any], tell: Callable[[int], None]
    ) -> Generator[int]:
        """Write units and mark them as done; yield each.

        Parameters
        ----------
        units : sequence of int
            The units that are not done.
        store : callable
            Returns the store, and makes it when it is called first.
        tell : callable
            Called with each unit that is computed, which may be before it is done.
        """


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
        As for :func:`ima.capture.writer.create_cache`.
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
            "dtype": get_precision(model),
            **({"reading": model.reading} if model.reading else {}),
        },
        dataset={
            "name": job.samples.name,
            "split": job.samples.split,
            "fingerprint": job.samples.fingerprint,
        },
        layout=job.layout,
    )


def get_precision(model: FrozenModel) -> str:
    """Return the name of the dtype of a model's weights.

    Examples
    --------
    >>> get_precision(load_model("llama-mini/vit/image-caption"))  # doctest: +SKIP
    'float32'
    """
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


@contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Compute with this number of threads: the last bits of sums depend on it.

    Examples
    --------
    >>> with use_threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
