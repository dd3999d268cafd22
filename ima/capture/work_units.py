"""Units of work: the samples of one shard, computed and written so that they can be repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from ima.data.samples import Sample, SampleSet
from ima.errors import ModelError
from ima.metrics.sample_scores import SampleScorer
from ima.models.frozen import FrozenModel
from ima.models.perception import reuse_perception


@dataclass(frozen=True)
class CaptureJob:
    """Everything from which a unit follows.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : SampleSet
        As many as the store holds.
    parameters : CacheParameters
        How it is computed.
    layout : Layout
        Sizes of the store's arrays.
    lengths : array (sample, kind)
        Tokens per sample, from the texts; -1 where only the medium tells.
    """

    model: FrozenModel
    samples: SampleSet
    parameters: CacheParameters
    layout: CacheLayout
    lengths: npt.NDArray[np.int64]

    @cached_property
    def batch_size(self) -> AdaptiveBatchSize:
        """How many samples a forward pass takes; fewer once memory ran out."""
        return AdaptiveBatchSize(self.parameters.batch_size)

    @cached_property
    def scorer(self) -> SampleScorer:
        """What scores the predictions."""
        return SampleScorer(self.samples)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """First kept token of each sample, and the one behind the last, dims (sample + 1)."""
        kept = self.lengths.sum(axis=1)
        kept[self.parameters.keep_tokens :] = 0
        return np.concatenate([[0], np.cumsum(kept)])


def write_work_unit(unit: int, *, work: CaptureJob, store: Callable[[], Any]) -> None:
    """Compute a unit and write it: its tokens batch by batch, its statistics, then ``done``.

    Parameters
    ----------
    unit : int
        Which unit.
    work : Work
        What is computed.
    store : callable
        Returns the store; called once the first batch has been computed without an error.

    Raises
    ------
    ActivationError
        If an activation cannot be stored.
    ModelError
        If the model's token counts are not the ones that its texts have.
    """
    start, stop = work.layout.bounds(unit)
    columns: dict[str, list[npt.NDArray[Any]]] = {}
    sums: list[tuple[Mapping[str, npt.NDArray[np.float32]], npt.NDArray[np.int64]]] = []
    writes: list[Future[None]] = []
    with MediaPrefetcher(work.samples) as media, ThreadPoolExecutor(max_workers=1) as writer:

        def compute(first: int, last: int) -> tuple[BatchStatistics, dict[str, npt.NDArray[Any]]]:
            samples = media.take(first, last, until=stop)
            with reuse_perception():
                measured = _measured(samples, work=work, first=first)
                return measured, _columns(measured, samples=samples, work=work)

        for first, last, (measured, found) in work.batch_size.over(start, stop, compute):
            media.drop(last)
            for path, values in found.items():
                columns.setdefault(path, []).append(values)
            sums.append((measured.input_norms, measured.counts.sum(axis=0)))
            if measured.states:
                # Tokens are written while the model runs on; one batch waits at most.
                for write in writes[-1:]:
                    write.result()
                put_them = partial(_write_tokens, store(), measured, work=work)
                writes.append(writer.submit(put_them, first=first, last=last))
        for write in writes:
            write.result()
    group = store()
    for path, parts in columns.items():
        # Some arrays end before the last sample does.
        values = np.concatenate(parts)
        write_array_rows(group, path=path, rows=slice(start, start + len(values)), values=values)
    if work.layout.logit_lens and unit == 0:
        tokenizer, words = work.model.tokenizer, work.layout.vocabulary
        spelled = np.array([tokenizer.decode([i]) for i in range(words)], dtype=object)
        write_array_rows(group, path="logit_lens/word", rows=slice(0, words), values=spelled)
    if work.layout.linear_in_features:
        _write_inputs(group, sums, unit=unit)
    write_array_rows(
        group, path="samples/done", rows=slice(start, stop), values=np.ones(stop - start, bool)
    )


def _measured(samples: Sequence[Sample], *, work: CaptureJob, first: int) -> BatchStatistics:
    last = first + len(samples)
    measured = compute_batch_statistics(
        work.model,
        work.model.encode(samples),
        hook_points=work.parameters.hook_points,
        loss=work.parameters.loss,
        keep=max(0, min(work.parameters.keep_tokens, last) - first),
        dtype=work.parameters.dtype,
        logit_lens=max(0, min(work.parameters.logit_lens, last) - first),
        input_norms=work.parameters.input_norms,
    )
    told = work.lengths[first:last]
    if not ((measured.counts == told) | (told < 0)).all():
        message = (
            f"Model {work.model.name!r} counts other tokens in its batches than in the texts "
            f"of samples {samples[0].id!r} to {samples[-1].id!r}."
        )
        raise ModelError(message)
    return measured


def _columns(
    measured: BatchStatistics, *, samples: Sequence[Sample], work: CaptureJob
) -> dict[str, npt.NDArray[Any]]:
    """Return what the arrays with a sample dim hold of a batch, per path."""
    texts = {
        "id": [sample.id for sample in samples],
        "modality": [sample.modality for sample in samples],
        "task": [sample.task for sample in samples],
        "prompt": [sample.prompt for sample in samples],
        "references": [_json(list(sample.references)) for sample in samples],
        "truth": [_json(dict(sample.truth)) for sample in samples],
    }
    if work.parameters.predict:
        said = work.model.generate(samples, batch_size=len(samples), seed=work.parameters.seed)
        texts["prediction"] = said
    columns: dict[str, npt.NDArray[Any]] = {
        f"samples/{name}": np.array(values, dtype=object) for name, values in texts.items()
    }
    if work.layout.metrics:
        columns["samples/score"] = work.scorer(samples, said)
    columns["samples/n_perceptual"] = measured.counts[:, 0]
    columns["samples/n_textual"] = measured.counts[:, 1]
    if measured.loss is not None:
        columns["samples/loss"] = measured.loss
    if measured.drift is not None:
        columns["drift/cosine"] = measured.drift
    for name, values in measured.logit_lens.items():
        columns[f"logit_lens/{name}"] = values
    for hook_point, mean in measured.means.items():
        columns[f"means/{hook_point}/mean"] = mean
    for hook_point, statistics in measured.norms.items():
        for name, values in statistics.items():
            columns[f"norms/{hook_point}/{name}"] = values
    return columns


def _write_inputs(
    group: Any,
    sums: Sequence[tuple[Mapping[str, npt.NDArray[np.float32]], npt.NDArray[np.int64]]],
    *,
    unit: int,
) -> None:
    rows = slice(unit, unit + 1)
    for name in sums[0][0]:
        total = np.stack([squares[name] for squares, _ in sums]).sum(axis=0, keepdims=True)
        write_array_rows(group, path=f"input_norms/{name}/sum_squares", rows=rows, values=total)
    count = np.sum([tokens for _, tokens in sums], axis=0)
    write_array_rows(group, path="input_norms/count", rows=rows, values=count[None])


def _write_tokens(
    group: Any, measured: BatchStatistics, *, work: CaptureJob, first: int, last: int
) -> None:
    rows = slice(int(work.offsets[first]), int(work.offsets[last]))
    coords = {**measured.coords, "sample": measured.coords["sample"] + np.int32(first)}
    for hook_point, states in measured.states.items():
        # The model produces layer after layer; each chunk holds one layer, so the transposed
        # view is copied chunk by chunk and never as a whole.
        write_array_rows(
            group, path=f"tokens/{hook_point}/state", rows=rows, values=states.transpose(1, 0, 2)
        )
        for name, values in coords.items():
            write_array_rows(group, path=f"tokens/{hook_point}/{name}", rows=rows, values=values)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
