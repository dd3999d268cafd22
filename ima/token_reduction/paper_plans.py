"""Methods that leave computation out, each as a plan (I3): the paper's and those beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as nnf

from ima.errors import ParameterError
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.plans import (
    LayerRange,
    ParallelStep,
    PruneStep,
    ReductionPlan,
    SkipStep,
    SubBlock,
)

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models import Batch
    from ima.models.frozen import FrozenModel

#: Mean KL divergence in nats up to which VTW withdraws (its value for LLaVA-1.5-7B).
VTW_THRESHOLD = 0.003
#: Share of the highest attention below which image-text interaction pruning withdraws.
INTERACTION_THRESHOLD = 0.5
#: Shares of the depth behind which PyramidDrop halves the percepts.
_PYRAMID_DEPTHS = (0.25, 0.5, 0.75)


def make_skip_plan(
    what: SubBlock,
    *,
    share: float = 1.0,
    start: int = 1,
    every: int = 1,
    rows: str = "perceptual",
    choose: str = "strided",
) -> ReductionPlan:
    """Return the paper's plans: rows bypass a sub-block from a layer on (§4).

    Parameters
    ----------
    what : {"attention", "ffn", "block"}
        The sub-block.
    share : float
        Of a sample's rows.
    start, every : int
        The first layer, and every how many.
    rows : str
        Which rows; see :class:`ima.token_reduction.plans.SkipStep`.
    choose : {"first", "strided", "random"}
        Which of them.
    """
    layers = {"start": start, "every": every}
    step = SkipStep.model_validate(
        {"skip": what, "share": share, "rows": rows, "layers": layers, "choose": choose}
    )
    ends = [f", every {every}"] if every > 1 else []
    ends += [f", {choose}"] if choose != "strided" else []
    name = f"skip {what} of {share:.0%} of {rows} rows from {start}{''.join(ends)}"
    return ReductionPlan(name=name, steps=(step,))


def make_parallel_plan(*, start: int = 1) -> ReductionPlan:
    """Return the plan in which attention and FFN run in parallel from a layer on."""
    step = ParallelStep(parallel=LayerRange(start=start))
    return ReductionPlan(name=f"attention and FFN in parallel from {start}", steps=(step,))


def make_fastv_plan(*, behind: int, share: float = 0.5, control: str = "") -> ReductionPlan:
    """Return FastV (Chen et al. 2024, arXiv:2403.06764): the least attended percepts leave.

    Parameters
    ----------
    behind : int
        Layer in which the last row's attention is read, and behind which they leave.
    share : float
        Of the percepts.
    control : {"", "random", "attention-reversed"}
        Random ones, or the most attended ones, leave instead.
    """
    how = control or "attention"
    step = PruneStep.model_validate({"behind": behind, "share": share, "choose": how})
    title = {"attention": "FastV", "random": "random", "attention-reversed": "most attended"}
    return ReductionPlan(name=f"{title.get(how, how)}: {share:.0%} behind {behind}", steps=(step,))


def make_pyramiddrop_plan(model: FrozenModel, *, share: float = 0.5) -> ReductionPlan:
    """Return PyramidDrop (Xing et al. 2024, arXiv:2410.17247): percepts halve at three depths."""
    layers = sorted({max(1, round(part * model.layers)) for part in _PYRAMID_DEPTHS})
    steps = tuple(PruneStep(behind=layer, share=share, choose="attention") for layer in layers)
    return ReductionPlan(name=f"PyramidDrop behind {', '.join(map(str, layers))}", steps=steps)


def make_v2drop_plan(*, behind: int, share: float = 0.5) -> ReductionPlan:
    """Return V2Drop (arXiv:2509.01552): the percepts that a layer moves least leave."""
    step = PruneStep(behind=behind, share=share, choose="change")
    return ReductionPlan(name=f"V2Drop: {share:.0%} behind {behind}", steps=(step,))


def make_interaction_plan(
    *, behind: int, below: float = INTERACTION_THRESHOLD, control: str = ""
) -> ReductionPlan:
    """Return image-text interaction pruning (arXiv:2409.01162): first by image, then by text.

    Before the first layer percepts leave whose patch stands behind the knee of similarities to the
    encoder's CLS token; behind one layer of the language model, those to which the prompt's last
    row attends little. Knee, layer and threshold are our choices: the authors do not tell
    theirs.

    Parameters
    ----------
    behind : int
        The layer.
    below : float
        Of the highest attention of a sample; 0 lets none leave there.
    control : {"", "random", "reversed"}
        As many random ones leave instead, or the most similar and most attended.
    """
    end = f"-{control}" if control else ""
    first: dict[str, object] = {"behind": 0, "share": "knee", "choose": f"summary{end}"}
    second: dict[str, object] = {"behind": behind, "below": below, "choose": f"attention{end}"}
    steps = tuple(PruneStep.model_validate(step) for step in (first, second))
    title = f"as many, {control}" if control else "image-text interaction"
    return ReductionPlan(name=f"{title}: knee, then behind {behind}", steps=steps)


def make_vtw_plan(*, behind: int) -> ReductionPlan:
    """Return the plan in which all percepts leave behind a layer, as in VTW."""
    return ReductionPlan(name=f"VTW behind {behind}", steps=(PruneStep(behind=behind),))


@dataclass(frozen=True)
class LayerSearch:
    """A layer that was searched for, with what was found on the way.

    Parameters
    ----------
    plan : Plan
        The plan chosen.
    divergence : mapping of int to float
        By layer: mean KL divergence of the plan there from the plain model, in nats.
    samples : int
        How many samples it is a mean over.
    """

    plan: ReductionPlan
    divergence: Mapping[int, float]
    samples: int


def search_vtw(
    model: FrozenModel, samples: Sequence[Sample], *, threshold: float = VTW_THRESHOLD
) -> LayerSearch:
    """Choose VTW's layer (arXiv:2405.05803): the first behind which percepts may leave.

    Parameters
    ----------
    model : FrozenModel
        What runs.
    samples : sequence of Sample
        Calibration samples; the authors take 20.
    threshold : float
        KL divergence of the next-word distribution behind the prompt, in nats.

    Returns
    -------
    Search
        The first layer whose mean divergence is at most the threshold; the last layer, behind which
        nothing is left to save, has 0.
    """
    plans = {layer: make_vtw_plan(behind=layer) for layer in range(1, model.layers + 1)}
    found = compute_plan_divergence(model, samples, plans)
    layer = next(layer for layer in plans if found[layer] <= threshold)
    return LayerSearch(plans[layer], found, len(samples))


def search_shortv(model: FrozenModel, samples: Sequence[Sample], *, count: int) -> LayerSearch:
    """Choose ShortV's layers (arXiv:2504.00502): those where percepts can stay as they are.

    Parameters
    ----------
    model : FrozenModel
        What runs.
    samples : sequence of Sample
        Calibration samples.
    count : int
        In how many layers percepts bypass the block: those in which doing so alone changes the
        next-word distribution least.

    Raises
    ------
    ParameterError
        If there are fewer layers.
    """
    if not 1 <= count <= model.layers:
        message = f"count must be between 1 and {model.layers}, the layers; got {count}."
        raise ParameterError(message)
    plans = {
        layer: ReductionPlan(name="one layer", steps=(SkipStep(skip="block", layers=[layer]),))
        for layer in range(1, model.layers + 1)
    }
    found = compute_plan_divergence(model, samples, plans)
    chosen = sorted(sorted(found, key=lambda layer: found[layer])[:count])
    plan = ReductionPlan(
        name=f"ShortV in {count} layers", steps=(SkipStep(skip="block", layers=chosen),)
    )
    return LayerSearch(plan, found, len(samples))


@torch.no_grad()
def compute_plan_divergence(
    model: FrozenModel,
    samples: Sequence[Sample],
    plans: Mapping[int, ReductionPlan],
    *,
    batch_size: int = 16,
) -> dict[int, float]:
    """Return how far each plan's next-word distribution behind the prompt is from the plain one.

    Parameters
    ----------
    model : FrozenModel
        What runs.
    samples : sequence of Sample
        Their prompts are read without an answer.
    plans : mapping of int to Plan
        The plans.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    dict of int to float
        Mean over samples of KL(plan ‖ plain), in nats, by the keys of ``plans``.
    """
    if not samples:
        message = "At least one sample is needed; got none."
        raise ParameterError(message)
    total = dict.fromkeys(plans, 0.0)
    for batch in model.stream(samples, batch_size=batch_size, side="left", target=False):
        plain = _compute_next_log_probs(model, batch, ReductionPlan(name="plain"))
        for key, plan in plans.items():
            told = _compute_next_log_probs(model, batch, plan)
            total[key] += float(nnf.kl_div(plain, told, reduction="sum", log_target=True))
    return {key: value / len(samples) for key, value in total.items()}


def _compute_next_log_probs(model: FrozenModel, batch: Batch, plan: ReductionPlan) -> Tensor:
    """Return the logarithm of the next-word distribution behind each prompt, under a plan.

    Parameters
    ----------
    model : FrozenModel
        What runs.
    batch : Batch
        Prompts padded on the left.
    plan : Plan
        What is left out.

    Returns
    -------
    Tensor
        ``(sample, vocabulary)``, in double precision.
    """
    with apply_plan(model, batch, plan):
        states = model.anatomy.trunk(**batch.inputs, use_cache=False).last_hidden_state
    return model.anatomy.words(states[:, -1:])[:, 0].double().log_softmax(dim=-1)
