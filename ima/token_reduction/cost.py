"""What a plan costs: multiplications, rows of the cache, and time (I3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ima.errors import ModelError
from ima.timing import fastest
from ima.token_reduction.apply import PlanTrace, apply_plan
from ima.token_reduction.plans import ReductionPlan

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models import Batch
    from ima.models.frozen import FrozenModel

#: Tokens that are decoded to time it (related systems report 32).
DECODED_TOKENS = 32


@dataclass(frozen=True)
class PrefillCost:
    """What the prompts of a batch cost, summed over samples.

    Parameters
    ----------
    linear, attention : int
        Floating-point operations of the decoder's linear layers, and of the products of queries
        with keys and of weights with values; a multiplication and an addition count two. Each row
        that asks is multiplied with all rows present, as SDPA does it; norms, activations and the
        unembedding are left out.
    cached : int
        Rows of keys and values that all layers together keep.
    """

    linear: int
    attention: int
    cached: int

    @property
    def total(self) -> int:
        """All operations."""
        return self.linear + self.attention


def compute_prefill_cost(model: FrozenModel, trace: PlanTrace) -> PrefillCost:
    """Count what the prompts of a batch cost under the plan that a trace is of.

    Parameters
    ----------
    model : FrozenModel
        What ran.
    trace : Trace
        From :func:`ima.token_reduction.apply.apply_plan`, after the prompt ran.

    Raises
    ------
    ModelError
        If the attention of the model has no projections that can be counted.
    """
    linear = attention = cached = 0
    for layer, block in enumerate(model.anatomy.blocks):
        present = trace.present[layer].sum(dim=1)
        asking = present - trace.skipped["attention"][layer].sum(dim=1)
        running = present - trace.skipped["ffn"][layer].sum(dim=1)
        sizes = _sizes(block, model)
        linear += 2 * int((asking * sizes["asks"] + present * sizes["keeps"]).sum())
        linear += 2 * int((running * sizes["ffn"]).sum())
        attention += 4 * int((asking * present).sum()) * sizes["width"]
        cached += int(present.sum())
    return PrefillCost(linear, attention, cached)


def _sizes(block: nn.Module, model: FrozenModel) -> dict[str, int]:
    """Count the weights that a row meets: as one that asks, is asked, or goes through the FFN."""
    attention = block.get_submodule(model.anatomy.attention)
    named = {
        name: module for name, module in attention.named_children() if isinstance(module, nn.Linear)
    }
    asks = [m for n, m in named.items() if n in {"q_proj", "o_proj", "out_proj"}]
    keeps = [m for n, m in named.items() if n in {"k_proj", "v_proj"}]
    if len(asks) != 2 or len(keeps) != 2:
        message = f"Cannot count the projections of {type(attention).__name__}: {', '.join(named)}."
        raise ModelError(message)
    prefix = f"{model.anatomy.attention}."
    ffn = [
        module
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(prefix)
    ]
    return {
        "asks": sum(_weights(m) for m in asks),
        "keeps": sum(_weights(m) for m in keeps),
        "ffn": sum(_weights(m) for m in ffn),
        "width": int(named["q_proj"].out_features),
    }


def _weights(linear: nn.Linear) -> int:
    return int(linear.in_features * linear.out_features)


def time_plans(
    model: FrozenModel,
    samples: Sequence[Sample],
    named: Mapping[str, ReductionPlan],
    *,
    repeats: int = 5,
    decoded: int = DECODED_TOKENS,
) -> dict[str, dict[str, float]]:
    """Time the prompts of a batch, and decoding after them, under several plans in turn.

    Parameters
    ----------
    model : FrozenModel
        What runs.
    samples : sequence of Sample
        One batch.
    named : mapping of str to Plan
        The plans; each round runs all of them, so that a slow spell hits all.
    repeats : int
        Rounds; the fastest counts.
    decoded : int
        Tokens that are decoded, whatever the model says.

    Returns
    -------
    dict of str to dict of str to float
        By plan, seconds: ``prefill``, ``decode`` (a token) and ``whole`` (prompt and all tokens).
    """
    batch = model.encode(samples, side="left", target=False)
    steps: dict[str, Any] = {}
    for name, plan in named.items():
        steps[f"prefill {name}"] = partial(_prefill, model, batch, plan)
        steps[f"whole {name}"] = partial(_whole, model, samples, plan, decoded)
    best = fastest(steps, repeats=repeats)
    found = {}
    for name in named:
        prefill, whole = best[f"prefill {name}"], best[f"whole {name}"]
        found[name] = {"prefill": prefill, "whole": whole, "decode": (whole - prefill) / decoded}
    return found


@torch.no_grad()
def _prefill(model: FrozenModel, batch: Batch, plan: ReductionPlan) -> Tensor | None:
    with apply_plan(model, batch, plan):
        states = model.forward(batch)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return states


def _whole(
    model: FrozenModel, samples: Sequence[Sample], plan: ReductionPlan, decoded: int
) -> None:
    def around(batch: Batch) -> AbstractContextManager[Any]:
        return apply_plan(model, batch, plan)

    model.generate(
        samples, max_new_tokens=decoded, min_new_tokens=decoded, batch_size=len(samples),
        around=around,
    )  # fmt: skip
