"""Transfer (F2.2): tasks solved with the weights that other tasks activate, or without a few."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from ima.cache.cache_set import CacheSet
from ima.data.samples import Sample, SampleSet, open_samples
from ima.errors import ParameterError
from ima.measures import subnetworks
from ima.metrics.sample_scores import MAIN_SCORES, SampleScorer
from ima.models.batch import Batch
from ima.models.frozen import FrozenModel
from ima.models.linear_layers import get_linear_weights
from ima.models.perception import PerceptionMemory, reuse_perception
from ima.pruning.masks import (
    Masks,
    compute_masks_from_cache,
    intersect_layer_masks,
    load_cache_set_models,
)
from ima.pruning.wanda import apply_masks, open_calibration_samples
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.stats.resampling import draw_bootstrap_weights

#: Rows of a table of scores besides the tasks' own masks.
WHOLE_MODEL, MAGNITUDE_ONLY, RANDOM_MASKS = "whole model", "size alone", "random"
#: By task, the score of each sample.
TaskScores = Mapping[str, FloatArray]
#: By mask and task, the score of each sample.
ScoresByMask = Mapping[str, TaskScores]


@dataclass(frozen=True)
class EvaluationTask:
    """A model and the test samples that it answers.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : SampleSet
        Its test samples.
    """

    model: FrozenModel
    samples: SampleSet
    _memory: PerceptionMemory = field(default_factory=dict, init=False, repr=False, compare=False)
    _calibration: dict[tuple[str, int], list[Sample]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def sample_list(self) -> list[Sample]:
        """The samples as a list of the same objects in every run."""
        return list(self.samples)

    @cached_property
    def scorer(self) -> SampleScorer:
        """Scorer of the answers."""
        return SampleScorer(self.samples)

    @property
    def metric(self) -> str:
        """Name of the task's main score."""
        metric = next((name for name in MAIN_SCORES if name in self.scorer.metrics), None)
        if metric is None:
            raise ParameterError(
                f"{self.samples.name} has none of the scores {', '.join(MAIN_SCORES)}."
            )
        return metric

    def read_calibration_batches(self, path: str | os.PathLike[str], *, n: int) -> list[Batch]:
        """Return the first ``n`` samples that a cache was made from, in batches for the model."""
        key = (os.fspath(path), n)
        if key not in self._calibration:
            self._calibration[key] = open_calibration_samples(path, n=n)
        with reuse_perception(self._memory):
            return self.model.encode_batches(self._calibration[key])

    def compute_scores(self, masks: Masks | None = None) -> FloatArray:
        """Answer all samples greedily, with or without masks; return their scores ``(sample,)``."""
        pruned = nullcontext() if masks is None else apply_masks(self.model, masks)
        # Masks change the language model only, so perceptual tokens are reused.
        with pruned, reuse_perception(self._memory):
            answers = self.model.generate(self.sample_list)
        column = self.scorer.metrics.index(self.metric)
        return self.scorer(self.sample_list, answers)[:, column].astype(np.float64)


#: Tasks by the name of their data set.
TasksByName = Mapping[str, EvaluationTask]


def open_tasks(cache_set: CacheSet, *, samples: int, seed: int = 0) -> dict[str, EvaluationTask]:
    """Open the task of each model of a set of caches, on the test split of its calibration set.

    Parameters
    ----------
    cache_set : CacheSet
        Caches of calibration samples.
    samples : int
        Test samples of each task; fewer if its data set has fewer.
    seed : int
        Seed of generated data sets.

    Examples
    --------
    >>> cache_set = open_cache_set(["caption.zarr", "qa.zarr"])  # doctest: +SKIP
    >>> tasks = open_tasks(cache_set, samples=24)  # doctest: +SKIP
    >>> tasks["mini-image-qa"].metric  # doctest: +SKIP
    'accuracy'
    """
    dataset_names = cache_set.members["opened"].str.removesuffix(":calibration")
    return {
        name: EvaluationTask(
            model, open_samples(str(dataset_names[name]), n=samples, seed=seed, at_most=True)
        )
        for name, model in load_cache_set_models(cache_set).items()
    }


