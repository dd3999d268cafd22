"""What α-SubNets keep of the whole model's score, and what they keep beside the best baseline."""

from __future__ import annotations

import numpy as np
import pytest

from ima.data.samples import Sample, SampleSet
from ima.pruning import kept_score, mask_comparison
from ima.pruning.alpha_subnet import ALPHA_SUBNET
from ima.pruning.transfer import EvaluationTask, compute_task_difference
from ima.stats.intervals import Interval


def make_tasks(*names, n, shared=()):
    """Return tasks of n contents each, without a model; those in `shared` share their contents."""
    tasks = {}
    for name in names:
        of = "shared" if name in shared else name
        samples = tuple(Sample(f"{of} {number}", "text", "qa", "", ("x",)) for number in range(n))
        tasks[name] = EvaluationTask(None, SampleSet(name, "test", samples))
    return tasks


def draw_scores(tasks, rng, *, mean=0.5):
    return {name: (rng.random(len(task.samples)) < mean) * 1.0 for name, task in tasks.items()}


def test_each_point_is_the_paired_difference_from_a_part_of_the_whole_score():
    rng = np.random.default_rng(0)
    tasks = make_tasks("a", "b", "c", n=60, shared="ab")
    whole = draw_scores(tasks, rng, mean=0.8)
    by_sparsity = {0.3: draw_scores(tasks, rng, mean=0.8), 0.5: draw_scores(tasks, rng, mean=0.4)}
    curve = kept_score.compute_kept_score_curve(by_sparsity, whole, tasks=tasks, resamples=4000)
    assert curve.attrs["samples"] == 120
    for level, own in by_sparsity.items():
        part = {name: 0.9 * values for name, values in whole.items()}
        alone = compute_task_difference(own, part, tasks=tasks, resamples=4000)
        assert float(curve["estimate"].sel(sparsity=level)) == pytest.approx(alone.value)
        ends = curve["draws"].sel(sparsity=level).quantile([0.025, 0.975])
        assert ends.to_numpy() == pytest.approx([alone.low, alone.high], abs=0.01)
    lowest = kept_score.compute_lowest_kept_score(curve)
    assert lowest.value == pytest.approx(float(curve["estimate"].sel(sparsity=0.5)))
    assert lowest.n == 120


def test_the_lower_of_two_equal_scores_is_not_contradicted_more_often_than_it_should():
    """The minimum of resamples would be below 0 too often where both scores are exactly there."""
    rng, tasks, trials = np.random.default_rng(1), make_tasks("a", n=80), 200
    whole = {"a": np.ones(80)}
    below = {"band": 0, "minimum of draws": 0}
    for trial in range(trials):
        # Both keep nine tenths in truth, with independent errors.
        both = {level: draw_scores(tasks, rng, mean=0.9) for level in kept_score.MASK_SPARSITIES}
        curve = kept_score.compute_kept_score_curve(
            both, whole, tasks=tasks, resamples=300, seed=trial
        )
        below["band"] += kept_score.compute_lowest_kept_score(curve).high < 0
        below["minimum of draws"] += curve["draws"].min("sparsity").quantile(0.975) < 0
    assert below["band"] <= trials * 0.025 + 3 * np.sqrt(trials * 0.025 * 0.975)
    assert below["minimum of draws"] > 2 * below["band"]


def test_the_best_mask_is_chosen_on_other_samples():
    """Chosen on the samples that judge, the best of equal masks looks better than the α-SubNet."""
    rng, tasks = np.random.default_rng(2), make_tasks("a", "b", n=30, shared="ab")
    masks = [ALPHA_SUBNET, *(f"mask {number}" for number in range(8))]
    gaps = {"other": [], "same": []}
    for _ in range(200):
        judged, other = ({mask: draw_scores(tasks, rng) for mask in masks} for _ in "ab")
        for label, scores in (("other", other), ("same", judged)):
            best = mask_comparison.find_best_mask(scores)
            assert best != ALPHA_SUBNET
            gap = compute_task_difference(
                judged[ALPHA_SUBNET], judged[best], tasks=tasks, resamples=2
            )
            gaps[label].append(gap.value)
    error = np.std(gaps["other"]) / np.sqrt(200)
    assert abs(np.mean(gaps["other"])) < 3 * error
    assert np.mean(gaps["same"]) < -5 * error


def test_what_is_found_is_said_whichever_way_it_comes_out():
    whole = {"qa": np.array([1.0, 1.0])}
    by_sparsity = {0.3: whole, 0.5: {"qa": np.array([0.0, 0.5])}}
    said = kept_score.describe_kept_scores(by_sparsity, whole, reached={0.3: 0.4, 0.5: 0.6})
    assert said.startswith(
        "Of a mean score of 1.00, the α-SubNet of 30% masks (40% sparse) keeps 1"
    )
    assert said.endswith("and that of 50% masks (60% sparse) 0.25.")
    scores = {ALPHA_SUBNET: by_sparsity[0.5], "random": whole}
    given = {"baseline": "random", "sparsity": 0.6, "tasks": 2}
    said = kept_score.describe_gap(Interval(-0.75, -0.9, -0.6, n=2), scores, **given)
    assert "0.25 on average over 2 tasks" in said
    assert said.endswith("1.00. The difference is -0.75.")
