"""Search for layers: how far a plan moves the next token, and the layer that moves it least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as nnf

from ima.errors import ParameterError
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.plans import ReductionPlan

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel


@dataclass(frozen=True)
class LayerSearch:
    """The plan that a search chose, and the divergence of every candidate.

    Parameters
    ----------
    plan : ReductionPlan
        The plan.
    divergence : mapping of int to float
        By layer: mean KL divergence of the plan there from the unreduced model, in nats.
    samples : int
        Number of samples of the mean.
    """

    plan: ReductionPlan
    divergence: Mapping[int, float]
    samples: int


@torch.no_grad()
def compute_plan_divergence(
    model: FrozenModel,
    samples: Sequence[Sample],
    plans: Mapping[int, ReductionPlan],
    *,
    batch_size: int = 16,
) -> dict[int, float]:
    """Return how far each plan moves the next-token distribution after the prompt.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : sequence of Sample
        Their prompts are read without an answer.
    plans : mapping of int to ReductionPlan
        The plans.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    dict of int to float
        Mean over samples of KL(plan ‖ unreduced), in nats, by the keys of ``plans``.

    Raises
    ------
    ParameterError
        If there is no sample.

    Examples
    --------
    >>> plans = {layer: VTW(after_layer=layer).plan() for layer in (1, 2)}  # doctest: +SKIP
    >>> compute_plan_divergence(model, samples, plans)  # doctest: +SKIP
    {1: 2.31, 2: 0.87}
    """
    if not samples:
        raise ParameterError("At least one sample is needed; got none.")
    total = dict.fromkeys(plans, 0.0)
    for batch in model.iterate_batches(samples, batch_size=batch_size, side="left", target=False):
        unreduced = _compute_next_log_probs(model, batch, ReductionPlan(name="unreduced"))
        for key, plan in plans.items():
            reduced = _compute_next_log_probs(model, batch, plan)
            total[key] += float(nnf.kl_div(unreduced, reduced, reduction="sum", log_target=True))
    return {key: value / len(samples) for key, value in total.items()}


def _compute_next_log_probs(model: FrozenModel, batch: Batch, plan: ReductionPlan) -> Tensor:
    """Return log probabilities of the token after each prompt, ``(sample, vocabulary)``, double.

    The prompts are padded on the left.
    """
    with apply_plan(model, batch, plan):
        states = model.hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
    return model.hook_points.unembed(states[:, -1:])[:, 0].double().log_softmax(dim=-1)
