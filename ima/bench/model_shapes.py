"""Shapes: how fast a model of a published size is captured, with random weights of that size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd

from ima.bench.speed import FORWARD_STEP, MEASURE_STEP, StepTiming
from ima.errors import ParameterError, UnknownNameError
from ima.timing import time_fastest_runs


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder and of what it reads.

    Parameters
    ----------
    hidden, intermediate, layers, heads, vocabulary : int
        Of the decoder, built as LLaMA.
    perceptual, textual : int
        Tokens of a sample.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    vocabulary: int
    perceptual: int
    textual: int


MODEL_SHAPES: Mapping[str, ModelShape] = {
    "llava-1.5-7b": ModelShape(4096, 11008, 32, 32, 32064, 576, 64),
    "llava-1.5-13b": ModelShape(5120, 13824, 40, 40, 32064, 576, 64),
    # Small enough for two cores, with as many percepts as LLaVA-1.5.
    "llama-12": ModelShape(512, 1408, 12, 8, 1024, 576, 64),
    "tiny": ModelShape(32, 48, 3, 4, 60, 6, 4),
}


def benchmark_model_shape(
    name: str,
    *,
    samples: int = 16,
    batch_size: int = 4,
    repeats: int = 3,
    device: str = "cpu",
    precision: str = "float32",
) -> list[StepTiming]:
    """Time a forward pass alone and one whose activations are reduced, on random weights.

    Parameters
    ----------
    name : str
        One of :data:`MODEL_SHAPES`.
    samples : int
        How many samples run.
    batch_size : int
        Samples per forward pass.
    repeats : int
        How often each step is timed.
    device, precision : str
        Where the model runs, and in which dtype.

    Returns
    -------
    list of Timing
        The pass, and the pass with all hook points measured, with its ratio to the first.

    Raises
    ------
    UnknownNameError
        If there is no such shape.
    ParameterError
        If a number is not positive.
    """
    shape = _shape(name)
    if min(samples, batch_size, repeats) < 1:
        message = "samples, batch_size and repeats must be at least 1."
        raise ParameterError(message)
    from ima.capture import compute_batch_statistics

    model, batch = _random(shape, batch_size, device, precision)
    count = max(1, samples // batch_size)

    def plain_pass() -> None:
        for _ in range(count):
            model.forward(batch)
        _wait(device)

    def measured_pass() -> None:
        for _ in range(count):
            compute_batch_statistics(model, batch)

    timed = time_fastest_runs(
        {FORWARD_STEP: plain_pass, MEASURE_STEP: measured_pass}, repeats=repeats
    )
    plain = StepTiming(FORWARD_STEP, timed[FORWARD_STEP], count * batch_size)
    ratio = timed[MEASURE_STEP] / timed[FORWARD_STEP]
    return [
        plain,
        StepTiming(MEASURE_STEP, timed[MEASURE_STEP], count * batch_size, ratio, FORWARD_STEP),
    ]


def benchmark_plans(
    name: str = "llama-12",
    *,
    batch_size: int = 1,
    repeats: int = 5,
    device: str = "cpu",
    precision: str = "float32",
) -> pd.DataFrame:
    """Ask whether the time of a prompt falls as its operations do when rows are left out.

    Parameters
    ----------
    name : str
        One of :data:`MODEL_SHAPES`, with random weights.
    batch_size : int
        Samples that run at once.
    repeats : int
        Rounds of timing, the plans in turn; the fastest counts.
    device, precision : str
        Where the model runs, and in which dtype.

    Returns
    -------
    pandas.DataFrame
        ``plan``; ``gflops`` and ``prefill`` as shares of those with nothing left out; and ``way``:
        how far the time falls for each part by which the operations fall, 1 at best.

    Raises
    ------
    UnknownNameError
        If there is no such shape.
    """
    shape = _shape(name)
    from ima.token_reduction.apply import apply_plan
    from ima.token_reduction.cost import compute_prefill_cost
    from ima.token_reduction.methods.fastv import FastV
    from ima.token_reduction.methods.skip_sub_block import SkipSubBlock
    from ima.token_reduction.methods.vtw import VTW
    from ima.token_reduction.plans import ReductionPlan

    model, batch = _random(shape, batch_size, device, precision)
    third = max(1, model.layers // 3)
    plans = [
        ReductionPlan(name="nothing left out"),
        SkipSubBlock(sub_block="ffn").plan(),
        SkipSubBlock(sub_block="block", start=third).plan(),
        VTW(after_layer=third).plan(),
        FastV(after_layer=2, ratio=0.5).plan(),
    ]

    def run(plan: ReductionPlan) -> Any:
        with apply_plan(model, batch, plan) as trace:
            model.forward(batch)
        _wait(device)
        return trace

    operations = {plan.name: compute_prefill_cost(model, run(plan)).total_flops for plan in plans}
    seconds = time_fastest_runs({plan.name: partial(run, plan) for plan in plans}, repeats=repeats)
    plain = plans[0].name
    rows = []
    for plan in plans[1:]:
        share, time = operations[plan.name] / operations[plain], seconds[plan.name] / seconds[plain]
        way = (1 - time) / (1 - share)
        rows.append({"plan": plan.name, "gflops": share, "prefill": time, "way": way})
    return pd.DataFrame(rows)


def benchmark_nm_sparsity(
    name: str = "llava-1.5-7b", *, tokens: int = 4096, repeats: int = 5, device: str = "cuda"
) -> pd.DataFrame:
    """Time linear layers that keep two of four weights, as torch's own sparse tensors run them.

    Parameters
    ----------
    name : str
        One of :data:`MODEL_SHAPES`, with random float16 weights.
    tokens : int
        Rows that go through a layer at once.
    repeats : int
        Rounds of timing, dense and sparse in turn; the fastest counts.
    device : str
        A GPU whose tensor cores multiply 2:4 sparse matrices.

    Returns
    -------
    pandas.DataFrame
        A row for each kind of linear layer: ``layer``; ``time``, as a share of the dense layer with
        the same zeros; ``difference``, the largest of an output, in units of its standard
        deviation.

    Raises
    ------
    UnknownNameError
        If there is no such shape.
    ParameterError
        If the device is no GPU.
    """
    shape = _shape(name)
    import torch
    from torch.nn.functional import linear
    from torch.sparse import to_sparse_semi_structured

    if torch.device(device).type != "cuda":
        message = f"2:4 sparse weights are multiplied by a GPU's tensor cores; got {device!r}."
        raise ParameterError(message)
    rows = []
    sizes = {
        "attention": (shape.hidden, shape.hidden),
        "FFN, first": (shape.intermediate, shape.hidden),
        "FFN, last": (shape.hidden, shape.intermediate),
    }
    for label, (out, into) in sizes.items():
        weight = torch.randn(out, into // 4, 4, device=device, dtype=torch.float16)
        least = weight.abs().argsort(dim=-1)[..., :2]
        dense = weight.scatter(-1, least, 0.0).reshape(out, into)
        sparse = to_sparse_semi_structured(dense)
        given = torch.randn(tokens, into, device=device, dtype=torch.float16)

        def run(matrix: torch.Tensor, given: torch.Tensor = given) -> torch.Tensor:
            found = linear(given, matrix)
            _wait(device)
            return found

        gap = (run(dense) - run(sparse)).float()
        ways = {"dense": partial(run, dense), "sparse": partial(run, sparse)}
        seconds = time_fastest_runs(ways, repeats=repeats)
        row = {"layer": label, "time": seconds["sparse"] / seconds["dense"]}
        rows.append(row | {"difference": float(gap.abs().max() / run(dense).float().std())})
    return pd.DataFrame(rows)


def _shape(name: str) -> ModelShape:
    if name not in MODEL_SHAPES:
        raise UnknownNameError.among(kind="shape", asked=name, available=MODEL_SHAPES)
    return MODEL_SHAPES[name]


def _random(shape: ModelShape, size: int, device: str, precision: str) -> tuple[Any, Any]:
    """Return a frozen model of a shape with random weights, and a batch that it reads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel
    from ima.models.hook_points import find_hook_points

    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        vocab_size=shape.vocabulary,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, precision))
    try:
        with torch.device(device):
            language: Any = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    language.eval().requires_grad_(requires_grad=False)
    model = FrozenModel(
        name="random",
        card={"setup": "MT"},
        weights_hash="",
        language=language,
        tokenizer=None,
        hook_points=find_hook_points(language),
        # Its percepts come from nowhere: they are random numbers.
        perception=cast("Any", SimpleNamespace(modality="image", queries=shape.perceptual)),
    )
    length = shape.perceptual + shape.textual
    mask = torch.ones(size, length, dtype=torch.int64, device=device)
    modality = torch.zeros(size, length, dtype=torch.int8, device=device)
    modality[:, : shape.perceptual] = 1
    batch = Batch(
        embeds=torch.randn(size, length, shape.hidden, device=device).to(language.dtype),
        attention_mask=mask,
        position_ids=mask.cumsum(dim=1) - 1,
        modality=modality,
        token_id=torch.where(modality == 0, 1, -1),
        answer=torch.zeros_like(mask, dtype=torch.bool),
        sample_ids=tuple(str(number) for number in range(size)),
    )
    return model, batch


def _wait(device: str) -> None:
    """Wait until the device has done what was asked of it."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
