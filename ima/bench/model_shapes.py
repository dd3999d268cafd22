"""Speed of models with the shapes of published models and random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd

from ima.bench.speed import FORWARD_STEP, MEASURE_STEP, StepTiming, check_counts
from ima.errors import ParameterError, UnknownNameError
from ima.timing import time_fastest_runs


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder and of its input.

    Parameters
    ----------
    hidden, intermediate, layers, heads, vocabulary : int
        Sizes of the decoder.
    n_perceptual_tokens, n_text_tokens : int
        Tokens of a sample.
    architecture : {"llama", "opt"}
        The decoder's architecture.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    vocabulary: int
    n_perceptual_tokens: int
    n_text_tokens: int
    architecture: str = "llama"


#: Shapes by name of a published or a small model.
MODEL_SHAPES: Mapping[str, ModelShape] = {
    "llava-1.5-7b": ModelShape(4096, 11008, 32, 32, 32064, 576, 64),
    "llava-1.5-13b": ModelShape(5120, 13824, 40, 40, 32064, 576, 64),
    # Small enough for two cores, with as many perceptual tokens as LLaVA-1.5.
    "llama-12": ModelShape(512, 1408, 12, 8, 1024, 576, 64),
    # The single-task setup: ten perceptual tokens and a caption.
    "opt-125m": ModelShape(768, 3072, 12, 12, 50272, 10, 54, "opt"),
    "llama-768": ModelShape(768, 2048, 12, 12, 32000, 10, 54),
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
    """Time a forward pass and one that measures all hook points, on random weights.

    Parameters
    ----------
    name : str
        One of :data:`MODEL_SHAPES`.
    samples : int
        Number of samples.
    batch_size : int
        Samples per forward pass.
    repeats : int
        Number of timed runs of each step.
    device, precision : str
        Device and dtype of the model.

    Returns
    -------
    list of StepTiming
        The plain pass, and the measuring pass relative to it.

    Raises
    ------
    UnknownNameError
        If no shape has this name.
    ParameterError
        If a number is not positive.

    Examples
    --------
    >>> [timing.step for timing in benchmark_model_shape("tiny", samples=4)]  # doctest: +SKIP
    ['run the model', 'run it and measure all hook points']
    """
    check_counts(samples, batch_size, repeats)
    model, batch = make_random_model(
        name, batch_size=batch_size, device=device, precision=precision
    )
    from ima.capture import compute_batch_statistics

    count = max(1, samples // batch_size)

    def plain_pass() -> None:
        for _ in range(count):
            model.forward(batch)
        _wait(device)

    def measured_pass() -> None:
        for _ in range(count):
            compute_batch_statistics(model, batch)

    seconds = time_fastest_runs(
        {FORWARD_STEP: plain_pass, MEASURE_STEP: measured_pass}, repeats=repeats
    )
    plain, measured = seconds[FORWARD_STEP], seconds[MEASURE_STEP]
    return [
        StepTiming(FORWARD_STEP, plain, count * batch_size),
        StepTiming(MEASURE_STEP, measured, count * batch_size, measured / plain, FORWARD_STEP),
    ]


def benchmark_plans(
    name: str = "llama-12",
    *,
    batch_size: int = 1,
    repeats: int = 5,
    device: str = "cpu",
    precision: str = "float32",
) -> pd.DataFrame:
    """Measure whether skipping tokens reduces the time of a prompt as it reduces operations.

    Parameters
    ----------
    name : str
        One of :data:`MODEL_SHAPES`, with random weights.
    batch_size : int
        Samples of the batch.
    repeats : int
        Number of timed rounds, plans in turn; the fastest counts.
    device, precision : str
        Device and dtype of the model.

    Returns
    -------
    pandas.DataFrame
        ``plan``; ``gflops`` and ``prefill`` (time) as fractions of the full computation; and
        ``efficiency``, the saved fraction of the time divided by the saved fraction of the
        operations, 1 at best.

    Raises
    ------
    UnknownNameError
        If no shape has this name.

    Examples
    --------
    >>> benchmark_plans("tiny", repeats=1).columns.tolist()  # doctest: +SKIP
    ['plan', 'gflops', 'prefill', 'efficiency']
    """
    model, batch = make_random_model(
        name, batch_size=batch_size, device=device, precision=precision
    )
    from ima.token_reduction.apply import apply_plan
    from ima.token_reduction.cost import compute_prefill_cost
    from ima.token_reduction.methods.fastv import FastV
    from ima.token_reduction.methods.skip_sub_block import SkipSubBlock
    from ima.token_reduction.methods.vtw import VTW
    from ima.token_reduction.plans import ReductionPlan

    third = max(1, model.layers // 3)
    plans = [
        ReductionPlan(name="full computation"),
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
    full = plans[0].name
    rows = []
    for plan in plans[1:]:
        ratio, time = operations[plan.name] / operations[full], seconds[plan.name] / seconds[full]
        efficiency = (1 - time) / (1 - ratio)
        rows.append({"plan": plan.name, "gflops": ratio, "prefill": time, "efficiency": efficiency})
    return pd.DataFrame(rows)


def benchmark_nm_sparsity(
    name: str = "llava-1.5-7b", *, tokens: int = 4096, repeats: int = 5, device: str = "cuda"
) -> pd.DataFrame:
    """Time linear layers that keep two of four weights as torch's semi-structured sparse tensors.

    Parameters
    ----------
    name : str
        One of :data:`MODEL_SHAPES`, with random float16 weights.
    tokens : int
        Tokens that a layer processes at once.
    repeats : int
        Number of timed rounds, dense and sparse in turn; the fastest counts.
    device : str
        A GPU whose tensor cores multiply 2:4 sparse matrices.

    Returns
    -------
    pandas.DataFrame
        One row for each kind of linear layer: ``layer``; ``time`` as a fraction of the dense
        layer's with the same zeros; ``difference``, the largest difference of an output in standard
        deviations of the outputs.

    Raises
    ------
    UnknownNameError
        If no shape has this name.
    ParameterError
        If the device is not a GPU.

    Examples
    --------
    >>> benchmark_nm_sparsity("llava-1.5-7b")["time"].max()  # doctest: +SKIP
    0.72
    """
    shape = _get_shape(name)
    import torch
    from torch.nn.functional import linear
    from torch.sparse import to_sparse_semi_structured

    if torch.device(device).type != "cuda":
        raise ParameterError(
            f"2:4 sparse weights need a GPU's tensor cores; got device {device!r}."
        )
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
        inputs = torch.randn(tokens, into, device=device, dtype=torch.float16)

        def multiply(matrix: torch.Tensor, inputs: torch.Tensor = inputs) -> torch.Tensor:
            outputs = linear(inputs, matrix)
            _wait(device)
            return outputs

        gap = (multiply(dense) - multiply(sparse)).float()
        steps = {"dense": partial(multiply, dense), "sparse": partial(multiply, sparse)}
        seconds = time_fastest_runs(steps, repeats=repeats)
        deviation = multiply(dense).float().std()
        rows.append(
            {
                "layer": label,
                "time": seconds["sparse"] / seconds["dense"],
                "difference": float(gap.abs().max() / deviation),
            }
        )
    return pd.DataFrame(rows)


def _get_shape(name: str) -> ModelShape:
    if name not in MODEL_SHAPES:
        raise UnknownNameError.among(kind="shape", asked=name, available=MODEL_SHAPES)
    return MODEL_SHAPES[name]


def make_random_model(
    name: str, *, batch_size: int, device: str = "cpu", precision: str = "float32"
) -> tuple[Any, Any]:
    """Make a frozen model of a shape with random weights, and a random batch for it.

    Parameters
    ----------
    name : str
        One of :data:`MODEL_SHAPES`.
    batch_size : int
        Samples of the batch.
    device, precision : str
        Device and dtype of the model.

    Returns
    -------
    FrozenModel, Batch
        The model has no encoder and no tokenizer.

    Raises
    ------
    UnknownNameError
        If no shape has this name.

    Examples
    --------
    >>> model, batch = make_random_model("tiny", batch_size=2)
    >>> model.layers, tuple(batch.embeds.shape)
    (3, (2, 10, 32))
    """
    shape = _get_shape(name)
    import torch

    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel
    from ima.models.hook_point_search import find_hook_points

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, precision))
    try:
        with torch.device(device):
            language = _make_language_model(shape)
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
        # The model has no encoder; its perceptual tokens are random numbers.
        perception=cast(
            "Any", SimpleNamespace(modality="image", queries=shape.n_perceptual_tokens)
        ),
    )
    size, length = batch_size, shape.n_perceptual_tokens + shape.n_text_tokens
    mask = torch.ones(size, length, dtype=torch.int64, device=device)
    modality = torch.zeros(size, length, dtype=torch.int8, device=device)
    modality[:, : shape.n_perceptual_tokens] = 1
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


def _make_language_model(shape: ModelShape) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "vocab_size": shape.vocabulary,
    }
    if shape.architecture == "opt":
        return OPTForCausalLM(
            OPTConfig(ffn_dim=shape.intermediate, word_embed_proj_dim=shape.hidden, **sizes)
        )
    return LlamaForCausalLM(LlamaConfig(intermediate_size=shape.intermediate, **sizes))


def _wait(device: str) -> None:
    """Wait until the device has finished."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
