"""Ranking: where the knee lies, how many rows leave by it, and that controls take as many."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ima.data.samples import open_samples
from ima.models import load_model
from ima.token_reduction import paper_plans
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.plans import PruneStep, ReductionPlan
from ima.token_reduction.ranking import count_tokens_to_prune, find_knee, rank_tokens_to_prune


def farthest_below(scores):
    """Return the index of the point farthest below the chord, by its distance to that line."""
    curve = sorted(scores, reverse=True)
    end = np.array([len(curve) - 1, curve[-1] - curve[0]])
    best, found = 0.0, None
    for index, value in enumerate(curve):
        point = np.array([index, value - curve[0]])
        # Signed: positive where the point lies below the line.
        distance = (end[1] * point[0] - end[0] * point[1]) / np.hypot(*end)
        if distance > best + 1e-9:
            best, found = distance, index
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_knee_is_the_point_farthest_below_the_chord(seed):
    scores = np.random.default_rng(seed).exponential(size=12)
    assert find_knee(scores) == farthest_below(scores)
    assert find_knee(scores[::-1]) == find_knee(3 * scores + 1) == find_knee(scores)


@pytest.mark.parametrize("scores", [[1.0], [2.0, 1.0], [1.0] * 5, [5, 4, 3, 2], [9, 8.9, 8, 0]])
def test_a_curve_without_a_knee_is_kept_whole(scores):
    assert find_knee(np.array(scores)) == len(scores)


def test_as_many_leave_as_a_step_says():
    scores = np.array([0.05, 1.0, 0.2, 0.5, 0.1])
    step = {"withdraw": "perceptual", "behind": 1, "choose": "attention"}
    assert count_tokens_to_prune(PruneStep(**step, below=0.5), scores) == 3
    assert count_tokens_to_prune(PruneStep(**step, below=0.0), scores) == 0
    assert count_tokens_to_prune(PruneStep(**step, share="knee"), scores) == 5 - find_knee(scores)
    assert count_tokens_to_prune(PruneStep(**step, share=0.4), scores) == 2
    assert count_tokens_to_prune(PruneStep(**step, share=0.4), scores[:0]) == 0


def test_controls_take_as_many_as_the_rank_does():
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.random((4, 9)))
    candidates = torch.from_numpy(rng.random((4, 9)) < 0.7)
    taken = {}
    for choose in ("change", "change-reversed", "change-random"):
        step = PruneStep(behind=1, choose=choose, below=0.5)
        taken[choose] = rank_tokens_to_prune(step, scores, candidates, ["a", "b", "c", "d"])
        assert not (taken[choose] & ~candidates).any()
    counts = [rows.sum(1).tolist() for rows in taken.values()]
    assert counts[0] == counts[1] == counts[2]
    for row in range(4):
        own = scores[row, candidates[row]].sort().values
        gone = scores[row, taken["change"][row]].sort().values
        assert torch.equal(gone, own[: len(gone)])
        assert (gone < 0.5 * own[-1]).all()
        other = scores[row, taken["change-reversed"][row]].sort().values
        assert torch.equal(other, own[len(own) - len(other) :])
    alone = rank_tokens_to_prune(
        PruneStep(behind=1, choose="change-random", below=0.5), scores[2:3], candidates[2:3], ["c"]
    )
    assert torch.equal(alone[0], taken["change-random"][2])


def test_interaction_prunes_by_the_image_first_and_by_the_prompt_then(multitask_zoo):
    assert multitask_zoo.is_dir()
    model = load_model("llava-tiny")
    batch = model.encode(list(open_samples("mini-image-caption", n=3)))
    plan = paper_plans.make_interaction_plan(behind=1)
    with apply_plan(model, batch, plan) as trace:
        model.forward(batch)
    percepts = batch.modality > 0
    for row in range(len(batch)):
        nearness = batch.summary[row, percepts[row]]
        stays = trace.present[0][row, percepts[row]]
        order = nearness.argsort(descending=True)
        assert set(order[: find_knee(nearness.numpy())].tolist()) == set(
            stays.nonzero()[:, 0].tolist()
        )
    assert (trace.present[1].sum(1) <= trace.present[0].sum(1)).all()
    counts = [rows.sum(1).tolist() for rows in trace.present]
    first = ReductionPlan(name="first", steps=plan.steps[:1])
    control = paper_plans.make_interaction_plan(behind=1, control="random")
    for other in (paper_plans.make_interaction_plan(behind=1, below=0.0), first):
        with apply_plan(model, batch, other) as idle:
            model.forward(batch)
        assert torch.equal(idle.present[0], trace.present[0])
        assert torch.equal(idle.present[-1], trace.present[0])
    with apply_plan(model, batch, control) as drawn:
        model.forward(batch)
    assert drawn.present[0].sum(1).tolist() == counts[0]
    assert not torch.equal(drawn.present[0], trace.present[0])
