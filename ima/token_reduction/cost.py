"""What a plan costs: floating-point operations, tokens in the cache, and time (I3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ima.errors import ModelError, ParameterError
from ima.models.perception import remember_tokens, reuse_perception
from ima.timing import time_fastest_runs
from ima.token_reduction.apply import PlanTrace, apply_plan
from ima.token_reduction.plans import ReductionPlan

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

#: Tokens that are decoded when decoding is timed (related systems report 32).
DECODED_TOKENS = 32


@dataclass(frozen=True)
class PrefillCost:
    """Cost of the prompts of a batch, summed over samples.

    Parameters
    ----------
    linear_flops, attention_flops : int
        Floating-point operations of the decoder's linear layers, and of the products of queries
        with keys and of weights with values; a multiplication and an addition count two. Each token
        that attends is multiplied with all tokens present, as SDPA does it. Norms, activations and
        what :func:`count_other_operations` counts are not among them.
    cached_tokens : int
        Tokens whose keys and values are cached, summed over layers.
    """

    linear_flops: int
    attention_flops: int
    cached_tokens: int

    @property
    def total_flops(self) -> int:
        """All operations."""
        return self.linear_flops + self.attention_flops


def compute_prefill_cost(model: FrozenModel, trace: PlanTrace) -> PrefillCost:
    """Count the cost of the prompts of a batch under a plan.

    Parameters
    ----------
    model : FrozenModel
        The model that ran.
    trace : PlanTrace
        From :func:`ima.token_reduction.apply.apply_plan`, after the prompts ran.

    Raises
    ------
    ModelError
        If the projections of the model's attention cannot be counted.

    Examples
    --------
    >>> with apply_plan(model, batch, plan) as trace:  # doctest: +SKIP
    ...     model.forward(batch)
    >>> compute_prefill_cost(model, trace).total_flops  # doctest: +SKIP
    51380224
    """
    linear = attention = cached = 0
    for layer, block in enumerate(model.hook_points.blocks):
        present = trace.present[layer].sum(dim=1)
        attending = present - trace.skipped["attention"][layer].sum(dim=1)
        in_ffn = present - trace.skipped["ffn"][layer].sum(dim=1)
        sizes = _count_weights(block, model)
        linear += 2 * int((attending * sizes["q_o"] + present * sizes["k_v"]).sum())
        linear += 2 * int((in_ffn * sizes["ffn"]).sum())
        attention += 4 * int((attending * present).sum()) * sizes["width"]
        cached += int(present.sum())
    return PrefillCost(linear, attention, cached)


def count_operations(run: Callable[[], object]) -> int:
    """Count the floating-point operations of what runs, as torch counts them.

    Parameters
    ----------
    run : callable
        Runs modules of torch, such as a model on a prompt.

    Returns
    -------
    int
        Products of matrices, convolutions and attention on all positions, padding included; a
        multiplication and an addition count two.

    Examples
    --------
    >>> linear = nn.Linear(4, 3)
    >>> count_operations(lambda: linear(torch.ones(2, 4)))
    48
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    # Fused kernels, of attention and of whole layers, are not among those that torch counts.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())


def count_after_encoder(model: FrozenModel, run: Callable[[FrozenModel], object]) -> int:
    """Count the operations of what a model runs once its encoder has read the media.

    Parameters
    ----------
    model : FrozenModel
        The model. One of another class, such as a hub model, reads its media as it runs, so that
        their operations count.
    run : callable
        Runs the model that it is given; it is called twice, the first time without counting.

    Returns
    -------
    int
        As :func:`count_operations`: of connector and language model.

    Examples
    --------
    >>> count_after_encoder(  # doctest: +SKIP
    ...     model, lambda own: own.generate(samples, max_new_tokens=1)
    ... )
    4105728
    """
    if model.perception is not None:
        model = replace(model, perception=remember_tokens(model.perception, {}))
    run(model)
    return count_operations(partial(run, model))


