"""Work units: compute the samples of one shard and write them, with the same bytes each time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.cache.provenance import CacheParameters
from ima.cache.schema import CacheLayout
from ima.cache.store import write_array_rows
from ima.capture import BatchStatistics, compute_batch_statistics
from ima.capture.prefetch import AdaptiveBatchSize, MediaPrefetcher
from ima.capture.token_writer import RowWriter, TokenWriter
from ima.data.samples import Sample, SampleSet
from ima.errors import ModelError
from ima.metrics.sample_scores import SampleScorer
from ima.models.frozen import FrozenModel
from ima.models.perception import reuse_perception


@dataclass(frozen=True)
class CaptureJob:
    """Everything that determines the numbers of a cache.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : SampleSet
        The samples of the store.
    parameters : CacheParameters
        The settings.
    layout : CacheLayout
        Sizes of the store's arrays.
    lengths : array (sample, kind)
        Tokens per sample, counted in the texts; -1 where the count depends on the medium.
    """

    model: FrozenModel
    samples: SampleSet
    parameters: CacheParameters
    layout: CacheLayout
    lengths: npt.NDArray[np.int64]

    @cached_property
    def batch_size(self) -> AdaptiveBatchSize:
        """Samples per forward pass; fewer once memory ran out."""
        return AdaptiveBatchSize(self.parameters.batch_size)

    @cached_property
    def scorer(self) -> SampleScorer:
        """The scorer of the predictions."""
        return SampleScorer(self.samples)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """First stored token of each sample, and the one after the last, dims (sample + 1)."""
        stored = self.lengths.sum(axis=1)
        stored[self.parameters.keep_tokens :] = 0
        return np.concatenate([[0], np.cumsum(stored)])


def write_work_unit(unit: int, *, job: CaptureJob, store: Callable[[], Any]) -> None:
    """Compute a unit and write it: its tokens batch by batch, its statistics, then ``done``.

    Parameters
    ----------
    unit : int
        Number of the unit.
    job : CaptureJob
        Model, samples and settings.
    store : callable
        Returns the store; called once the first batch has been computed without an error.

    Raises
    ------
    ActivationError
        If an activation cannot be stored.
    ModelError
        If the model's token counts differ from those of the texts.

    Examples
    --------
    >>> write_work_unit(0, job=job, store=lambda: location.group("r+"))  # doctest: +SKIP
    """
    compute_work_unit(unit, job=job, store=store)
    mark_work_unit(unit, layout=job.layout, group=store())


def mark_work_unit(unit: int, *, layout: CacheLayout, group: Any) -> None:
    """Mark the samples of a unit as done.

    Parameters
    ----------
    unit : int
        Number of the unit, all of whose numbers are written.
    layout : CacheLayout
        Sizes of the store.
    group : zarr.Group
        The store.

    Examples
    --------
    >>> mark_work_unit(0, layout=layout, group=location.group("r+"))  # doctest: +SKIP
    """
    start, stop = layout.bounds(unit)
    write_array_rows(
        group, path="samples/done", index=slice(start, stop), values=np.ones(stop - start, bool)
    )


def compute_work_unit(
    unit: int,
    *,
    job: CaptureJob,
    store: Callable[[], Any],
    write_rows: RowWriter = write_array_rows,
) -> None:
    """Compute a unit and write it as :func:`write_work_unit` does, without marking it as done.

    Parameters
    ----------
    unit, job, store
        As for :func:`write_work_unit`.
    write_rows : callable
        Writes rows of token states.

    Examples
    --------
    >>> compute_work_unit(0, job=job, store=lambda: location.group("r+"))  # doctest: +SKIP
    """
    start, stop = job.layout.bounds(unit)
    columns: dict[str, list[npt.NDArray[Any]]] = {}
    sums: list[tuple[Mapping[str, npt.NDArray[np.float32]], npt.NDArray[np.int64]]] = []
    squares: dict[str, list[npt.NDArray[np.float32]]] = {}
    tokens = TokenWriter(store, first=int(job.offsets[start]), write_rows=write_rows)
    with MediaPrefetcher(job.samples) as media, tokens:

        def compute(first: int, last: int) -> tuple[BatchStatistics, dict[str, npt.NDArray[Any]]]:
            samples = media.take(first, last, until=stop)
            with reuse_perception():
                statistics = _compute_statistics(samples, job=job, first=first)
                return statistics, _make_columns(statistics, samples=samples, job=job)

        limit = partial(job.model.limit_batch, job.samples)
        batches = job.batch_size.compute_batches(start, stop, compute, limit=limit)
        for first, last, (statistics, batch_columns) in batches:
            media.drop(last)
            for path, values in batch_columns.items():
                columns.setdefault(path, []).append(values)
            sums.append((statistics.input_norms, statistics.counts.sum(axis=0)))
            for path, total in _list_squares(statistics).items():
                squares.setdefault(path, []).append(total)
            if statistics.states:
                rows = statistics.coords["sample"] + np.int32(first)
                tokens.add(statistics.states, coords={**statistics.coords, "sample": rows})
    group = store()
    for path, parts in columns.items():
        # Some arrays hold the first samples only.
        values = np.concatenate(parts)
        write_array_rows(group, path=path, index=slice(start, start + len(values)), values=values)
    if job.layout.logit_lens and unit == 0:
        tokenizer, n = job.model.tokenizer, job.layout.vocabulary
        words = np.array([tokenizer.decode([i]) for i in range(n)], dtype=object)
        write_array_rows(group, path="logit_lens/word", index=slice(0, n), values=words)
    if job.layout.linear_in_features:
        _write_input_norms(group, sums, unit=unit)
    for path, totals in squares.items():
        total = np.stack(totals).sum(axis=0, keepdims=True)
        write_array_rows(group, path=path, index=slice(unit, unit + 1), values=total)


def _list_squares(statistics: BatchStatistics) -> dict[str, npt.NDArray[np.float32]]:
    """Return the batch's sums of squares without sinks, by path."""
    if not statistics.sinks:
        return {}
    inside = {
        f"without_sinks/{hook_point}/sum_squares": own["sum_squares"]
        for hook_point, own in statistics.without_sinks.items()
    }
    return {"sinks/sum_squares_without": statistics.sinks["sum_squares_without"], **inside}


