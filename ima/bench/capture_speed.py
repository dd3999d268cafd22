"""Speed of capture: what statistics and token states cost beside the plain forward pass."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ima.bench.model_shapes import make_random_model
from ima.bench.records import BenchRecord, TimedStep, read_resident_memory, time_against
from ima.cache.schema import CacheLayout
from ima.cache.store import build_store_metadata, locate_store, write_store_metadata

if TYPE_CHECKING:
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

STATISTICS_STEP = "statistics of all hook points"
INPUT_NORMS_STEP = "statistics and input norms"
TOKEN_STATES_STEP = "token states at five hook points, to disk"
HOOKS_STEP = "hooks that compute nothing"
HIDDEN_STATES_STEP = "output_hidden_states of transformers"
MEMORY_STEP = "memory after 500 batches of token states"
_FORWARD_STEP = "forward pass of the decoder"
#: Hook points of which every token's state is stored.
STORED_HOOK_POINTS = ("ln1", "attn_out", "resid_mid", "mlp_out", "resid_post")
_WARM_BATCHES, _MANY_BATCHES = 50, 500


@dataclass(frozen=True)
class CaptureSubject:
    """A model whose capture is timed.

    Parameters
    ----------
    name : str
        How records call it.
    shape : str
        Random weights of this shape (:data:`ima.bench.model_shapes.MODEL_SHAPES`), or empty.
    model, dataset : str
        A model and data set to load instead.
    batch_size : int
        Samples of a batch.
    stored_batches : int
        Batches whose token states are stored: a store has costs that do not grow with them, so
        they take about a second or more.
    statistics_limit, input_norms_limit : float
        The largest ratios to the forward pass of statistics without and with input norms.
    """

    name: str
    shape: str = ""
    model: str = ""
    dataset: str = ""
    batch_size: int = 6
    stored_batches: int = 3
    statistics_limit: float = 1.05
    input_norms_limit: float = 1.10


CAPTURE_SUBJECTS: tuple[CaptureSubject, ...] = (
    CaptureSubject("OPT-125m, random weights", shape="opt-125m"),
    CaptureSubject("LLaMA 12 × 768, random weights", shape="llama-768"),
    CaptureSubject(
        "LLaMA 12 × 512, 576 perceptual tokens, random weights", shape="llama-12", batch_size=1
    ),
    CaptureSubject(
        "SmolLM2-135M",
        model="smollm2/dinov2/image-caption",
        dataset="drawings-image-caption",
        batch_size=16,
    ),
    CaptureSubject(
        "llama-mini",
        model="llama-mini/vit/image-caption",
        dataset="mini-image-caption",
        batch_size=16,
        stored_batches=30,
        statistics_limit=1.25,
        input_norms_limit=1.25,
    ),
)


def benchmark_capture(
    subject: CaptureSubject, *, threads: int = 1, repeats: int = 7
) -> list[BenchRecord]:
    """Time what capture adds to a model's forward pass.

    Parameters
    ----------
    subject : CaptureSubject
        The model.
    threads : int
        Threads of torch.
    repeats : int
        Number of rounds.

    Returns
    -------
    list of BenchRecord
        Statistics of all hook points without and with input norms, hooks alone, and the hidden
        states that transformers returns, beside the forward pass of the decoder without its head.
        Then the states of all tokens, written to disk as a cache writes them, beside as many
        passes.

    Raises
    ------
    PartAbsentError
        If a part of the model was not fetched.

    Examples
    --------
    >>> records = benchmark_capture(CaptureSubject("tiny", shape="tiny"), repeats=1)
    >>> [record.name for record in records][:2]
    ['statistics of all hook points', 'statistics and input norms']
    """
    from ima.capture import compute_batch_statistics
    from ima.capture.jobs import use_threads

    label = f"{subject.name}, {threads} thread{'s' * (threads > 1)}"
    with use_threads(threads):
        model, batch = _load(subject)
        measure = partial(compute_batch_statistics, model, batch)
        read = _make_reader(model, batch)
        records = time_against(
            TimedStep(_FORWARD_STEP, partial(model.forward, batch, logits=False)),
            [
                TimedStep(STATISTICS_STEP, measure, limit=subject.statistics_limit, extra=read),
                TimedStep(
                    INPUT_NORMS_STEP,
                    partial(measure, input_norms=True),
                    limit=subject.input_norms_limit,
                    extra=read,
                ),
                TimedStep(HOOKS_STEP, partial(_run_empty_hooks, model, batch)),
                TimedStep(HIDDEN_STATES_STEP, partial(return_hidden_states, model, batch)),
            ],
            repeats=repeats,
            subject=label,
        )
        with tempfile.TemporaryDirectory(prefix="ima-bench-") as folder:
            batches, path = [batch] * subject.stored_batches, Path(folder) / "states.zarr"
            write = partial(stream_token_states, model, batches, path=path)
            records += time_against(
                TimedStep(
                    f"{subject.stored_batches} forward passes",
                    lambda: [model.forward(each, logits=False) for each in batches],
                ),
                [
                    TimedStep(
                        TOKEN_STATES_STEP,
                        write,
                        limit=1.25,
                        extra=_make_plain_writer(model, batches, path=Path(folder) / "states"),
                        overlaps=True,
                    )
                ],
                repeats=repeats,
                subject=label,
                # To remove a store takes as long as to write a small one.
                prepare=partial(shutil.rmtree, path, ignore_errors=True),
            )
    return records


def benchmark_capture_memory(shape: str = "tiny") -> BenchRecord:
    """Measure whether memory grows with the number of batches whose token states are stored.

    Parameters
    ----------
    shape : str
        Random weights of one of :data:`ima.bench.model_shapes.MODEL_SHAPES`.

    Returns
    -------
    BenchRecord
        Resident memory in MiB after 500 batches, relative to that after the first 50.

    Examples
    --------
    >>> benchmark_capture_memory().ratio < 1.5  # doctest: +SKIP
    True
    """
    model, batch = make_random_model(shape, batch_size=8)
    after: list[float] = []
    with tempfile.TemporaryDirectory(prefix="ima-bench-") as folder:
        stream_token_states(
            model,
            [batch] * _MANY_BATCHES,
            path=Path(folder) / "states.zarr",
            after_batch=lambda: after.append(read_resident_memory()),
        )
    warm, value = max(after[:_WARM_BATCHES]), max(after)
    return BenchRecord(
        MEMORY_STEP, f"{shape}, random weights", value, "MiB", value / warm, 1.05, 1, "cpu",
        against=f"memory after {_WARM_BATCHES} batches",
    )  # fmt: skip


def stream_token_states(
    model: FrozenModel,
    batches: Sequence[Batch],
    *,
    path: Path,
    hook_points: Sequence[str] = STORED_HOOK_POINTS,
    after_batch: Any = None,
) -> None:
    """Store the states of all tokens of batches while the model computes the next batch.

    Parameters
    ----------
    model : FrozenModel
        The model.
    batches : sequence of Batch
        Batches of one size.
    path : Path
        A new store; nothing may be there.
    hook_points : sequence of str
        Where states are read, in float16.
    after_batch : callable or None
        Called after each batch.

    Examples
    --------
    >>> stream_token_states(model, [batch], path=folder / "states.zarr")  # doctest: +SKIP
    """
    from ima.capture import compute_batch_statistics
    from ima.capture.token_writer import TokenWriter

    size, tokens = len(batches[0].sample_ids), int((batches[0].modality >= 0).sum())
    layout = CacheLayout(
        samples=size * len(batches),
        unit=size,
        layers=model.layers,
        widths={name: model.hook_points.width(name) for name in hook_points},
        tokens=tokens * len(batches),
        loss=False,
        predict=False,
    )
    location = locate_store(path)
    write_store_metadata(location, build_store_metadata(layout.arrays(), {}))
    group = location.group("r+")
    with TokenWriter(lambda: group, first=0) as writer:
        for number, batch in enumerate(batches):
            statistics = compute_batch_statistics(
                model, batch, hook_points=hook_points, keep=size, dtype="float16"
            )
            rows = statistics.coords["sample"] + np.int32(number * size)
            writer.add(statistics.states, coords={**statistics.coords, "sample": rows})
            if after_batch is not None:
                after_batch()


def _load(subject: CaptureSubject) -> tuple[FrozenModel, Batch]:
    if subject.shape:
        return make_random_model(subject.shape, batch_size=subject.batch_size)
    from ima.data.samples import open_samples
    from ima.models import load_model

    model = load_model(subject.model)
    return model, model.encode(list(open_samples(subject.dataset, n=subject.batch_size)))


def _make_reader(model: FrozenModel, batch: Batch) -> Callable[[], object]:
    """Return a function that reads as many numbers as all activations once."""
    import torch

    points = model.hook_points
    like = {
        name: torch.ones(batch.modality.numel(), points.width(name)) for name in points.available
    }

    def read() -> None:
        for name, numbers in like.items():
            for _ in points.layers_of(name):
                numbers.sum()

    return read


def _make_plain_writer(
    model: FrozenModel, batches: Sequence[Batch], *, path: Path
) -> Callable[[], object]:
    """Return a function that writes as many bytes as the states of all tokens to a plain file."""
    points = model.hook_points
    tokens = int((batches[0].modality >= 0).sum())
    numbers = sum(len(points.layers_of(name)) * points.width(name) for name in STORED_HOOK_POINTS)
    content = np.random.default_rng(0).bytes(tokens * numbers * np.dtype("float16").itemsize)

    def write() -> None:
        with path.open("wb") as file:
            for _ in batches:
                file.write(content)

    return write


def _run_empty_hooks(model: FrozenModel, batch: Batch) -> None:
    from ima.models.hook_points import attach_hooks

    points, samples = model.hook_points, len(batch.sample_ids)
    with attach_hooks(points, names=points.available, samples=samples, callback=lambda *_: None):
        model.forward(batch, logits=False)


def return_hidden_states(model: FrozenModel, batch: Batch) -> tuple[Any, ...]:
    """Return the hidden states that transformers returns, the last one after the final norm.

    Examples
    --------
    >>> model, batch = make_random_model("tiny", batch_size=2)
    >>> len(return_hidden_states(model, batch))
    4
    """
    import torch

    with torch.no_grad():
        output = model.language.base_model(
            inputs_embeds=batch.embeds,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            output_hidden_states=True,
        )
    return tuple(output.hidden_states)
