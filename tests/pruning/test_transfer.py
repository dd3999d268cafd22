"""Scores with other tasks' masks, and the tests and intervals of their differences."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.models import load_model
from ima.models.frozen import FrozenModel
from ima.pruning import transfer, transfer_summary
from ima.pruning.masks import Masks, compute_masks_from_cache, intersect_layer_masks
from ima.pruning.transfer import (
    RANDOM_MASKS,
    EvaluationTask,
    TransferScores,
    compute_crossed_difference,
    compute_sign_flip_p,
    compute_task_difference,
    score_transfer_matrix,
)
from ima.pruning.weight_removal import score_without_weights
from ima.stats.intervals import Interval


def make_task(keys):
    """Return a task of which only the contents of its samples are known."""
    return SimpleNamespace(contents=[str(key) for key in keys])


def make_scores(n, shift, seed=0):
    """Return two tasks on the same contents, with scores of which the first are higher."""
    rng = np.random.default_rng(seed)
    tasks = {name: make_task(range(n)) for name in "ab"}
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
    tasks["b"] = make_task(f"b{n}" for n in range(30))
    assert compute_task_difference(first, second, tasks=tasks).n == 60


def make_repeated(contents, *, times):
    """Return a task whose contents are asked about several times, and one that asks once."""
    keys = [str(number) for number in range(contents)]
    return tuple({"qa": make_task(own)} for own in (np.repeat(keys, times), keys))


def test_samples_of_one_content_are_one_unit():
    repeated, once = make_repeated(40, times=5)
    rng = np.random.default_rng(2)
    mean = {"qa": rng.normal(0.3, 1, size=40)}
    rows = {"qa": np.repeat(mean["qa"], 5)}
    nothing, none = {"qa": np.zeros(200)}, {"qa": np.zeros(40)}
    gap = compute_task_difference(rows, nothing, tasks=repeated)
    alone = compute_task_difference(mean, none, tasks=once)
    assert gap.n == alone.n == 40
    assert (gap.low, gap.high) == pytest.approx((alone.low, alone.high))
    p = compute_sign_flip_p(rows, nothing, tasks=repeated)
    assert p == compute_sign_flip_p(mean, none, tasks=once) > 0.001
    shift = np.linspace(-0.1, 0.1, 12)
    crossed = compute_crossed_difference(
        rows, {"qa": nothing["qa"][:, None] + shift}, tasks=repeated
    )
    assert crossed.n == 40
    assert crossed.high - crossed.low > 0.8 * (alone.high - alone.low)


@pytest.fixture
def tasks(caches):
    return {
        name: EvaluationTask(load_model(name), open_samples(f"mini-{name.rpartition('/')[2]}", n=4))
        for name in caches
    }


def answer_some(self, samples, **_):
    """Answer every second sample of the data set rightly."""
    del self
    return [s.references[0] if int(s.id[-1]) % 2 else "no such thing" for s in samples]


def test_some_rows_are_scored_as_they_are_among_all(tasks, monkeypatch):
    monkeypatch.setattr(FrozenModel, "generate", answer_some)
    for task in tasks.values():
        scores = task.compute_scores()
        assert set(scores) == {0.0, 1.0}
        for rows in ([3], [2, 1], [0, 2, 3]):
            np.testing.assert_array_equal(task.compute_scores(rows=np.array(rows)), scores[rows])


def test_twenty_random_masks_are_dealt_and_averaged(tasks, caches, monkeypatch):
    answered, masks = [], []

    def score(self, masks_of_run=None, *, rows=None):
        rows = range(len(self.sample_list)) if rows is None else rows
        answered.append((masks_of_run, len(rows)))
        kept = 0.0 if masks_of_run is None else float(masks_of_run.kept[linear].ravel()[:60].sum())
        return np.array([kept + row for row in rows])

    monkeypatch.setattr(EvaluationTask, "compute_scores", score)
    linear = "mlp.up_proj"
    draw = transfer.subnetworks.draw_random_masks
    monkeypatch.setattr(
        transfer.subnetworks,
        "draw_random_masks",
        lambda *args, **more: masks.append(draw(*args, **more)) or masks[-1],
    )
    found = score_transfer_matrix(tasks, caches, sparsity=0.5, repeats=20)
    assert len(masks) == 20
    assert len({each[linear].tobytes() for each in masks}) == 20
    known = {name: np.isfinite(own) for name, own in found.random.items()}
    # With four samples of two tasks, three masks a sample are the fewest that use all masks.
    assert {int(n) for own in known.values() for n in own.sum(axis=1)} == {3}
    assert sum(own.any(axis=0) for own in known.values()).all()
    for name, own in found.random.items():
        expected = [[each[linear].ravel()[:60].sum() + row for each in masks] for row in range(4)]
        np.testing.assert_array_equal(own[known[name]], np.array(expected)[known[name]])
        np.testing.assert_allclose(found.by_mask[RANDOM_MASKS][name], np.nanmean(own, axis=1))
    assert set(found.masks) == set(tasks)
    whole = [count for masks_of_run, count in answered if masks_of_run is None]
    assert whole == [4, 4]


def test_the_mask_of_one_kind_is_that_of_its_tokens(tasks, caches, monkeypatch):
    monkeypatch.setattr(EvaluationTask, "compute_scores", lambda self, masks: (self.model, masks))
    found = transfer.score_kind_masks(tasks, caches, sparsity=0.5)
    assert list(found) == ["perceptual", "textual"]
    for kind, by_task in found.items():
        assert list(by_task) == list(tasks)
        for name, (model, masks) in by_task.items():
            assert model is tasks[name].model
            assert masks.attributes["kinds"] == [kind]
            own = compute_masks_from_cache(model, caches[name], sparsity=0.5, kinds=[kind])
            whole = compute_masks_from_cache(model, caches[name], sparsity=0.5)
            alike = [
                all((masks.kept[linear] == other.kept[linear]).all() for linear in masks.names)
                for other in (own, whole)
            ]
            assert alike == [True, False]


@pytest.mark.parametrize(
    ("others", "own", "words", "end"),
    [
        ((-0.2, -0.1), (-0.1, 0.1), ("tasks score less", "no difference"), "no gain from"),
        ((0.1, 0.2), (-0.2, -0.1), ("tasks score more", "they score less"), "no gain from"),
        ((-0.1, 0.1), (0.1, 0.2), ("no difference", "they score more"), "choose better weights"),
    ],
)
def test_the_sentence_on_size_alone_follows_both_intervals(others, own, words, end):
    gaps = [Interval(sum(ends) / 2, *ends, n=12) for ends in (others, own)]
    text = transfer_summary.describe_size_alone(others=gaps[0], own=gaps[1])
    about_others, about_own = text.split("; ")
    assert words[0] in about_others
    assert str(gaps[0]) in about_others
    assert words[1] in about_own
    assert str(gaps[1]) in about_own
    assert end in text.rpartition("So ")[2]


def test_a_few_weights_are_removed_from_each_part_by_the_same_deal(tasks, caches, monkeypatch):
    masks = [
        compute_masks_from_cache(task.model, caches[name], sparsity=0.5)
        for name, task in tasks.items()
    ]
    removed: list[Masks] = []

    def score(self, masks_of_run, *, rows):
        removed.append(masks_of_run)
        return np.zeros(len(rows))

    monkeypatch.setattr(EvaluationTask, "compute_scores", score)
    scores = score_without_weights(tasks, masks, removed=0.01, sparsity=0.5, repeats=6)
    deals = [{name: np.isfinite(own) for name, own in part.items()} for part in scores.values()]
    for deal in deals[1:]:
        for name in tasks:
            np.testing.assert_array_equal(deal[name], deals[0][name])
    common = intersect_layer_masks(masks)
    total = sum(mask.size for mask in common.values())
    runs = len(removed) // 3
    for number, each in enumerate(removed):
        gone = {name: ~kept for name, kept in each.kept.items()}
        assert sum(int(own.sum()) for own in gone.values()) == round(0.01 * total)
        if number < runs:
            assert not any((own & ~common[name]).any() for name, own in gone.items())
    assert list(scores) == ["shared part", "large weights", "anywhere"]
    with pytest.raises(ParameterError, match="the part has"):
        score_without_weights(tasks, masks, removed=0.9, sparsity=0.5, repeats=6)


def make_transfer(modalities, *, seed=0):
    """Return tasks on the same contents, and scores with known means."""
    rng = np.random.default_rng(seed)
    tasks = {name: make_task(range(40)) for name in modalities}
    noise = {name: 0.1 * rng.random(40) for name in tasks}
    by_mask = {
        mask: {name: noise[name] + (0.8 if name == mask else 0.7) for name in tasks}
        for mask in tasks
    }
    by_mask["b"]["a"] = noise["a"] + 0.3
    level = {transfer.WHOLE_MODEL: 0.9, transfer.MAGNITUDE_ONLY: 0.75, RANDOM_MASKS: 0.1}
    by_mask |= {mask: {n: noise[n] + value for n in tasks} for mask, value in level.items()}
    random = {name: np.repeat(by_mask[RANDOM_MASKS][name][:, None], 20, axis=1) for name in tasks}
    masks = {name: Masks({"q": np.ones((1, 1, 1), dtype=bool)}) for name in tasks}
    return tasks, TransferScores(by_mask, random, masks)


def test_the_masks_of_other_modalities_are_compared_with_three_others():
    modalities = {"a": "image", "b": "image", "c": "audio"}
    tasks, scores = make_transfer(modalities)
    gains = transfer_summary.compare_other_masks(scores, tasks=tasks, modalities=modalities)
    # Task a is bad with b's mask, which is of its own modality.
    assert gains[RANDOM_MASKS].value == pytest.approx(0.6)
    assert gains[transfer_summary.OWN_MASK].value == pytest.approx(-0.1)
    assert gains[transfer.MAGNITUDE_ONLY].value == pytest.approx(-0.05)
    assert {one.n for one in gains.values()} == {40}
    summary = transfer_summary.summarize_transfer(scores.by_mask, modalities=modalities)
    gap = summary[transfer_summary.OTHER_MASKS] - summary[RANDOM_MASKS]
    assert gains[RANDOM_MASKS].value == pytest.approx(gap)


def test_within_one_modality_the_masks_of_other_tasks_count():
    modalities = {"a": "image", "b": "image"}
    tasks, scores = make_transfer(modalities)
    gains = transfer_summary.compare_other_masks(scores, tasks=tasks, modalities=modalities)
    assert gains[transfer_summary.OWN_MASK].value == pytest.approx((-0.5 - 0.1) / 2)
    summary = transfer_summary.summarize_transfer(scores.by_mask, modalities=modalities)
    text = transfer_summary.describe_transfer(
        summary, modalities=modalities, baseline=transfer_summary.OWN_MASK
    )
    assert text.startswith("With another task's mask, tasks score")
    with pytest.raises(ParameterError, match="There is no other mask: a is the only task"):
        transfer_summary.average_cross_modal_scores(scores.by_mask, modalities={"a": "image"})


def test_the_interval_of_random_masks_is_wide_where_they_differ():
    modalities = {"a": "image", "b": "audio"}
    tasks, scores = make_transfer(modalities)
    shift = np.random.default_rng(1).normal(scale=0.2, size=20)
    random = {name: own + shift - shift.mean() for name, own in scores.random.items()}
    others = transfer_summary.average_cross_modal_scores(scores.by_mask, modalities=modalities)
    alike = compute_crossed_difference(others, scores.random, tasks=tasks)
    apart = compute_crossed_difference(others, random, tasks=tasks)
    assert apart.value == pytest.approx(alike.value)
    half = (apart.high - apart.low) / 2
    assert half == pytest.approx(2.09 * shift.std(ddof=1) / np.sqrt(20), rel=0.05)
    # The scores of each sample, averaged over masks, are the same: resampled contents see nothing.
    means = {name: own.mean(axis=1) for name, own in random.items()}
    paired = compute_task_difference(others, means, tasks=tasks)
    assert paired.high - paired.low < 0.1 * half


def test_a_difference_of_scores_has_no_larger_interval_than_it_can_have():
    tasks = {"a": make_task("xy")}
    ones, random = {"a": np.ones(2)}, {"a": np.array([[0.0, 1.0], [0.0, 0.0]])}
    # Student's t of two masks reaches far.
    gap = compute_crossed_difference(ones, random, tasks=tasks)
    assert (gap.low, gap.value, gap.high) == (-1.0, 0.75, 1.0)
    # A CIDEr of 3 is possible.
    triple = {"a": 3 * ones["a"]}
    assert compute_crossed_difference(triple, random, tasks=tasks).high > 3
