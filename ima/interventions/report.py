"""Reports on plans: score, operations, rows of the cache and time of each, side by side (I3)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from ima.cache.schema import MAIN_SCORES
from ima.errors import ParameterError
from ima.evaluation.samplewise import SampleScorer
from ima.evaluation.scores import mean_score
from ima.interventions.cost import DECODED, cost, timed
from ima.interventions.plans import Plan
from ima.interventions.skipping import planned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ima.models import Batch, FrozenModel
    from ima.samples import Sample

PLAIN = Plan(name="nothing left out")


def compare(
    model: FrozenModel,
    samples: Sequence[Sample],
    plans: Sequence[Plan],
    *,
    batch_size: int = 32,
    repeats: int = 5,
    decoded: int = DECODED,
) -> pd.DataFrame:
    """Run a model under several plans, and as it is.

    Parameters
    ----------
    model : FrozenModel
        What answers.
    samples : sequence of Sample
        Of one task. The first batch is timed.
    plans : sequence of Plan
        Their names must differ.
    batch_size : int
        Samples that run at once.
    repeats : int
        Rounds of timing; 0 leaves the timing out.
    decoded : int
        Tokens that are decoded to time it.

    Returns
    -------
    pandas.DataFrame
        A row per plan, :data:`PLAIN` first: ``plan``, ``metric``, ``score``, ``low``, ``high``,
        ``n``; of the prompts, per sample, ``gflops`` (of these ``gflops attention``) and ``cached``
        rows; seconds ``prefill``, ``decode`` (a token) and ``whole``; and the ratios of the costs
        to those of the plain model, with ``ratio`` behind their names.

    Raises
    ------
    ParameterError
        If names repeat, a plan does not fit the model, or samples have no score.
    """
    named = {plan.name: plan for plan in (PLAIN, *plans)}
    if len(named) <= len(plans):
        message = f"Names of plans must differ; got {', '.join(plan.name for plan in plans)}."
        raise ParameterError(message)
    for plan in named.values():
        plan.check(model)
    scorer = SampleScorer(list(samples))
    metric = next((name for name in MAIN_SCORES if name in scorer.metrics), None)
    if metric is None:
        message = "The samples have no reference to be scored by. Take others."
        raise ParameterError(message)
    rows = []
    for plan in named.values():
        said, costs = _answers(model, samples, plan, batch_size)
        values = scorer(samples, said)[:, scorer.metrics.index(metric)]
        found = mean_score(values.astype(float))
        row = {"plan": plan.name, "metric": metric, "score": found.value, "low": found.low}
        rows.append(row | {"high": found.high, "n": found.n} | costs)
    table = pd.DataFrame(rows)
    if repeats:
        first = list(samples[:batch_size])
        times = timed(model, first, named, repeats=repeats, decoded=decoded)
        for name in ("prefill", "decode", "whole"):
            table[name] = [times[plan][name] for plan in table["plan"]]
    for name in ("gflops", "cached", "prefill", "decode", "whole"):
        if name in table:
            table[f"{name} ratio"] = table[name] / table[name].iloc[0]
    return table


def _answers(
    model: FrozenModel, samples: Sequence[Sample], plan: Plan, batch_size: int
) -> tuple[list[str], dict[str, float]]:
    costs: list[Any] = []

    @contextmanager
    def around(batch: Batch) -> Iterator[None]:
        with planned(model, batch, plan) as trace:
            yield
        costs.append(cost(model, trace))

    said = model.generate(samples, batch_size=batch_size, around=around)
    each = 1e9 * len(samples)
    return said, {
        "gflops": sum(one.total for one in costs) / each,
        "gflops attention": sum(one.attention for one in costs) / each,
        "cached": sum(one.cached for one in costs) / len(samples),
    }
