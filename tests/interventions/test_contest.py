"""The contest of masks, its paired test, the repair of a connector, and memory in one pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.capture.writer import create_cache
from ima.errors import ModelError, ParameterError
from ima.models import load_model
from ima.models.answer_loss import compute_answer_loss
from ima.models.linear_layers import get_linear_weights
from ima.pruning import alpha_subnet, mask_comparison, transfer
from ima.pruning.finetune_connector import finetune_connector
from ima.pruning.masks import Masks, compute_masks_from_cache
from ima.pruning.wanda import apply_masks
from ima.stats.correlation import adjust_p_values_holm

NAMES = ("llama-mini/vit/image-caption", "llama-mini/vit/image-qa")


@pytest.fixture(scope="module")
def paths(tiny_zoo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("contest")
    found = {}
    for name in NAMES:
        given = {"samples": 6, "unit": 2, "taps": ["ln1"], "inputs": True}
        dataset = f"mini-{name.rpartition('/')[2]}:calibration"
        path = folder / f"{name.rpartition('/')[2]}.zarr"
        found[name] = create_cache(load_model(name), dataset=dataset, path=path, **given)
    return found


@pytest.fixture(scope="module")
def tasks(tiny_zoo):
    from ima.data.samples import open_samples

    return {
        name: transfer.EvaluationTask(
            load_model(name), open_samples(f"mini-{name.rpartition('/')[2]}", n=5)
        )
        for name in NAMES
    }


def test_every_mask_solves_every_task_at_one_sparsity(tasks, paths):
    each = [
        compute_masks_from_cache(tasks[name].model, path, sparsity=0.5)
        for name, path in paths.items()
    ]
    alpha = alpha_subnet.build_alpha_subnet(each)
    found = mask_comparison.score_pruning_masks(tasks, paths, alpha=alpha, calibration=4)
    assert list(found) == [
        alpha_subnet.ALPHA_SUBNET,
        mask_comparison.WANDA_PER_TASK,
        *alpha_subnet.BASELINE_MASKS,
        mask_comparison.SPARSEGPT_ALL_TASKS,
    ]
    for name, task in tasks.items():
        own = compute_masks_from_cache(task.model, paths[name], sparsity=alpha.sparsity)
        assert (found[mask_comparison.WANDA_PER_TASK][name] == task.scores(own)).all()
        assert (found[alpha_subnet.ALPHA_SUBNET][name] == task.scores(alpha)).all()
        assert all(scores[name].shape == (5,) for scores in found.values())
    model = tasks[NAMES[0]].model
    updated = mask_comparison.run_sparsegpt_over_tasks(
        tasks, paths, sparsity=alpha.sparsity, calibration=4
    )
    assert updated.attributes["samples"] == 8
    assert updated.sparsity == pytest.approx(alpha.sparsity, abs=0.03)
    before = get_linear_weights(model)
    with apply_masks(model, updated):
        assert all((get_linear_weights(model)[n] == v).all() for n, v in updated.values.items())
    assert all((get_linear_weights(model)[n] == v).all() for n, v in before.items())
    table = mask_comparison.compare_alpha_to_baselines(found, tasks=tasks)
    assert list(table["mask"]) == [
        mask_comparison.WANDA_PER_TASK,
        *alpha_subnet.BASELINE_MASKS,
        mask_comparison.SPARSEGPT_ALL_TASKS,
    ]
    assert (table["p (Holm)"] >= table["p"]).all()
    assert mask_comparison.find_best_data_free_mask(found) in mask_comparison.DATA_FREE_MASKS


def made_up(n, shift, seed=0):
    """Return two tasks on the same contents, with scores of which the first's are higher."""
    from types import SimpleNamespace

    ids = [SimpleNamespace(id=str(at)) for at in range(n)]
    rng = np.random.default_rng(seed)
    tasks = {name: SimpleNamespace(samples=ids) for name in "ab"}
    second = {name: rng.random(n) for name in tasks}
    return tasks, {name: values + shift for name, values in second.items()}, second


