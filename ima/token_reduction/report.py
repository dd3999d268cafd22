"""Compare plans: score, operations, cached tokens and time of each, side by side (I3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from ima.capture import capture_activations
from ima.errors import ParameterError
from ima.metrics.sample_scores import MAIN_SCORES, SampleScorer
from ima.models.perception import reuse_perception
from ima.stats import FloatArray
from ima.stats.scores import compute_mean_score
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.cost import (
    DECODED_TOKENS,
    PrefillCost,
    compute_prefill_cost,
    time_plans,
)
from ima.token_reduction.plans import ReductionPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

UNREDUCED_PLAN = ReductionPlan(name="nothing left out")


@dataclass(frozen=True)
class PlanReport:
    """Scores and costs of a model under several plans.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per plan, :data:`UNREDUCED_PLAN` first: ``plan``, ``metric``, ``score``, ``low``,
        ``high``, ``n``; per prompt ``gflops`` (of which attention ``gflops attention``) and
        ``cached`` tokens; seconds ``prefill``, ``decode`` (a token) and ``whole``; and for each
        cost ``COST ratio``, its ratio to that of the unreduced model.
    by_sample : mapping of str to ndarray
        By plan the score of each sample, ``(sample,)``.
    contents : tuple of str
        The content of each sample; data sets that show the same ones share them.
    task : str
        The samples' task: ``"caption"`` or ``"qa"``.
    """

    table: pd.DataFrame
    by_sample: Mapping[str, FloatArray]
    contents: tuple[str, ...]
    task: str


def compare_plans(
    model: FrozenModel,
    samples: Sequence[Sample],
    plans: Sequence[ReductionPlan],
    *,
    batch_size: int = 32,
    repeats: int = 5,
    timed_samples: int | None = None,
    decoded: int = DECODED_TOKENS,
) -> PlanReport:
    """Run a model unreduced and under several plans.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : sequence of Sample
        Samples of one task.
    plans : sequence of ReductionPlan
        Their names must differ.
    batch_size : int
        Samples that run at once.
    repeats : int
        Rounds of timing; 0 omits the timing.
    timed_samples : int or None
        Number of the first samples that are timed, at once; None times a whole batch.
    decoded : int
        Tokens that are decoded when decoding is timed.

    Returns
    -------
    PlanReport
        Scores and costs side by side.

    Raises
    ------
    ParameterError
        If names repeat, a plan does not fit the model, or samples have no score.

    Examples
    --------
    >>> report = compare_plans(model, samples, [FastV(after_layer=2, ratio=0.5).plan()])
    ... # doctest: +SKIP
    >>> report.table[["plan", "score", "gflops ratio"]]  # doctest: +SKIP
    """
    by_name = {plan.name: plan for plan in (UNREDUCED_PLAN, *plans)}
    if len(by_name) <= len(plans):
        raise ParameterError(
            f"Names of plans must differ; got {', '.join(plan.name for plan in plans)}."
        )
    for plan in by_name.values():
        plan.check(model)
    samples = list(samples)
    scorer = SampleScorer(samples)
    metric = next((name for name in MAIN_SCORES if name in scorer.metrics), None)
    if metric is None:
        raise ParameterError(
            "The samples cannot be scored: they have no references. Take samples with references."
        )
    with reuse_perception():
        runs = [_answer(model, samples, plan, batch_size) for plan in by_name.values()]
    contents = tuple(sample.content_key for sample in samples)
    rows, by_sample = [], {}
    for plan, (answers, costs) in zip(by_name.values(), runs, strict=True):
        values = scorer(samples, answers)[:, scorer.metrics.index(metric)].astype(float)
        by_sample[plan.name] = values
        mean = compute_mean_score(values, contents=contents)
        row = {"plan": plan.name, "metric": metric, "score": mean.value, "low": mean.low}
        rows.append(row | {"high": mean.high, "n": mean.n} | costs)
    table = pd.DataFrame(rows)
    if repeats:
        timed = samples[: timed_samples or batch_size]
        times = time_plans(model, timed, by_name, repeats=repeats, decoded=decoded)
        for name in ("prefill", "decode", "whole"):
            table[name] = [times[plan][name] for plan in table["plan"]]
    for name in ("gflops", "cached", "prefill", "decode", "whole"):
        if name in table:
            table[f"{name} ratio"] = table[name] / table[name].iloc[0]
    return PlanReport(table, by_sample, contents, samples[0].task)


def _answer(
    model: FrozenModel, samples: Sequence[Sample], plan: ReductionPlan, batch_size: int
) -> tuple[list[str], dict[str, float]]:
    """Return a model's answers under a plan, and the mean cost of a prompt."""
    costs: list[PrefillCost] = []

    @contextmanager
    def around(batch: Batch) -> Iterator[None]:
        with apply_plan(model, batch, plan) as trace:
            yield
        costs.append(compute_prefill_cost(model, trace))

    answers = model.generate(samples, batch_size=batch_size, around=around)
    giga = 1e9 * len(samples)
    return answers, {
        "gflops": sum(cost.total_flops for cost in costs) / giga,
        "gflops attention": sum(cost.attention_flops for cost in costs) / giga,
        "cached": sum(cost.cached_tokens for cost in costs) / len(samples),
    }


