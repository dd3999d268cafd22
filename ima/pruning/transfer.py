"""Transfer (F2.2): tasks solved with the weights that other tasks activate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from ima.cache.cache_set import CacheSet
from ima.data.samples import Sample, SampleSet, open_samples
from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures import subnetworks
from ima.metrics.sample_scores import MAIN_SCORES, SampleScorer
from ima.models.batch import Batch
from ima.models.frozen import FrozenModel
from ima.models.linear_layers import get_linear_weights
from ima.models.perception import PerceptionMemory, reuse_perception
from ima.pruning.masks import (
    Masks,
    compute_masks_from_cache,
    load_cache_set_models,
)
from ima.pruning.random_choices import average_over_choices, score_random_choices
from ima.pruning.wanda import apply_masks, open_calibration_samples
from ima.stats import FloatArray, RowIndices
from ima.stats.crossed import compute_crossed_interval
from ima.stats.intervals import Interval
from ima.stats.resampling import draw_dataset_weights, list_sample_contents
from ima.stats.scores import clip_score_difference

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
    def contents(self) -> list[str]:
        """The content of each sample."""
        return [sample.content_key for sample in self.samples]

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

    def compute_scores(
        self, masks: Masks | None = None, *, rows: RowIndices | None = None
    ) -> FloatArray:
        """Answer samples greedily, with or without masks; return their scores ``(sample,)``.

        Parameters
        ----------
        masks : Masks or None
            Masks of the language model; None runs all of it.
        rows : ndarray or None
            ``(sample,)``, the positions of the samples; None answers all.
        """
        samples = self.sample_list if rows is None else [self.sample_list[row] for row in rows]
        pruned = nullcontext() if masks is None else apply_masks(self.model, masks)
        # Masks change the language model only, so perceptual tokens are reused.
        with pruned, reuse_perception(self._memory):
            answers = self.model.generate(samples)
        column = self.scorer.metrics.index(self.metric)
        return self.scorer(samples, answers)[:, column].astype(np.float64)


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


@dataclass(frozen=True)
class TransferScores:
    """Scores of every task with every mask.

    Parameters
    ----------
    by_mask : mapping of str to mapping
        By mask (:data:`WHOLE_MODEL`, the tasks, :data:`MAGNITUDE_ONLY`, :data:`RANDOM_MASKS`) and
        task ``(sample,)``. Scores with random masks are means over those that the sample was dealt.
    random : mapping of str to ndarray
        By task ``(sample, choice)``: the scores with each random mask; NaN where a sample was not
        answered with it.
    masks : mapping of str to Masks
        The mask of each task.
    """

    by_mask: ScoresByMask
    random: TaskScores
    masks: Mapping[str, Masks]


def score_transfer_matrix(
    tasks: TasksByName,
    caches: Mapping[str, str | os.PathLike[str]],
    *,
    sparsity: float,
    repeats: int = 20,
    seed: int = 0,
) -> TransferScores:
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
        Number of random masks. Each sample is answered with a few of them
        (:func:`ima.pruning.random_choices.deal_choices`).
    seed : int
        Seed of the random masks.

    Returns
    -------
    TransferScores
        The scores, and the mask of each task.

    Examples
    --------
    >>> scores = score_transfer_matrix(tasks, caches, sparsity=0.5)  # doctest: +SKIP
    >>> scores.by_mask["mini-image-caption"]["mini-image-qa"].mean()  # doctest: +SKIP
    0.79
    """
    weights = get_linear_weights(next(iter(tasks.values())).model)
    task_masks = {
        name: compute_masks_from_cache(task.model, caches[name], sparsity=sparsity)
        for name, task in tasks.items()
    }
    largest = Masks(subnetworks.compute_magnitude_masks(weights, sparsity=sparsity))

    def draw(number: int) -> Masks:
        rng = np.random.default_rng((seed, number))
        return Masks(subnetworks.draw_random_masks(weights, sparsity=sparsity, rng=rng))

    scores = {WHOLE_MODEL: {name: task.compute_scores() for name, task in tasks.items()}}
    for label, masks in [*task_masks.items(), (MAGNITUDE_ONLY, largest)]:
        scores[label] = {name: task.compute_scores(masks) for name, task in tasks.items()}
    random = score_random_choices(tasks, draw, choices=repeats, seed=seed)
    scores[RANDOM_MASKS] = average_over_choices(random)
    return TransferScores(scores, random, task_masks)


