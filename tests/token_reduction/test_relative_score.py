"""Scores relative to the unreduced model: their intervals, and the assay of a task."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.models import load_model
from ima.stats.intervals import Interval
from ima.stats.resampling import draw_bootstrap_weights
from ima.token_reduction import relative_score
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.relative_score import (
    ASSAY_PLANS,
    FIRST_PERCEPTUAL,
    HALF_PERCEPTUAL,
    HALF_PROMPT,
    TEXTUAL_CONTROL,
    build_assay_plans,
    can_task_tell,
    compute_relative_score,
    describe_assay,
    run_assay,
    summarize_plan,
    tabulate_assay,
)
from ima.token_reduction.report import UNREDUCED_PLAN, PlanReport


def test_it_is_a_fraction_of_the_same_samples():
    rng = np.random.default_rng(0)
    plain = (rng.random(400) < 0.8).astype(float)
    half = plain * (rng.random(400) < 0.5)
    found = compute_relative_score({"a": half}, {"a": plain}, seed=1)
    assert found.value == half.mean() / plain.mean()
    # Where many samples change, it is the usual bootstrap of a ratio.
    expected = stats.bootstrap(
        (half, plain),
        lambda first, second, axis: first.mean(axis) / second.mean(axis),
        paired=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found == compute_relative_score({"a": half}, {"a": plain}, seed=1)
    assert found != compute_relative_score({"a": half}, {"a": plain}, seed=2)


def test_data_sets_count_equally_whatever_their_metrics_are():
    plain = {"accuracy": np.full(10, 0.5), "cider": np.full(30, 8.0)}
    kept = {"accuracy": np.full(10, 0.25), "cider": np.full(30, 8.0)}
    assert compute_relative_score(kept, plain).value == pytest.approx(0.75)


@pytest.mark.parametrize(("n", "lost"), [(24, 0.03), (96, 0.03), (96, 0.15)])
def test_rare_losses_are_covered(n, lost):
    rng = np.random.default_rng(n)
    covered = {"ours": 0, "bootstrap": 0}
    trials = 200
    for trial in range(trials):
        plain = (rng.random(n) < 0.7).astype(float)
        kept = plain * (rng.random(n) >= lost)
        ours = compute_relative_score({"a": kept}, {"a": plain}, resamples=300, seed=trial)
        covered["ours"] += ours.low <= 1 - lost <= ours.high
        if n != 24:
            continue
        weights = draw_bootstrap_weights(n, resamples=300, seed=trial).to_numpy()
        draws = (weights @ kept) / (weights @ plain)
        plainly = Interval.of_draws(kept.mean() / plain.mean(), draws, n=n)
        covered["bootstrap"] += plainly.low <= 1 - lost <= plainly.high
    # Three standard errors below 95 %.
    assert covered["ours"] >= trials * 0.95 - 3 * np.sqrt(trials * 0.95 * 0.05)
    if n == 24:
        assert covered["bootstrap"] < trials / 2


def test_no_change_in_few_samples_is_not_certain():
    few, many = (compute_relative_score({"a": one}, {"a": one}) for one in map(np.ones, (10, 500)))
    assert few.value == many.value == 1
    assert few.low < 0.9 < many.low < 1


def test_nothing_left_is_never_less_than_nothing():
    plain = np.repeat([1.0, 0.0], [8, 16])
    found = compute_relative_score({"a": 0 * plain}, {"a": plain})
    assert found.value == found.low == 0 < found.high < 0.9


def test_contents_are_resampled_together_over_data_sets():
    rng = np.random.default_rng(0)
    kept = (rng.random(100) < 0.6).astype(float)
    values, plain = {"a": kept, "b": kept}, {"a": np.ones(100), "b": np.ones(100)}
    names = [f"content {number}" for number in range(100)]
    shared = compute_relative_score(values, plain, ids={"a": names, "b": names})
    apart = compute_relative_score(values, plain)
    assert (shared.n, apart.n) == (100, 200)
    ratio = (shared.high - shared.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(np.sqrt(2), rel=0.1)
    # The order of the samples of a data set does not matter, only what they show.
    order = rng.permutation(100)
    again = compute_relative_score(
        {"a": kept, "b": kept[order]}, plain, ids={"a": names, "b": [names[at] for at in order]}
    )
    assert again == shared


def test_nothing_is_no_fraction_of_zero():
    one = {"good": np.ones(5), "bad": np.zeros(5)}
    with pytest.raises(ParameterError, match="scores 0 on bad"):
        compute_relative_score(one, one)
    with pytest.raises(ParameterError, match="scores 0 on no data set at all"):
        compute_relative_score({}, {})


@pytest.mark.parametrize("task", ["caption", "qa"])
def test_the_plans_of_the_assay_skip_as_many_tokens_as_they_say(tiny_zoo, task):
    model = load_model(f"llama-mini/vit/image-{task}")
    samples = list(open_samples(f"mini-image-{task}", n=4))
    plans = {plan.name: plan for plan in build_assay_plans(model, samples, start=2)}
    assert tuple(plans) == ASSAY_PLANS
    batch = model.encode(samples, side="left", target=False)
    of_media, real = batch.modality > 0, batch.attention_mask.bool()
    perceptual = of_media.sum(1)
    textual = (real & ~of_media).sum(1)
    skipped = {}
    for name, plan in plans.items():
        with apply_plan(model, batch, plan) as trace:
            model.forward(batch)
        assert not trace.skipped["ffn"][0].any()
        skipped[name] = trace.skipped["ffn"][1]
    assert (skipped[HALF_PERCEPTUAL].sum(1) == perceptual // 2).all()
    assert not (skipped[HALF_PERCEPTUAL] & ~of_media).any()
    control = skipped[TEXTUAL_CONTROL]
    assert not (control & (of_media | ~real)).any()
    expected = torch.minimum(perceptual // 2, textual).float().mean()
    assert float(control.sum(1).float().mean()) == pytest.approx(float(expected), abs=0.5)
    assert (skipped[HALF_PROMPT].sum(1) - (perceptual + textual) / 2).abs().max() <= 0.5
    first = of_media.int().argmax(1)
    assert (skipped[FIRST_PERCEPTUAL].int().argmax(1) == first).all()
    assert (skipped[FIRST_PERCEPTUAL].sum(1) == 1).all()


def test_a_prompt_without_perceptual_tokens_is_refused(tiny_zoo, monkeypatch):
    monkeypatch.setattr(relative_score, "count_prompt_tokens", lambda *_: (0.0, 9.0))
    model = load_model("llama-mini/vit/image-qa")
    with pytest.raises(ParameterError, match="no perceptual tokens in its prompts"):
        build_assay_plans(model, list(open_samples("mini-image-qa", n=1)), start=1)


def make_report(task, **scores):
    by_sample = {UNREDUCED_PLAN.name: np.ones(50), **scores}
    ids = tuple(f"{task} {number}" for number in range(50))
    return PlanReport(pd.DataFrame(), by_sample, ids, task)


def test_the_assay_is_summarized_by_task():
    reports = {
        task: make_report(task, **{plan: np.full(50, kept) for plan in ASSAY_PLANS})
        for task, kept in (("caption", 0.5), ("qa", 1.0))
    }
    assert summarize_plan(reports, plan=HALF_PERCEPTUAL).value == 0.75
    assert summarize_plan(reports, plan=HALF_PERCEPTUAL, task="caption").value == 0.5
    table = tabulate_assay(reports).set_index(["task", "plan"])
    assert table.loc[("qa", TEXTUAL_CONTROL), "value"] == 1
    assert (table["n"] == 50).all()
    with pytest.raises(ParameterError, match="no data set"):
        summarize_plan(reports, plan=HALF_PERCEPTUAL, task="other")


def test_a_task_can_tell_only_if_the_control_is_surely_worse():
    worse, unsure = Interval(0.5, 0.3, 0.89, n=9), Interval(0.5, 0.3, 0.9, n=9)
    assert can_task_tell(worse, threshold=0.9)
    assert not can_task_tell(unsure, threshold=0.9)
    assert "can tell" in describe_assay(worse, threshold=0.9, task="x")
    assert "cannot tell" in describe_assay(unsure, threshold=0.9, task="x")


def test_models_that_answer_the_same_data_set_are_kept_apart(tiny_zoo):
    models = [load_model(f"{name}/vit/image-caption") for name in ("llama-mini", "opt-mini")]
    sets = {model.name: ["mini-image-caption"] for model in models}
    found = run_assay(models, datasets=sets, samples=2, start=2)
    assert list(found) == ["mini-image-caption", f"mini-image-caption · {models[1].name}"]
    assert list(found["mini-image-caption"].by_sample) == [UNREDUCED_PLAN.name, *ASSAY_PLANS]
    assert {own.task for own in found.values()} == {"caption"}