def score_transfer_matrix(
    tasks: TasksByName,
    caches: Mapping[str, str | os.PathLike[str]],
    *,
    sparsity: float,
    repeats: int = 2,
    seed: int = 0,
) -> tuple[dict[str, dict[str, FloatArray]], dict[str, Masks]]:
    """Score every task with the whole model, with every task's mask, and with two baselines.

    Parameters
    ----------
    tasks : mapping of str to EvaluationTask
        Tasks of the same language model.
    caches : mapping of str to path
        For each task, a cache of calibration samples with ``/input_norms``.
    sparsity : float
        Fraction of each row that masks remove.
    repeats : int
        Number of random masks; their scores are averaged.
    seed : int
        Seed of the random masks.

    Returns
    -------
    scores : dict of str to dict of str to ndarray
        By mask (:data:`WHOLE_MODEL`, the tasks, :data:`MAGNITUDE_ONLY`, :data:`RANDOM_MASKS`) and
        task ``(sample,)``.
    masks : dict of str to Masks
        The mask of each task.

    Examples
    --------
    >>> scores, masks = score_transfer_matrix(tasks, caches, sparsity=0.5)  # doctest: +SKIP
    >>> scores["mini-image-caption"]["mini-image-qa"].mean()  # doctest: +SKIP
    0.79
    """
    weights = get_linear_weights(next(iter(tasks.values())).model)
    task_masks = {
        name: compute_masks_from_cache(task.model, caches[name], sparsity=sparsity)
        for name, task in tasks.items()
    }
    largest = Masks(subnetworks.compute_magnitude_masks(weights, sparsity=sparsity))
    rngs = [np.random.default_rng((seed, number)) for number in range(repeats)]
    drawn = [
        Masks(subnetworks.draw_random_masks(weights, sparsity=sparsity, rng=rng)) for rng in rngs
    ]
    scores = {WHOLE_MODEL: {name: task.compute_scores() for name, task in tasks.items()}}
    for label, masks in [*task_masks.items(), (MAGNITUDE_ONLY, largest)]:
        scores[label] = {name: task.compute_scores(masks) for name, task in tasks.items()}
    scores[RANDOM_MASKS] = {name: _average_scores(task, drawn) for name, task in tasks.items()}
    return scores, task_masks


def score_without_weights(
    tasks: TasksByName,
    masks: Sequence[Masks],
    *,
    removed: float,
    sparsity: float,
    repeats: int = 2,
    seed: int = 0,
) -> dict[str, dict[str, FloatArray]]:
    """Score every task without a few weights: ones that all masks keep, large ones, or any.

    Parameters
    ----------
    tasks : mapping of str to EvaluationTask
        Tasks of the same language model.
    masks : sequence of Masks
        The mask of each task.
    removed : float
        Fraction of all weights to remove.
    sparsity : float
        Sparsity of the magnitude mask whose kept weights are the large ones.
    repeats : int
        Number of random choices of weights; their scores are averaged.
    seed : int
        Seed of the choices.

    Returns
    -------
    dict of str to dict of str to ndarray
        By part (``shared part``, ``large weights``, ``anywhere``) and task ``(sample,)``.

    Raises
    ------
    ParameterError
        If a part has fewer weights than are to be removed.

    Examples
    --------
    >>> scores = score_without_weights(  # doctest: +SKIP
    ...     tasks, list(masks.values()), removed=0.015, sparsity=0.5
    ... )
    >>> list(scores)  # doctest: +SKIP
    ['shared part', 'large weights', 'anywhere']
    """
    weights = get_linear_weights(next(iter(tasks.values())).model)
    parts = {
        "shared part": intersect_layer_masks(masks),
        "large weights": subnetworks.compute_magnitude_masks(weights, sparsity=sparsity),
        "anywhere": {name: np.ones(w.shape, dtype=bool) for name, w in weights.items()},
    }
    return {
        label: {
            name: _average_scores(
                task, [_remove_random(part, removed, (seed, number)) for number in range(repeats)]
            )
            for name, task in tasks.items()
        }
        for label, part in parts.items()
    }


