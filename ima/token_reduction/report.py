"""Reports on plans: score, operations, rows of the cache and time of each, side by side (I3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ima.capture import capture_activations
from ima.errors import ParameterError
from ima.measures.similarity import FloatArray
from ima.metrics.sample_scores import MAIN_SCORES, SampleScorer
from ima.models.perception import reuse_perception
from ima.stats.intervals import Interval, draw_bootstrap_weights
from ima.stats.scores import compute_mean_score
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.cost import DECODED_TOKENS, compute_prefill_cost, time_plans
from ima.token_reduction.plans import ReductionPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ima.data.samples import Sample
    from ima.models import Batch
    from ima.models.frozen import FrozenModel

UNREDUCED_PLAN = ReductionPlan(name="nothing left out")


@dataclass(frozen=True)
class PlanReport:
    """What a model did under several plans.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per plan, :data:`UNREDUCED_PLAN` first: ``plan``, ``metric``, ``score``, ``low``, ``high``,
        ``n``; of the prompts, per sample, ``gflops`` (of these ``gflops attention``) and ``cached``
        rows; seconds ``prefill``, ``decode`` (a token) and ``whole``; and the ratios of the costs
        to those of the plain model, with ``ratio`` behind their names.
    by_sample : mapping of str to ndarray
        By plan the score of each sample, ``(sample,)``.
    """

    table: pd.DataFrame
    by_sample: Mapping[str, FloatArray]


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
    """Run a model under several plans, and as it is.

    Parameters
    ----------
    model : FrozenModel
        What answers.
    samples : sequence of Sample
        Of one task.
    plans : sequence of Plan
        Their names must differ.
    batch_size : int
        Samples that run at once.
    repeats : int
        Rounds of timing; 0 leaves the timing out.
    timed_samples : int or None
        How many of the first samples are timed, at once; None times a whole batch.
    decoded : int
        Tokens that are decoded to time it.

    Returns
    -------
    Report
        Scores and costs side by side.

    Raises
    ------
    ParameterError
        If names repeat, a plan does not fit the model, or samples have no score.
    """
    named = {plan.name: plan for plan in (UNREDUCED_PLAN, *plans)}
    if len(named) <= len(plans):
        message = f"Names of plans must differ; got {', '.join(plan.name for plan in plans)}."
        raise ParameterError(message)
    for plan in named.values():
        plan.check(model)
    held = list(samples)
    scorer = SampleScorer(held)
    metric = next((name for name in MAIN_SCORES if name in scorer.metrics), None)
    if metric is None:
        message = "The samples have no reference to be scored by. Take others."
        raise ParameterError(message)
    rows, each = [], {}
    with reuse_perception():
        answered = [_answers(model, held, plan, batch_size) for plan in named.values()]
    for plan, (said, costs) in zip(named.values(), answered, strict=True):
        values = scorer(held, said)[:, scorer.metrics.index(metric)].astype(float)
        each[plan.name] = values
        found = compute_mean_score(values)
        row = {"plan": plan.name, "metric": metric, "score": found.value, "low": found.low}
        rows.append(row | {"high": found.high, "n": found.n} | costs)
    table = pd.DataFrame(rows)
    if repeats:
        first = held[: timed_samples or batch_size]
        times = time_plans(model, first, named, repeats=repeats, decoded=decoded)
        for name in ("prefill", "decode", "whole"):
            table[name] = [times[plan][name] for plan in table["plan"]]
    for name in ("gflops", "cached", "prefill", "decode", "whole"):
        if name in table:
            table[f"{name} ratio"] = table[name] / table[name].iloc[0]
    return PlanReport(table, each)


def _answers(
    model: FrozenModel, samples: Sequence[Sample], plan: ReductionPlan, batch_size: int
) -> tuple[list[str], dict[str, float]]:
    costs: list[Any] = []

    @contextmanager
    def around(batch: Batch) -> Iterator[None]:
        with apply_plan(model, batch, plan) as trace:
            yield
        costs.append(compute_prefill_cost(model, trace))

    said = model.generate(samples, batch_size=batch_size, around=around)
    each = 1e9 * len(samples)
    return said, {
        "gflops": sum(one.total for one in costs) / each,
        "gflops attention": sum(one.attention for one in costs) / each,
        "cached": sum(one.cached for one in costs) / len(samples),
    }


def compute_relative_score(
    values: FloatArray,
    plain: FloatArray,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return a score as a share of the plain model's, on the same samples (I3).

    Parameters
    ----------
    values, plain : ndarray
        ``(sample,)`` each: scores under a plan, and of the plain model.
    resamples : int
        Bootstrap resamples of samples, the same for both.
    seed : int
        Same seed, same interval.
    level : float
        Coverage of the percentile interval.

    Raises
    ------
    ParameterError
        If the plain model scores nothing: no share of it can be kept.
    """
    if not plain.mean() > 0:
        message = "The plain model scores 0 on these samples: no share of it can be kept."
        raise ParameterError(message)
    drawn = draw_bootstrap_weights(len(plain), resamples=resamples, seed=seed).to_numpy()
    below = drawn @ plain
    shares = (drawn @ values)[below > 0] / below[below > 0]
    value = float(values.mean() / plain.mean())
    return Interval.of_draws(value, shares, n=len(plain), level=level)


