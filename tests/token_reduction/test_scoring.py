"""Scores: where the knee lies, how many tokens leave by it, and that controls take as many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ima.token_reduction.methods.fastv import FastV
from ima.token_reduction.methods.first import FirstTokens
from ima.token_reduction.methods.random_tokens import RandomTokens
from ima.token_reduction.methods.strided import StridedTokens
from ima.token_reduction.methods.v2drop import V2Drop
from ima.token_reduction.scoring import (
    TokenView,
    count_tokens_to_prune,
    find_knee,
    select_tokens,
)


def find_farthest_below(scores):
    """Return the index of the point farthest below the chord, by its distance to that line."""
    curve = sorted(scores, reverse=True)
    end = np.array([len(curve) - 1, curve[-1] - curve[0]])
    largest, index = 0.0, None
    for place, value in enumerate(curve):
        point = np.array([place, value - curve[0]])
        # Signed: positive where the point lies below the line.
        distance = (end[1] * point[0] - end[0] * point[1]) / np.hypot(*end)
        if distance > largest + 1e-9:
            largest, index = distance, place
    return index


@pytest.mark.parametrize("seed", range(20))
def test_the_knee_is_the_point_farthest_below_the_chord(seed):
    scores = np.random.default_rng(seed).exponential(size=12)
    assert find_knee(scores) == find_farthest_below(scores)
    assert find_knee(scores[::-1]) == find_knee(3 * scores + 1) == find_knee(scores)


@pytest.mark.parametrize("scores", [[1.0], [2.0, 1.0], [1.0] * 5, [5, 4, 3, 2], [9, 8.9, 8, 0]])
def test_a_curve_without_a_knee_is_kept_whole(scores):
    assert find_knee(np.array(scores)) == len(scores)


def test_as_many_leave_as_a_step_says():
    scores = np.array([0.05, 1.0, 0.2, 0.5, 0.1])
    for given, expected in [
        ({"below": 0.5}, 3),
        ({"below": 0.0}, 0),
        ({"ratio": "knee"}, 5 - find_knee(scores)),
        ({"ratio": 0.4}, 2),
    ]:
        assert count_tokens_to_prune(FastV(after_layer=1, **given), scores) == expected
        assert count_tokens_to_prune(FastV(after_layer=1, **given), scores[:0]) == 0


def test_controls_take_as_many_as_the_scores_do(monkeypatch):
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.random((4, 9)))
    candidates = torch.from_numpy(rng.random((4, 9)) < 0.7)
    # The scores are those of summary, whatever the method would read.
    monkeypatch.setattr(V2Drop, "score", lambda _, tokens: tokens.summary)
    view = TokenView(["a", "b", "c", "d"], candidates, torch.ones(4, 9, dtype=bool), summary=scores)
    leaving = {}
    for choose in ("change", "change-reversed", "change-random"):
        step = V2Drop(after_layer=1, choose=choose, below=0.5)
        leaving[choose] = select_tokens(step, view)
        assert not (leaving[choose] & ~candidates).any()
    counts = [tokens.sum(1).tolist() for tokens in leaving.values()]
    assert counts[0] == counts[1] == counts[2]
    for row in range(4):
        own = scores[row, candidates[row]].sort().values
        lowest = scores[row, leaving["change"][row]].sort().values
        assert torch.equal(lowest, own[: len(lowest)])
        assert (lowest < 0.5 * own[-1]).all()
        highest = scores[row, leaving["change-reversed"][row]].sort().values
        assert torch.equal(highest, own[len(own) - len(highest) :])
    alone = replace(view, sample_ids=["c"], candidates=candidates[2:3], summary=scores[2:3])
    step = V2Drop(after_layer=1, choose="change-random", below=0.5)
    assert torch.equal(select_tokens(step, alone)[0], leaving["change-random"][2])


def test_a_ratio_is_taken_within_each_sample():
    candidates = torch.tensor([[0, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]], dtype=torch.bool)
    view = TokenView(["a", "b"], candidates, torch.ones(2, 6, dtype=torch.bool))

    def select(cls, **given):
        return select_tokens(cls(after_layer=0, **given), view)

    first = select(FirstTokens, ratio=0.5)
    assert first.int().tolist() == [[0, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    strided = select(StridedTokens, ratio=0.5)
    assert strided.int().tolist() == [[0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0]]
    for ratio in (0.0, 0.25, 1.0):
        drawn = select(RandomTokens, ratio=ratio, seed=1)
        assert not (drawn & ~candidates).any()
        assert drawn.sum(1).tolist() == [round(ratio * 4), round(ratio * 2)]
