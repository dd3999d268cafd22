"""Tests and intervals of differences between two masks' scores, contents paired."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ima.pruning.transfer import compute_sign_flip_p, compute_task_difference


def make_scores(n, shift, seed=0):
    """Return two tasks on the same contents, with scores of which the first are higher."""
    samples = [SimpleNamespace(id=str(number)) for number in range(n)]
    rng = np.random.default_rng(seed)
    tasks = {name: SimpleNamespace(samples=samples) for name in "ab"}
    second = {name: rng.random(n) for name in tasks}
    return tasks, {name: values + shift for name, values in second.items()}, second


def test_p_is_that_of_all_signs_and_small_where_one_mask_is_better():
    tasks, first, second = make_scores(8, 0.0)
    rng = np.random.default_rng(1)
    first = {name: rng.random(8) for name in first}
    gaps = sum(first[name] - second[name] for name in tasks)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    exact = (np.abs(signs.T @ gaps) >= abs(gaps.sum()) - 1e-12).mean()
    p = compute_sign_flip_p(first, second, tasks=tasks, permutations=100_000)
    assert p == pytest.approx(exact, abs=0.01)
    tasks, first, second = make_scores(30, 0.2)
    assert compute_sign_flip_p(first, second, tasks=tasks) < 0.01
    assert compute_sign_flip_p(second, second, tasks=tasks) == 1.0
    once, again = (compute_sign_flip_p(first, second, tasks=tasks, seed=3) for _ in range(2))
    assert once == again


def test_contents_that_tasks_share_are_counted_once():
    tasks, first, second = make_scores(30, 0.2)
    gap = compute_task_difference(first, second, tasks=tasks)
    assert gap.n == 30
    assert gap.low == pytest.approx(0.2) == gap.value
    tasks["b"] = SimpleNamespace(samples=[SimpleNamespace(id=f"b{n}") for n in range(30)])
    assert compute_task_difference(first, second, tasks=tasks).n == 60