def compute_task_difference(
    first: TaskScores,
    second: TaskScores,
    *,
    tasks: TasksByName,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Compute the difference of scores, averaged over tasks, with contents resampled.

    Parameters
    ----------
    first, second : mapping of str to ndarray
        By task ``(sample,)``; the second is subtracted from the first.
    tasks : mapping of str to EvaluationTask
        Tasks whose samples have the same ids are resampled together: a caption and a question about
        the same picture share their content.
    resamples : int
        Number of bootstrap resamples.
    seed : int
        Seed of the resamples.

    Returns
    -------
    Interval
        The difference with 95 % percentile limits; n counts contents.

    Examples
    --------
    >>> str(compute_task_difference(pruned, whole, tasks=tasks))  # doctest: +SKIP
    '-0.120 [-0.170, -0.060], n = 48'
    """
    ids = _list_content_ids(tasks)
    weights = {
        contents: draw_bootstrap_weights(
            len(contents), resamples=resamples, seed=(seed, index)
        ).to_numpy()
        for index, contents in enumerate(dict.fromkeys(ids.values()))
    }
    gaps = {name: first[name] - second[name] for name in tasks}
    draws = np.mean([weights[ids[name]] @ gap for name, gap in gaps.items()], axis=0)
    value = float(np.mean([gap.mean() for gap in gaps.values()]))
    return Interval.of_draws(value, draws, n=sum(len(contents) for contents in weights))


def _list_content_ids(tasks: TasksByName) -> dict[str, tuple[str, ...]]:
    """Return the ids of each task's samples; tasks with the same ids share contents."""
    return {name: tuple(sample.id for sample in task.samples) for name, task in tasks.items()}


def compute_sign_flip_p(
    first: TaskScores,
    second: TaskScores,
    *,
    tasks: TasksByName,
    permutations: int = 2000,
    seed: int = 0,
) -> float:
    """Test whether scores differ in their mean over tasks, contents paired (two-sided).

    Parameters
    ----------
    first, second, tasks
        As for :func:`compute_task_difference`.
    permutations : int
        Random choices of contents whose two scores are swapped.
    seed : int
        Seed of the choices.

    Returns
    -------
    float
        The p-value; 1 if no content is scored differently.

    Examples
    --------
    >>> compute_sign_flip_p(pruned, whole, tasks=tasks)  # doctest: +SKIP
    0.0009
    """
    by_contents: dict[tuple[str, ...], FloatArray] = {}
    for name, contents in _list_content_ids(tasks).items():
        gap = (first[name] - second[name]) / len(contents)
        by_contents[contents] = by_contents[contents] + gap if contents in by_contents else gap
    gaps = np.concatenate(list(by_contents.values()))
    if not gaps.any():
        return 1.0
    test = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", vectorized=True,
        n_resamples=permutations, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(test.pvalue)


def average_cross_modal_scores(
    scores: ScoresByMask, *, modalities: Mapping[str, str]
) -> dict[str, FloatArray]:
    """Average each task's scores over the masks of tasks of other modalities.

    Parameters
    ----------
    scores : mapping
        The result of :func:`score_transfer_matrix`.
    modalities : mapping of str to str
        The modality of each task. If there is only one, all other tasks count.

    Examples
    --------
    >>> scores = {"caption": {"speech": np.array([0.2])}, "speech": {"caption": np.array([0.4])}}
    >>> average_cross_modal_scores(scores, modalities={"caption": "image", "speech": "audio"})
    {'caption': array([0.4]), 'speech': array([0.2])}
    """
    averages = {}
    for name, modality in modalities.items():
        cross_modal = [
            other for other, its_modality in modalities.items() if its_modality != modality
        ]
        others = cross_modal or [other for other in modalities if other != name]
        averages[name] = np.mean([scores[other][name] for other in others], axis=0)
    return averages


def average_over_tasks(scores: TaskScores) -> float:
    """Average scores over samples, then over tasks with equal weight.

    Examples
    --------
    >>> average_over_tasks({"caption": np.array([0.5]), "qa": np.array([1.0, 0.0, 0.5])})
    0.5
    """
    return float(np.mean([values.mean() for values in scores.values()]))


def summarize_transfer(scores: ScoresByMask, *, modalities: Mapping[str, str]) -> dict[str, float]:
    """Average a transfer matrix over tasks, for each kind of mask.

    Parameters
    ----------
    scores : mapping
        The result of :func:`score_transfer_matrix`.
    modalities : mapping of str to str
        The modality of each task.

    Returns
    -------
    dict of str to float
        Scores of the whole model, with the task's own mask, with the masks of tasks of other
        modalities, with the largest weights, and with random masks.

    Examples
    --------
    >>> by_task = {"qa": np.array([1.0]), "caption": np.array([0.5])}
    >>> scores = dict.fromkeys([WHOLE_MODEL, *by_task, MAGNITUDE_ONLY, RANDOM_MASKS], by_task)
    >>> summarize_transfer(scores, modalities={"qa": "image", "caption": "audio"})["own mask"]
    0.75
    """
    parts = {
        WHOLE_MODEL: scores[WHOLE_MODEL],
        "own mask": {name: scores[name][name] for name in modalities},
        "others' masks": average_cross_modal_scores(scores, modalities=modalities),
        MAGNITUDE_ONLY: scores[MAGNITUDE_ONLY],
        RANDOM_MASKS: scores[RANDOM_MASKS],
    }
    return {part: average_over_tasks(task_scores) for part, task_scores in parts.items()}


def tabulate_mask_scores(scores: ScoresByMask, *, titles: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate mean scores, masks in rows and tasks in columns.

    Parameters
    ----------
    scores : mapping
        By mask and task ``(sample,)``.
    titles : mapping of str to str
        Titles of the tasks, which also replace their names in the rows.

    Examples
    --------
    >>> tabulate_mask_scores({"random": {"qa": np.array([0.0, 1.0])}}, titles={"qa": "Questions"})
            Questions
    random        0.5
    """
    rows = {
        titles.get(mask, mask): {titles[name]: values.mean() for name, values in by_task.items()}
        for mask, by_task in scores.items()
    }
    return pd.DataFrame(rows).T


def _remove_random(
    part: Mapping[str, subnetworks.Mask], removed: float, seed: tuple[int, int]
) -> Masks:
    """Return masks that remove a fraction of all weights, drawn from a part of them."""
    flat = subnetworks.flatten_masks(part)
    count, available = round(removed * flat.size), int(flat.sum())
    if count > available:
        raise ParameterError(f"Cannot remove {count} weights: the part has {available}.")
    rng = np.random.default_rng((*seed, 7))
    kept = np.ones(flat.size, dtype=bool)
    kept[rng.choice(np.flatnonzero(flat), size=count, replace=False)] = False
    ends = np.cumsum([mask.size for mask in part.values()])[:-1]
    pieces = zip(part.items(), np.split(kept, ends), strict=True)
    return Masks({name: piece.reshape(mask.shape) for (name, mask), piece in pieces})


def _average_scores(task: EvaluationTask, masks: Sequence[Masks]) -> FloatArray:
    average: FloatArray = np.mean([task.compute_scores(each) for each in masks], axis=0)
    return average