def compute_score_gain(
    first: FloatArray, second: FloatArray, *, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return how much better one score is than another, on the same samples.

    Parameters
    ----------
    first, second : ndarray
        ``(sample,)`` each.
    resamples : int
        Bootstrap resamples of samples, the same for both.
    seed : int
        Same seed, same interval.
    """
    gap = first - second
    drawn = draw_bootstrap_weights(len(gap), resamples=resamples, seed=seed).to_numpy() @ gap
    return Interval.of_draws(float(gap.mean()), drawn, n=len(gap))


def compute_kept_alignment(
    model: FrozenModel, samples: Sequence[Sample], plan: ReductionPlan, *, batch_size: int = 16
) -> FloatArray:
    """Ask whether percepts that a plan keeps are more similar to text than those it drops.

    Parameters
    ----------
    model : FrozenModel
        What runs.
    samples : sequence of Sample
        With their references, whose tokens are among the text.
    plan : Plan
        Withdraws percepts once; both groups are compared where they part.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    ndarray
        ``(sample,)``: mean cosine, with the mean textual state of the sample, of percepts that stay
        less that of those that leave; samples of which all or none leave are left out.

    Raises
    ------
    ParameterError
        If the plan does not withdraw once.
    """
    if len(plan.withdrawals) != 1:
        message = f"{plan.name!r} withdraws {len(plan.withdrawals)} times; once is needed."
        raise ParameterError(message)
    behind = plan.withdrawals[0].behind
    found: list[float] = []
    for batch in model.stream(samples, batch_size=batch_size):
        with apply_plan(model, batch, plan) as trace:
            model.forward(batch)
        stays = trace.present[-1]
        states = capture_activations(model, batch, taps=["resid_post"])["resid_post"][
            behind
        ].float()
        for row in range(len(batch)):
            perceptual, text = batch.modality[row] > 0, batch.modality[row] == 0
            kept, gone = perceptual & stays[row], perceptual & ~stays[row]
            if not kept.any() or not gone.any():
                continue
            mean = states[row][text].mean(dim=0, keepdim=True)
            near = torch.cosine_similarity(states[row], mean, dim=-1)
            found.append(float(near[kept].mean() - near[gone].mean()))
    return np.array(found)


def count_kept_perceptual_tokens(
    model: FrozenModel, samples: Sequence[Sample], plan: ReductionPlan, *, batch_size: int = 32
) -> FloatArray:
    """Count the percepts that a plan leaves in the stream.

    Parameters
    ----------
    model : FrozenModel
        What runs.
    samples : sequence of Sample
        Their prompts are read without an answer.
    plan : Plan
        Withdraws percepts.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    ndarray
        ``(sample, layer)``: perceptual rows that enter the block of layer 1 … L.
    """
    found: list[FloatArray] = []
    for batch in model.stream(samples, batch_size=batch_size, side="left", target=False):
        with apply_plan(model, batch, plan) as trace:
            model.forward(batch)
        percepts = batch.modality > 0
        counts = torch.stack([(rows & percepts).sum(dim=1) for rows in trace.present], dim=1)
        found.append(counts.double().cpu().numpy())
    return np.concatenate(found)