def score_kind_masks(
    tasks: TasksByName, caches: Mapping[str, str | os.PathLike[str]], *, sparsity: float
) -> dict[str, dict[str, FloatArray]]:
    """Score every task with the masks that one kind of its own tokens gives.

    The mask of a task is made from all its tokens. The mask of its textual tokens has seen no
    percept, and the mask of its perceptual tokens has seen no prompt and no answer.

    Parameters
    ----------
    tasks, caches, sparsity
        As for :func:`score_transfer_matrix`.

    Returns
    -------
    dict of str to dict
        By kind of token (:data:`ima.hook_points.TOKEN_KINDS`) and task ``(sample,)``.

    Examples
    --------
    >>> by_kind = score_kind_masks(tasks, caches, sparsity=0.5)  # doctest: +SKIP
    >>> by_kind["textual"]["mini-image-caption"].mean()  # doctest: +SKIP
    0.81
    """
    scores: dict[str, dict[str, FloatArray]] = {}
    for kind in TOKEN_KINDS:
        scores[kind] = {}
        for name, task in tasks.items():
            masks = compute_masks_from_cache(
                task.model, caches[name], sparsity=sparsity, kinds=[kind]
            )
            scores[kind][name] = task.compute_scores(masks)
    return scores


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
        The tasks. Samples of one content are resampled together, within a task and across tasks: a
        caption and all questions about one picture.
    resamples : int
        Number of bootstrap resamples.
    seed : int
        Seed of the resamples.

    Returns
    -------
    Interval
        The difference with 95 % percentile limits; n counts contents. It lies within -1 and 1 if
        all scores lie within 0 and 1.

    Examples
    --------
    >>> str(compute_task_difference(pruned, whole, tasks=tasks))  # doctest: +SKIP
    '-0.120 [-0.170, -0.060], n = 48'
    """
    gaps = _label_gaps(first, second, tasks=tasks)
    weights, _, n = draw_dataset_weights(gaps, resamples=resamples, seed=seed)
    draws = np.mean([weights[name] @ gap.to_numpy() for name, gap in gaps.items()], axis=0)
    value = float(np.mean([gap.mean() for gap in gaps.values()]))
    interval = Interval.of_draws(value, draws[1:], n=n)
    return clip_score_difference(interval, *_list_scores(first, second, tasks=tasks))


def compute_crossed_difference(
    first: TaskScores, second: TaskScores, *, tasks: TasksByName
) -> Interval:
    """Compute the difference of scores, averaged over tasks, contents and random choices.

    Parameters
    ----------
    first, second : mapping of str to ndarray
        By task ``(sample,)`` or ``(sample, choice)``, the second of them with choices; it is
        subtracted from the first. NaN where a sample was not answered under a choice.
    tasks : mapping of str to EvaluationTask
        The tasks. Samples of one content are one unit, within a task and across tasks.

    Returns
    -------
    Interval
        The difference with 95 % limits, which hold for other contents and other random choices
        (:func:`ima.stats.crossed.compute_crossed_interval`); n counts contents. It lies within -1
        and 1 if all scores lie within 0 and 1.

    Examples
    --------
    >>> str(compute_crossed_difference(pruned, scores.random, tasks=tasks))  # doctest: +SKIP
    '0.678 [0.628, 0.728], n = 144'
    """
    gaps = {
        name: (first[name] if first[name].ndim > 1 else first[name][:, None]) - second[name]
        for name in tasks
    }
    interval = compute_crossed_interval(gaps, ids=_list_contents(tasks))
    return clip_score_difference(interval, *_list_scores(first, second, tasks=tasks))


def _list_scores(*sides: TaskScores, tasks: TasksByName) -> list[FloatArray]:
    return [own[name] for own in sides for name in tasks]


def _list_contents(tasks: TasksByName) -> dict[str, list[str]]:
    """Return the content of each task's samples."""
    return {name: task.contents for name, task in tasks.items()}


def _label_gaps(
    first: TaskScores, second: TaskScores, *, tasks: TasksByName
) -> dict[str, xr.DataArray]:
    """Return the difference of each sample's scores by task, labelled with its content."""
    return {
        name: xr.DataArray(first[name] - second[name], {"id": ("sample", own)}, "sample")
        for name, own in _list_contents(tasks).items()
    }


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
    labelled = _label_gaps(first, second, tasks=tasks)
    parts = np.concatenate([gap.to_numpy() / gap.size for gap in labelled.values()])
    gaps = np.bincount(list_sample_contents(labelled)["content"], weights=parts)
    if not gaps.any():
        return 1.0
    test = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", vectorized=True,
        n_resamples=permutations, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(test.pvalue)


def average_over_tasks(scores: TaskScores) -> float:
    """Average scores over samples, then over tasks with equal weight.

    Examples
    --------
    >>> average_over_tasks({"caption": np.array([0.5]), "qa": np.array([1.0, 0.0, 0.5])})
    0.5
    """
    return float(np.mean([values.mean() for values in scores.values()]))


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
