"""Scores under a plan relative to the unchanged model, and whether a task can tell (I3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.stats import FloatArray
from ima.stats.intervals import COVERAGE, Interval
from ima.stats.resampling import draw_resample_counts, list_sample_contents
from ima.token_reduction.methods.skip_sub_block import SkipSubBlock
from ima.token_reduction.report import UNREDUCED_PLAN, compare_plans

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.frozen import FrozenModel
    from ima.token_reduction.plans import ReductionPlan
    from ima.token_reduction.report import PlanReport

#: Names of the plans of :func:`build_assay_plans`.
HALF_PERCEPTUAL = "half of the perceptual tokens"
TEXTUAL_CONTROL = "as many textual tokens"
HALF_PROMPT = "half of all prompt tokens"
FIRST_PERCEPTUAL = "one perceptual token, the first"
ASSAY_PLANS = (HALF_PERCEPTUAL, TEXTUAL_CONTROL, HALF_PROMPT, FIRST_PERCEPTUAL)
#: Samples whose tokens are counted; prompts of one task are about equally long.
_COUNTED = 16
#: What a content may score, without the plan and under it.
_PSEUDO_CONTENTS = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])


def compute_relative_score(
    values: Mapping[str, FloatArray],
    unreduced: Mapping[str, FloatArray],
    *,
    ids: Mapping[str, Sequence[str]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute the mean over data sets of the score as a fraction of the unreduced model's (I3).

    The fractions are averaged and not the scores, because data sets have different metrics. Each
    fraction is of the same samples, and contents are resampled together over data sets. If few
    samples change their score, or none, a bootstrap of so few would say that none ever does.
    Resamples are therefore drawn from the contents and four more, one for each possible outcome:
    solved with and without the plan, with it alone, without it alone, and not at all (the
    plus-four interval of Agresti & Coull 1998, for pairs as in Agresti & Min 2005). The interval
    is that of their percentiles.

    Parameters
    ----------
    values, unreduced : mapping of str to ndarray
        By data set, ``(sample,)`` each: scores under a plan, and of the unreduced model.
    ids : mapping of str to sequence of str, or None
        By data set, the id of each sample's content. None: no two samples share a content.
    resamples : int
        Bootstrap resamples of contents, the same for both scores.
    seed : int
        Same seed, same interval.

    Returns
    -------
    Interval
        1 is the score of the unreduced model; n counts contents.

    Raises
    ------
    ParameterError
        If there is no data set, or the unreduced model scores 0 on one.

    Examples
    --------
    >>> plain = {"captions": np.array([1.0, 1.0]), "questions": np.array([1.0, 0.0])}
    >>> interval = compute_relative_score({**plain, "captions": np.array([1.0, 0.0])}, plain)
    >>> interval.value, interval.n
    (0.75, 4)
    """
    zero = [name for name, scores in unreduced.items() if not scores.mean() > 0]
    if zero or not unreduced:
        where = " and ".join(zero) or "no data set at all"
        raise ParameterError(
            f"The unreduced model scores 0 on {where}, so no fraction of its score is defined. "
            " Take other samples."
        )
    value = np.mean([values[name].mean() / own.mean() for name, own in unreduced.items()])
    arrays = {
        name: xr.DataArray(
            own, dims="sample", coords={} if ids is None else {"id": ("sample", list(ids[name]))}
        )
        for name, own in unreduced.items()
    }
    samples = list_sample_contents(arrays)
    ratios = np.zeros(resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        for number, (_, rows) in enumerate(samples.groupby("stratum", sort=True)):
            contents, place = np.unique(rows["content"], return_inverse=True)
            # How often each content, and each pseudo-content after them, is in a resample.
            size = len(contents) + len(_PSEUDO_CONTENTS)
            drawn = draw_resample_counts(size, resamples=resamples, seed=(seed, number))[1:]
            drawn = drawn.astype(np.float64)
            for name in rows["dataset"].unique():
                own = (rows["dataset"] == name).to_numpy()
                counts = np.hstack([drawn[:, place[own]], drawn[:, len(contents) :]])
                largest = max(values[name].max(), unreduced[name].max())
                pairs = np.column_stack([unreduced[name], values[name]])
                before, after = (counts @ np.vstack([pairs, largest * _PSEUDO_CONTENTS])).T
                ratios += after / before / len(unreduced)
    n = int(samples["content"].nunique())
    tails = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
    low, high = np.quantile(ratios[np.isfinite(ratios)], tails)
    return Interval.around(float(value), low=low, high=high, n=n)


def summarize_plan(
    reports: Mapping[str, PlanReport], *, plan: str, task: str = "", seed: int = 0
) -> Interval:
    """Compute the relative score of a plan over the reports of several data sets.

    Parameters
    ----------
    reports : mapping of str to PlanReport
        By data set.
    plan : str
        Name of a plan that all of them ran.
    task : str
        Only data sets of this task count; empty: all.
    seed : int
        Seed of the resamples.

    Returns
    -------
    Interval
        From :func:`compute_relative_score`.

    Examples
    --------
    >>> summarize_plan({"pictures": report}, plan=plan.name).value  # doctest: +SKIP
    0.97
    """
    reports = {name: own for name, own in reports.items() if task in ("", own.task)}
    return compute_relative_score(
        {name: own.by_sample[plan] for name, own in reports.items()},
        {name: own.by_sample[UNREDUCED_PLAN.name] for name, own in reports.items()},
        ids={name: own.contents for name, own in reports.items()},
        seed=seed,
    )


def count_prompt_tokens(model: FrozenModel, samples: Sequence[Sample]) -> tuple[float, float]:
    """Count the tokens of prompts, encoded as one batch.

    Returns
    -------
    perceptual, textual : float
        Mean number of tokens of each kind.

    Examples
    --------
    >>> count_prompt_tokens(load_model("llava-mini-3"), samples)  # doctest: +SKIP
    (64.0, 2.0)
    """
    batch = model.encode(samples, side="left", target=False)
    of_media = batch.modality > 0
    textual = batch.attention_mask.bool() & ~of_media
    return float(of_media.sum()) / len(samples), float(textual.sum()) / len(samples)


def build_assay_plans(
    model: FrozenModel, samples: Sequence[Sample], *, start: int
) -> list[ReductionPlan]:
    """Build the plan that claim I3 is about, and plans that show what a task can tell.

    In each plan some tokens of the prompt skip the FFN from a layer on. A task can tell whether
    computation matters only if its score falls where computation does matter. The control is that
    as many textual tokens skip; if the prompts have fewer, all of them do.

    Parameters
    ----------
    model : FrozenModel
        The model, which says how many tokens of each kind a prompt has.
    samples : sequence of Sample
        Samples of one task; the tokens of the first few are counted.
    start : int
        The first layer at which the tokens skip.

    Returns
    -------
    list of ReductionPlan
        Named :data:`HALF_PERCEPTUAL`, :data:`TEXTUAL_CONTROL`, :data:`HALF_PROMPT` and
        :data:`FIRST_PERCEPTUAL`.

    Raises
    ------
    ParameterError
        If the prompts have no perceptual tokens.

    Examples
    --------
    >>> plans = build_assay_plans(model, samples, start=4)  # doctest: +SKIP
    >>> [plan.name for plan in plans][:2]  # doctest: +SKIP
    ['half of the perceptual tokens', 'as many textual tokens']
    """
    perceptual, textual = count_prompt_tokens(model, samples[:_COUNTED])
    if perceptual == 0:
        raise ParameterError(
            f"{model.name!r} has no perceptual tokens in its prompts, so none can skip. "
            "Take a model whose language model reads media as tokens: ima models list."
        )
    skip = partial(SkipSubBlock, sub_block="ffn", start=start)
    matched = min(1.0, 0.5 * perceptual / textual)
    methods = {
        HALF_PERCEPTUAL: skip(ratio=0.5),
        TEXTUAL_CONTROL: skip(tokens="textual", ratio=matched),
        HALF_PROMPT: skip(tokens="prompt", ratio=0.5),
        FIRST_PERCEPTUAL: skip(choose="first", ratio=1 / perceptual),
    }
    return [m.plan().model_copy(update={"name": name}) for name, m in methods.items()]


def run_assay(
    models: Sequence[FrozenModel],
    *,
    datasets: Mapping[str, Sequence[str]],
    samples: int,
    start: int,
    batch_size: int = 32,
) -> dict[str, PlanReport]:
    """Run models with the plans of :func:`build_assay_plans`.

    Parameters
    ----------
    models : sequence of FrozenModel
        Models of one cache set.
    datasets : mapping of str to sequence of str
        By name of the model, the data sets that it answers.
    samples : int
        Test samples of each data set.
    start : int
        The first layer at which tokens skip.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    dict of str to PlanReport
        By data set, with the model where two models answer the same.

    Examples
    --------
    >>> model = load_model("llava-mini-3")  # doctest: +SKIP
    >>> sets = {"llava-mini-3": ["mini-image-caption"]}  # doctest: +SKIP
    >>> list(run_assay([model], datasets=sets, samples=24, start=4))  # doctest: +SKIP
    ['mini-image-caption']
    """
    reports: dict[str, PlanReport] = {}
    for model in models:
        for dataset in datasets[model.name]:
            opened = list(open_samples(dataset, n=samples))
            plans = build_assay_plans(model, opened, start=start)
            title = f"{dataset} · {model.name}" if dataset in reports else dataset
            reports[title] = compare_plans(model, opened, plans, batch_size=batch_size, repeats=0)
    return reports


def tabulate_assay(reports: Mapping[str, PlanReport], *, seed: int = 0) -> pd.DataFrame:
    """Tabulate the relative score under each plan of the assay, for each task.

    Parameters
    ----------
    reports : mapping of str to PlanReport
        From :func:`run_assay`.
    seed : int
        Seed of the resamples.

    Returns
    -------
    pandas.DataFrame
        ``task``, ``plan``, ``value``, ``low``, ``high``, ``n``: a row per task and plan.

    Examples
    --------
    >>> tabulate_assay(run_assay([model], ...)).columns.tolist()  # doctest: +SKIP
    ['task', 'plan', 'value', 'low', 'high', 'n']
    """
    return pd.DataFrame(
        {
            "task": task,
            "plan": plan,
            **asdict(summarize_plan(reports, plan=plan, task=task, seed=seed)),
        }
        for task in dict.fromkeys(own.task for own in reports.values())
        for plan in ASSAY_PLANS
    )


def can_task_tell(control: Interval, *, threshold: float) -> bool:
    """Return whether the control lowers the score surely below a threshold.

    Parameters
    ----------
    control : Interval
        Relative score under :data:`TEXTUAL_CONTROL`.
    threshold : float
        The least relative score that counts as kept.

    Examples
    --------
    >>> can_task_tell(Interval(0.5, 0.3, 0.7, n=50), threshold=0.9)
    True
    """
    return control.high < threshold


def describe_assay(control: Interval, *, threshold: float, task: str) -> str:
    """Say whether a task can tell, with the numbers of the control.

    Parameters
    ----------
    control, threshold
        As for :func:`can_task_tell`.
    task : str
        Name of the task in the plural.

    Examples
    --------
    >>> describe_assay(Interval(0.5, 0.3, 0.7, n=50), threshold=0.9, task="captions")
    'captions can tell: 50% [30%, 70%] of the score remains when as many textual tokens bypass the \
FFN'
    >>> print(describe_assay(Interval(0.9, 0.8, 1, n=50), threshold=0.9, task="captions"))
    captions cannot tell: 90% [80%, 100%] of the score remains when as many textual tokens bypass \
the FFN, and the interval reaches 90%
    """
    kept = f"{format_percent(control)} of the score remains when as many textual tokens bypass the"
    if can_task_tell(control, threshold=threshold):
        return f"{task} can tell: {kept} FFN"
    return f"{task} cannot tell: {kept} FFN, and the interval reaches {threshold:.0%}"


def describe_relative_scores(overall: Interval, by_dataset: Mapping[str, Interval]) -> str:
    """Say how much of the score a model keeps, and where it keeps least.

    Parameters
    ----------
    overall : Interval
        Mean over data sets of the relative score.
    by_dataset : mapping of str to Interval
        The relative score on each data set.

    Examples
    --------
    >>> own = {"captions": Interval(1.0, 0.9, 1.1, n=9), "questions": Interval(0.8, 0.7, 1, n=9)}
    >>> print(describe_relative_scores(Interval(0.9, 0.8, 1, n=9), own))
    90% [80%, 100%] of the score remains on average over 2 data sets; the lowest is 80%, on \
questions
    >>> print(describe_relative_scores(own["captions"], {"captions": own["captions"]}))
    100% [90%, 110%] of the score remains on captions
    """
    kept = f"{format_percent(overall)} of the score remains on"
    least = min(by_dataset, key=lambda name: by_dataset[name].value)
    if len(by_dataset) == 1:
        return f"{kept} {least}"
    lowest = f"the lowest is {by_dataset[least].value:.0%}, on {least}"
    return f"{kept} average over {len(by_dataset)} data sets; {lowest}"


def format_percent(interval: Interval) -> str:
    """Format a relative score as a percentage with its interval.

    Examples
    --------
    >>> format_percent(Interval(0.5, 0.25, 0.75, n=4))
    '50% [25%, 75%]'
    """
    return f"{interval.value:.0%} [{interval.low:.0%}, {interval.high:.0%}]"
