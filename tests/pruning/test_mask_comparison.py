"""Masks compared at one sparsity, their paired test, and how many tasks remove a weight."""

from __future__ import annotations

from functools import partialmethod

import numpy as np
import pytest

from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.models import load_model
from ima.models.frozen import FrozenModel
from ima.pruning import mask_comparison
from ima.pruning.alpha_subnet import (
    ALPHA_SUBNET,
    build_alpha_at_sparsity,
    build_alpha_subnet,
)
from ima.pruning.mask_comparison import (
    BASELINE_MASKS,
    DATA_FREE_MASKS,
    SPARSEGPT_ALL_TASKS,
    WANDA_ALL_TASKS,
    WANDA_MOST_TASKS,
    WANDA_PER_TASK,
    WANDA_TEXT,
)
from ima.pruning.masks import Masks, compute_masks_from_cache
from ima.pruning.sparsegpt import compute_sparsegpt_masks
from ima.pruning.transfer import EvaluationTask


@pytest.fixture(scope="module")
def calibration(tiny_zoo, caches, tmp_path_factory):
    """Return by task a cache of samples that can be opened by name again."""
    from ima.capture.writer import create_cache

    folder = tmp_path_factory.mktemp("calibration")
    paths = {}
    for name in caches:
        task = name.rpartition("/")[2]
        paths[name] = create_cache(
            load_model(name), dataset=f"mini-{task}:calibration", path=folder / f"{task}.zarr",
            samples=6, unit=2, hook_points=["ln1"], input_norms=True,
        )  # fmt: skip
    return paths


@pytest.fixture(scope="module")
def tasks(tiny_zoo, caches):
    return {
        name: EvaluationTask(load_model(name), open_samples(f"mini-{name.rpartition('/')[2]}", n=5))
        for name in caches
    }


def test_every_mask_is_scored_on_every_task_at_one_sparsity(tasks, calibration, monkeypatch):
    # Random weights never end an answer: a few tokens of it are enough.
    short = partialmethod(FrozenModel.generate, max_new_tokens=4)
    monkeypatch.setattr(FrozenModel, "generate", short)
    each = [
        compute_masks_from_cache(tasks[name].model, path, sparsity=0.5)
        for name, path in calibration.items()
    ]
    alpha = build_alpha_subnet(each)
    others = mask_comparison.open_calibration_tasks(tasks, calibration, samples=3)
    scores, on_calibration = mask_comparison.score_pruning_masks(
        tasks, calibration, alpha=alpha, other_tasks=others, calibration=4
    )
    assert list(on_calibration) == list(scores)
    baselines = [WANDA_PER_TASK, *BASELINE_MASKS, SPARSEGPT_ALL_TASKS]
    assert list(scores) == [ALPHA_SUBNET, *baselines]
    batches = [
        batch
        for name, task in tasks.items()
        for batch in task.read_calibration_batches(calibration[name], n=4)
    ]
    model = next(iter(tasks.values())).model
    updated = compute_sparsegpt_masks(model, batches, sparsity=alpha.sparsity)
    assert updated.attributes["samples"] == 8
    assert updated.sparsity == pytest.approx(alpha.sparsity, abs=0.03)
    for name, task in tasks.items():
        own = compute_masks_from_cache(task.model, calibration[name], sparsity=alpha.sparsity)
        expected = {ALPHA_SUBNET: alpha, WANDA_PER_TASK: own, SPARSEGPT_ALL_TASKS: updated}
        for label, masks in expected.items():
            assert (scores[label][name] == task.compute_scores(masks)).all()
            again = others[name].compute_scores(masks)
            assert (on_calibration[label][name] == again).all()
            assert again.shape == (3,)
        assert others[name].samples.split == "calibration"
        assert not {one.id for one in others[name].samples} & {one.id for one in task.samples}
        assert all(by_task[name].shape == (5,) for by_task in scores.values())
    table = mask_comparison.compare_alpha_to_baselines(scores, tasks=tasks)
    assert list(table["mask"]) == baselines
    assert (table["p (Holm)"] >= table["p"]).all()
    assert mask_comparison.find_best_mask(scores, among=DATA_FREE_MASKS) in DATA_FREE_MASKS
    assert mask_comparison.find_best_mask(scores) in baselines
    with pytest.raises(ParameterError, match="None of the masks is a baseline"):
        mask_comparison.find_best_mask({ALPHA_SUBNET: scores[ALPHA_SUBNET]})


def build_all_baselines(model, paths, sparsity):
    return {
        name: mask_comparison.build_baseline_masks(model, paths, baseline=name, sparsity=sparsity)
        for name in BASELINE_MASKS
    }


def test_baselines_are_equally_sparse_and_know_what_their_names_say(model, caches):
    paths = list(caches.values())
    baselines, again = (build_all_baselines(model, paths, 0.6) for _ in range(2))
    for name, masks in baselines.items():
        assert masks.sparsity == pytest.approx(0.6, abs=0.03), name
        assert masks.attributes["method"] == name
        assert all((kept == again[name].kept[key]).all() for key, kept in masks.kept.items())
    alone = build_all_baselines(model, paths[:1], 0.6)
    expected = {
        WANDA_TEXT: compute_masks_from_cache(model, paths[0], sparsity=0.6, kinds=["textual"]),
        WANDA_ALL_TASKS: compute_masks_from_cache(model, paths[0], sparsity=0.6),
    }
    for name, masks in expected.items():
        assert all((alone[name].kept[key] == kept).all() for key, kept in masks.kept.items())


def test_most_tasks_are_more_than_half(model, caches):
    paths = list(caches.values())
    for number, votes in ((1, 1), (2, 2), (3, 2)):
        some = (paths * 2)[:number]
        masks = mask_comparison.build_baseline_masks(
            model, some, baseline=WANDA_MOST_TASKS, sparsity=0.5
        )
        expected = build_alpha_at_sparsity(model, some, sparsity=0.5, votes=votes)
        assert all((masks.kept[name] == kept).all() for name, kept in expected.kept.items())


def test_how_many_tasks_remove_a_weight_is_counted():
    kept = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=bool)
    masks = [Masks({"q": row.reshape(1, 2, 2)}) for row in kept]
    agreement = mask_comparison.compute_vote_agreement(masks)
    assert agreement.loc["q"].to_dict() == {1: 1 / 3, 2: 1 / 3, 3: 1 / 3}
    whole = [Masks({"q": np.ones((1, 2, 2), dtype=bool)})] * 2
    assert (mask_comparison.compute_vote_agreement(whole) == 0).all(axis=None)


def test_independent_masks_agree_by_chance():
    rng = np.random.default_rng(0)
    masks = [Masks({"q": rng.random((4, 100, 100)) >= 0.3}) for _ in range(5)]
    agreement = mask_comparison.compute_vote_agreement(masks).loc["q"]
    chance = mask_comparison.compute_chance_agreement(5, sparsity=0.3)
    assert chance.sum() == pytest.approx(1)
    assert list(chance.index) == list(agreement.index) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(agreement, chance, atol=0.015)


def test_inputs_that_are_silent_in_some_tasks_only(model, monkeypatch):
    norms = {"a": [0.0, 0, 1, 2], "b": [0.0, 3, 0, 1], "c": [0.0, 1, 1, 1]}
    monkeypatch.setattr(
        mask_comparison, "read_cache_input_norms", lambda _, path: {"fc2": np.array([norms[path]])}
    )
    assert mask_comparison.compute_silent_input_ratio(model, list(norms))["fc2"] == 0.5