def compute_kept_alignment(
    model: FrozenModel, samples: Sequence[Sample], plan: ReductionPlan, *, batch_size: int = 16
) -> FloatArray:
    """Compare the similarity to text of the perceptual tokens that stay and that leave.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : sequence of Sample
        With references, whose tokens are part of the text.
    plan : ReductionPlan
        Prunes perceptual tokens once; both groups are compared at the layer after which it prunes.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    ndarray
        ``(sample,)``: mean cosine with the sample's mean textual state of the tokens that stay,
        less that of the tokens that leave. Samples in which all or none leave are omitted.

    Raises
    ------
    ParameterError
        If the plan does not have exactly one prune step.

    Examples
    --------
    >>> plan = FastV(after_layer=2, ratio=0.5).plan()  # doctest: +SKIP
    >>> compute_kept_alignment(model, samples, plan).mean()  # doctest: +SKIP
    0.04
    """
    if len(plan.prune_steps) != 1:
        raise ParameterError(
            f"{plan.name!r} has {len(plan.prune_steps)} prune steps; exactly one is needed. Take "
            "another plan."
        )
    layer = plan.prune_steps[0].after_layer
    differences: list[float] = []
    for batch in model.iterate_batches(samples, batch_size=batch_size):
        with apply_plan(model, batch, plan) as trace:
            model.forward(batch)
        present = trace.present[-1]
        states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"][
            layer
        ].float()
        for row in range(len(batch)):
            perceptual, text = batch.modality[row] > 0, batch.modality[row] == 0
            stays, leaves = perceptual & present[row], perceptual & ~present[row]
            if not stays.any() or not leaves.any():
                continue
            mean = states[row][text].mean(dim=0, keepdim=True)
            cosine = torch.cosine_similarity(states[row], mean, dim=-1)
            differences.append(float(cosine[stays].mean() - cosine[leaves].mean()))
    return np.array(differences)


def count_kept_perceptual_tokens(
    model: FrozenModel, samples: Sequence[Sample], plan: ReductionPlan, *, batch_size: int = 32
) -> FloatArray:
    """Count the perceptual tokens that a plan leaves in the residual stream.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : sequence of Sample
        Their prompts are read without an answer.
    plan : ReductionPlan
        Prunes perceptual tokens.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    ndarray
        ``(sample, layer)``: perceptual tokens that enter the block of layer 1 … L.

    Examples
    --------
    >>> count_kept_perceptual_tokens(model, samples, VTW(after_layer=1).plan())  # doctest: +SKIP
    array([[64.,  0.,  0.]])
    """
    counts: list[FloatArray] = []
    for batch in model.iterate_batches(samples, batch_size=batch_size, side="left", target=False):
        with apply_plan(model, batch, plan) as trace:
            model.forward(batch)
        perceptual = batch.modality > 0
        layers = [(present & perceptual).sum(dim=1) for present in trace.present]
        counts.append(torch.stack(layers, dim=1).double().cpu().numpy())
    return np.concatenate(counts)