def count_other_operations(model: FrozenModel, samples: Sequence[Sample]) -> float:
    """Count the operations that no plan changes: those of the connector and the unembedding.

    With those of :class:`PrefillCost` they make up all operations up to the first word of an
    answer, but for those of the encoder.

    Parameters
    ----------
    model : FrozenModel
        As for :func:`count_after_encoder`.
    samples : sequence of Sample
        One batch.

    Returns
    -------
    float
        Operations of the prompt of a sample, mean over the samples.

    Examples
    --------
    >>> count_other_operations(model, samples)  # doctest: +SKIP
    1048576.0
    """
    batch = model.encode(samples, side="left", target=False)
    blocks = count_operations(partial(model.forward, batch))

    def answer(own: FrozenModel) -> object:
        return own.generate(samples, max_new_tokens=1, batch_size=len(samples))

    return (count_after_encoder(model, answer) - blocks) / len(samples)


def _count_weights(block: nn.Module, model: FrozenModel) -> dict[str, int]:
    """Count weights of query and output, key and value, and FFN; and return query's width."""
    prefix = f"{model.hook_points.attention}."
    linears = {n: m for n, m in block.named_modules() if isinstance(m, nn.Linear)}
    weights = {name: linear.weight.numel() for name, linear in linears.items()}
    own = {n.removeprefix(prefix): size for n, size in weights.items() if n.startswith(prefix)}
    out = own.get("o_proj", own.get("out_proj"))
    if out is None or not {"q_proj", "k_proj", "v_proj"} <= own.keys():
        attention = model.hook_points.get_attention(0)
        raise ModelError(
            f"Cannot count the projections of {type(attention).__name__}: q_proj, k_proj, v_proj "
            f"and o_proj are needed; it has {', '.join(own) or 'none'}."
        )
    return {
        "q_o": own["q_proj"] + out,
        "k_v": own["k_proj"] + own["v_proj"],
        "ffn": sum(weights.values()) - sum(own.values()),
        "width": linears[f"{prefix}q_proj"].out_features,
    }


def time_plans(
    model: FrozenModel,
    samples: Sequence[Sample],
    plans: Mapping[str, ReductionPlan],
    *,
    repeats: int = 5,
    decoded: int = DECODED_TOKENS,
) -> dict[str, dict[str, float]]:
    """Time prompts, and decoding after them, under several plans in turn.

    Both are times of :meth:`ima.models.frozen.FrozenModel.generate`: of its first token, and of
    all. A model with connectors of ours reads the media beforehand, so that they are not timed. A
    plan without steps runs without hooks.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : sequence of Sample
        One batch.
    plans : mapping of str to ReductionPlan
        The plans; each round runs all of them, so that a slow moment affects all.
    repeats : int
        Rounds; the fastest counts.
    decoded : int
        Tokens that are decoded, whether or not the model would stop earlier; at least 2.

    Returns
    -------
    dict of str to dict of str to float
        By plan, seconds: ``prefill`` (prompt and first token), ``decode`` (each further token) and
        ``whole`` (prompt and all tokens).

    Raises
    ------
    ParameterError
        If fewer than two tokens are decoded.

    Examples
    --------
    >>> time_plans(model, samples, {"FastV": plan})["FastV"]["prefill"]  # doctest: +SKIP
    0.021
    """
    if decoded < 2:
        raise ParameterError(f"Decoding is timed with at least 2 tokens; got {decoded}.")
    runs: dict[str, Any] = {}
    for name, plan in plans.items():
        for tokens in (1, decoded):
            runs[f"{tokens} {name}"] = partial(_generate, model, samples, plan, tokens)
    with reuse_perception():
        model.encode(samples, side="left", target=False)
        seconds = time_fastest_runs(runs, repeats=repeats)
    times = {}
    for name in plans:
        first, whole = seconds[f"1 {name}"], seconds[f"{decoded} {name}"]
        decode = (whole - first) / (decoded - 1)
        times[name] = {"prefill": first, "decode": decode, "whole": whole}
    return times


def _generate(
    model: FrozenModel, samples: Sequence[Sample], plan: ReductionPlan, tokens: int
) -> None:
    def around(batch: Batch) -> AbstractContextManager[Any]:
        return apply_plan(model, batch, plan) if plan.steps else nullcontext()

    model.generate(
        samples, max_new_tokens=tokens, min_new_tokens=tokens, batch_size=len(samples),
        around=around,
    )  # fmt: skip