def _compute_statistics(
    samples: Sequence[Sample], *, job: CaptureJob, first: int
) -> BatchStatistics:
    last = first + len(samples)
    statistics = compute_batch_statistics(
        job.model,
        job.model.encode(samples),
        hook_points=job.parameters.hook_points,
        loss=job.parameters.loss,
        keep=max(0, min(job.parameters.keep_tokens, last) - first),
        dtype=job.parameters.dtype,
        logit_lens=max(0, min(job.parameters.logit_lens, last) - first),
        input_norms=job.parameters.input_norms,
    )
    expected = job.lengths[first:last]
    if not ((statistics.counts == expected) | (expected < 0)).all():
        raise ModelError(
            f"Model {job.model.name!r} has other token counts in its batches than in the texts of "
            f"samples {samples[0].id!r} to {samples[-1].id!r}."
        )
    return statistics


def _make_columns(
    statistics: BatchStatistics, *, samples: Sequence[Sample], job: CaptureJob
) -> dict[str, npt.NDArray[Any]]:
    """Return the rows that a batch adds to arrays with a sample dim, by path."""
    texts = {
        "id": [sample.id for sample in samples],
        "modality": [sample.modality for sample in samples],
        "task": [sample.task for sample in samples],
        "prompt": [sample.prompt for sample in samples],
        "references": [_json(list(sample.references)) for sample in samples],
        "truth": [_json(dict(sample.truth)) for sample in samples],
    }
    if job.layout.contents:
        texts["content"] = [sample.content or "" for sample in samples]
    if job.parameters.predict:
        predictions = job.model.generate(samples, batch_size=len(samples), seed=job.parameters.seed)
        texts["prediction"] = predictions
    columns: dict[str, npt.NDArray[Any]] = {
        f"samples/{name}": np.array(values, dtype=object) for name, values in texts.items()
    }
    if job.layout.metrics:
        columns["samples/score"] = job.scorer(samples, predictions)
    columns["samples/n_perceptual"] = statistics.counts[:, 0]
    columns["samples/n_textual"] = statistics.counts[:, 1]
    if statistics.loss is not None:
        columns["samples/loss"] = statistics.loss
    if statistics.drift is not None:
        columns["drift/cosine"] = statistics.drift
    for name in ("count", "position", "mean_without") if job.layout.sinks else ():
        columns[f"sinks/{name}"] = statistics.sinks[name]
    for hook_point, own in statistics.without_sinks.items() if job.layout.sinks else ():
        columns[f"without_sinks/{hook_point}/mean"] = own["mean"]
    for name, values in statistics.logit_lens.items():
        columns[f"logit_lens/{name}"] = values
    for hook_point, mean in statistics.means.items():
        columns[f"means/{hook_point}/mean"] = mean
    for hook_point, norms in statistics.norms.items():
        for name, values in norms.items():
            columns[f"norms/{hook_point}/{name}"] = values
    return columns


def _write_input_norms(
    group: Any,
    sums: Sequence[tuple[Mapping[str, npt.NDArray[np.float32]], npt.NDArray[np.int64]]],
    *,
    unit: int,
) -> None:
    index = slice(unit, unit + 1)
    for name in sums[0][0]:
        total = np.stack([squares[name] for squares, _ in sums]).sum(axis=0, keepdims=True)
        write_array_rows(group, path=f"input_norms/{name}/sum_squares", index=index, values=total)
    count = np.sum([tokens for _, tokens in sums], axis=0)
    write_array_rows(group, path="input_norms/count", index=index, values=count[None])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