def test_p_is_that_of_all_signs_and_small_where_one_is_better():
    tasks, first, second = made_up(8, 0.0)
    rng = np.random.default_rng(1)
    first = {name: rng.random(8) for name in first}
    gaps = sum(first[name] - second[name] for name in tasks)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    exact = (np.abs(signs.T @ gaps) >= abs(gaps.sum()) - 1e-12).mean()
    found = transfer.compute_sign_flip_p(first, second, tasks=tasks, permutations=100_000)
    assert found == pytest.approx(exact, abs=0.01)
    tasks, first, second = made_up(30, 0.2)
    assert transfer.compute_sign_flip_p(first, second, tasks=tasks) < 0.01
    assert transfer.compute_sign_flip_p(second, second, tasks=tasks) == 1.0
    again = [transfer.compute_sign_flip_p(first, second, tasks=tasks, seed=3) for _ in "12"]
    assert again[0] == again[1]


def test_holm_is_the_step_down_procedure():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(6) ** 3
        for level in (0.01, 0.05, 0.2):
            rejected = np.zeros(6, dtype=bool)
            for rank, at in enumerate(np.argsort(p)):
                if p[at] > level / (6 - rank):
                    break
                rejected[at] = True
            assert ((adjust_p_values_holm(p.tolist()) <= level) == rejected).all()


@pytest.mark.parametrize("name", ["llama-mini/vit/image-qa", "llava-tiny"])
def test_a_repair_trains_the_connector_and_nothing_else(multitask_zoo, name):
    assert multitask_zoo.is_dir()
    model = load_model(name)
    samples = list(image_set(6))
    rng = np.random.default_rng(0)
    kept = {key: rng.random(w.shape) < 0.6 for key, w in get_linear_weights(model).items()}
    masks = Masks(kept)
    language = {key: value.clone() for key, value in model.language.state_dict().items()}
    connector = {k: v.clone() for k, v in model.perception.connector.state_dict().items()}

    def loss(one):
        with torch.no_grad(), apply_masks(one, masks):
            return float(compute_answer_loss(one, samples, connector=one.perception.connector))

    given = {"steps": 12, "learning_rate": 3e-3, "batch_size": 6}
    again, other = (
        finetune_connector(model, masks, samples, **given, seed=seed) for seed in (0, 1)
    )
    assert loss(again) < loss(model) - 0.01
    assert all(torch.equal(language[k], v) for k, v in again.language.state_dict().items())
    assert all(
        torch.equal(connector[k], v) for k, v in model.perception.connector.state_dict().items()
    )
    same = finetune_connector(model, masks, samples, **given, seed=0)
    pairs = zip(
        again.perception.connector.parameters(), same.perception.connector.parameters(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in pairs)
    assert loss(other) != loss(again)
    assert not any(p.requires_grad for p in again.perception.connector.parameters())


def test_a_repair_refuses_what_it_cannot_train(tiny_zoo):
    with pytest.raises(ModelError, match="has no connector"):
        finetune_connector(load_model("llama-mini"), None, list(image_set(2)), steps=1)
    model = load_model(NAMES[0])
    for samples, steps in (([], 1), (list(image_set(2)), 0)):
        with pytest.raises(ParameterError, match="A repair needs samples and steps"):
            finetune_connector(model, None, samples, steps=steps)


def peaks(tmp_path, hidden, intermediate, layers):
    """Return how much memory storing a model of so many layers took, and weights of a block."""
    script = Path(__file__).with_name("streaming.py")
    given = [str(tmp_path / f"{layers}"), str(hidden), str(intermediate), str(layers)]
    # Freed memory goes back at once, so that the peak is of what is held and not of the allocator.
    given_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, str(script), *given],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **given_back},
    )
    peak, weights = map(int, done.stdout.split())
    return peak, weights


@pytest.mark.parametrize(
    ("hidden", "intermediate", "few", "many"),
    [
        (1024, 2816, 2, 8),
        # The widths of LLaVA-1.5 7B.
        pytest.param(4096, 11008, 2, 4, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_a_model_is_pruned_and_stored_one_block_at_a_time(
    tmp_path, hidden, intermediate, few, many
):
    first, weights = peaks(tmp_path, hidden, intermediate, few)
    more, _ = peaks(tmp_path, hidden, intermediate, many)
    # A mask alone is one byte a weight.
    assert more < first + weights / 4
    # A block in float16 and in float32, two masks of it, and scores of one linear layer.
    assert more < 16 * weights
