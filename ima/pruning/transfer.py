"""Transfer (F2.2): tasks that are solved with the weights of other tasks, or without a few."""

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
from ima.measures.similarity import FloatArray
from ima.metrics.sample_scores import MAIN_SCORES, SampleScorer
from ima.models import Batch
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
from ima.stats.intervals import Interval, draw_bootstrap_weights

#: Rows of a matrix of scores beside the tasks' own masks.
WHOLE_MODEL, MAGNITUDE_ONLY, RANDOM_MASKS = "whole model", "size alone", "random"
#: Of each task, the score of each sample.
TaskScores = Mapping[str, FloatArray]
#: Of each mask, the scores of each task.
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
    def held(self) -> list[Sample]:
        """The samples, each the same object whenever they are run."""
        return list(self.samples)

    @cached_property
    def scorer(self) -> SampleScorer:
        """What scores the answers."""
        return SampleScorer(self.samples)

    @property
    def metric(self) -> str:
        """Name of the task's score."""
        known = self.scorer.metrics
        found = next((name for name in MAIN_SCORES if name in known), None)
        if found is None:
            message = f"{self.samples.name} has none of the scores {', '.join(MAIN_SCORES)}."
            raise ParameterError(message)
        return found

    def calibration(self, path: str | os.PathLike[str], *, n: int) -> list[Batch]:
        """Return the first samples that a cache was made from, in batches for the model."""
        key = (os.fspath(path), n)
        if key not in self._calibration:
            self._calibration[key] = open_calibration_samples(path, n=n)
        with reuse_perception(self._memory):
            return self.model.batches(self._calibration[key])

    def scores(self, masks: Masks | None = None) -> FloatArray:
        """Return the score of each sample, answered greedily, without some weights or with all."""
        pruned = nullcontext() if masks is None else apply_masks(self.model, masks)
        # No mask changes what is perceived.
        with pruned, reuse_perception(self._memory):
            said = self.model.generate(self.held)
        column = self.scorer.metrics.index(self.metric)
        return self.scorer(self.held, said)[:, column].astype(np.float64)


#: Tasks by name of their data set.
TasksByName = Mapping[str, EvaluationTask]


def open_tasks(family: CacheSet, *, samples: int, seed: int = 0) -> dict[str, EvaluationTask]:
    """Return the task of each model of a family, on the test split of its calibration set.

    Parameters
    ----------
    family : Family
        Of caches of calibration samples.
    samples : int
        Test samples of each, or as many as its data set holds.
    seed : int
        Of the miniature world.
    """
    opened = family.members["opened"].str.removesuffix(":calibration")
    return {
        name: EvaluationTask(
            model, open_samples(str(opened[name]), n=samples, seed=seed, at_most=True)
        )
        for name, model in load_cache_set_models(family).items()
    }


def score_transfer_matrix(
    tasks: Mapping[str, EvaluationTask],
    caches: Mapping[str, str | os.PathLike[str]],
    *,
    sparsity: float,
    repeats: int = 2,
    seed: int = 0,
) -> tuple[dict[str, dict[str, FloatArray]], dict[str, Masks]]:
    """Solve every task with the whole model, every task's mask, one by size alone and random ones.

    Parameters
    ----------
    tasks : mapping of str to Task
        All of one language model.
    caches : mapping of str to path
        Of each task, a cache of calibration samples with ``inputs``.
    sparsity : float
        Share of each row that masks leave out.
    repeats : int
        Random masks, whose scores are averaged.
    seed : int
        Of random masks.

    Returns
    -------
    scores : dict of str to dict of str to ndarray
        By mask (:data:`WHOLE_MODEL`, the tasks, :data:`MAGNITUDE_ONLY`, :data:`RANDOM_MASKS`) and task ``(sample,)``.
    masks : dict of str to Masks
        Of each task.
    """
    weights = get_linear_weights(next(iter(tasks.values())).model)
    own = {
        name: compute_masks_from_cache(task.model, caches[name], sparsity=sparsity)
        for name, task in tasks.items()
    }
    size = Masks(subnetworks.compute_magnitude_masks(weights, sparsity=sparsity))
    rngs = [np.random.default_rng((seed, number)) for number in range(repeats)]
    drawn = [Masks(subnetworks.draw_random_masks(weights, sparsity=sparsity, rng=r)) for r in rngs]
    found = {WHOLE_MODEL: {name: task.scores() for name, task in tasks.items()}}
    for other, masks in [*own.items(), (MAGNITUDE_ONLY, size)]:
        found[other] = {name: task.scores(masks) for name, task in tasks.items()}
    found[RANDOM_MASKS] = {name: _averaged(task, drawn) for name, task in tasks.items()}
    return found, own


def score_without_weights(
    tasks: Mapping[str, EvaluationTask],
    masks: Sequence[Masks],
    *,
    removed: float,
    sparsity: float,
    repeats: int = 2,
    seed: int = 0,
) -> dict[str, dict[str, FloatArray]]:
    """Solve every task without a few weights: of those that all masks keep, and of others.

    Parameters
    ----------
    tasks : mapping of str to Task
        All of one language model.
    masks : sequence of Masks
        Of each task.
    removed : float
        Share of all weights that is taken away.
    sparsity : float
        Of the mask by size alone, from whose kept weights the second choice is drawn.
    repeats : int
        Random choices, whose scores are averaged.
    seed : int
        Of the choices.

    Returns
    -------
    dict of str to dict of str to ndarray
        By part (``shared part``, ``large weights``, ``anywhere``) and task ``(sample,)``.

    Raises
    ------
    ParameterError
        If a part has fewer weights than are to be taken away.
    """
    weights = get_linear_weights(next(iter(tasks.values())).model)
    parts = {
        "shared part": intersect_layer_masks(masks),
        "large weights": subnetworks.compute_magnitude_masks(weights, sparsity=sparsity),
        "anywhere": {name: np.ones(w.shape, dtype=bool) for name, w in weights.items()},
    }
    return {
        label: {
            name: _averaged(
                task, [_without(part, removed, (seed, number)) for number in range(repeats)]
            )
            for name, task in tasks.items()
        }
        for label, part in parts.items()
    }


def compute_task_difference(
    first: TaskScores,
    second: TaskScores,
    *,
    tasks: Mapping[str, EvaluationTask],
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the mean difference of scores over tasks, contents resampled.

    Parameters
    ----------
    first, second : mapping of str to ndarray
        By task ``(sample,)``.
    tasks : mapping of str to Task
        Tasks whose samples have the same ids are resampled together: a caption and a question about
        one picture are one content.
    resamples : int
        Bootstrap resamples.
    seed : int
        Same seed, same interval.

    Returns
    -------
    Interval
        With 95 % percentile limits; n counts contents.
    """
    ids = _contents(tasks)
    drawn = {
        own: draw_bootstrap_weights(len(own), resamples=resamples, seed=(seed, at)).to_numpy()
        for at, own in enumerate(dict.fromkeys(ids.values()))
    }
    gaps = {name: first[name] - second[name] for name in tasks}
    draws = np.mean([drawn[ids[name]] @ gap for name, gap in gaps.items()], axis=0)
    value = float(np.mean([gap.mean() for gap in gaps.values()]))
    return Interval.of_draws(value, draws, n=sum(len(own) for own in drawn))


def _contents(tasks: Mapping[str, EvaluationTask]) -> dict[str, tuple[str, ...]]:
    """Return the ids of each task's samples; tasks that share them share contents."""
    return {name: tuple(sample.id for sample in task.samples) for name, task in tasks.items()}


def compute_sign_flip_p(
    first: TaskScores,
    second: TaskScores,
    *,
    tasks: Mapping[str, EvaluationTask],
    permutations: int = 2000,
    seed: int = 0,
) -> float:
    """Test whether scores differ in the mean over tasks, contents paired (two-sided).

    Parameters
    ----------
    first, second, tasks
        As :func:`compute_task_difference` takes them.
    permutations : int
        Random choices of contents whose two scores change places.
    seed : int
        Same seed, same p.

    Returns
    -------
    float
        1 where no content is scored differently.
    """
    parts: dict[tuple[str, ...], FloatArray] = {}
    for name, own in _contents(tasks).items():
        gap = (first[name] - second[name]) / len(own)
        parts[own] = parts[own] + gap if own in parts else gap
    gaps = np.concatenate(list(parts.values()))
    if not gaps.any():
        return 1.0
    found = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", vectorized=True,
        n_resamples=permutations, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.pvalue)


def average_cross_modal_scores(
    scores: Mapping[str, TaskScores], *, modalities: Mapping[str, str]
) -> dict[str, FloatArray]:
    """Average each task's scores over the masks of tasks of other modalities.

    Parameters
    ----------
    scores : mapping
        From :func:`score_transfer_matrix`.
    modalities : mapping of str to str
        The modality of each task; where there is one only, all other tasks count.
    """
    found = {}
    for name, own in modalities.items():
        away = [other for other, modality in modalities.items() if modality != own]
        others = away or [other for other in modalities if other != name]
        found[name] = np.mean([scores[other][name] for other in others], axis=0)
    return found


def summarize_transfer(
    scores: Mapping[str, TaskScores], *, modalities: Mapping[str, str]
) -> dict[str, float]:
    """Average scores over tasks: the whole model, own, other modalities', size alone, random.

    Parameters
    ----------
    scores : mapping
        From :func:`score_transfer_matrix`.
    modalities : mapping of str to str
        The modality of each task.
    """
    parts = {
        WHOLE_MODEL: scores[WHOLE_MODEL],
        "own mask": {name: scores[name][name] for name in modalities},
        "others' masks": average_cross_modal_scores(scores, modalities=modalities),
        MAGNITUDE_ONLY: scores[MAGNITUDE_ONLY],
        RANDOM_MASKS: scores[RANDOM_MASKS],
    }
    return {
        part: float(np.mean([values.mean() for values in own.values()]))
        for part, own in parts.items()
    }


def tabulate_mask_scores(
    scores: Mapping[str, TaskScores], *, titles: Mapping[str, str]
) -> pd.DataFrame:
    """Return mean scores, masks in rows and tasks in columns."""
    rows = {
        titles.get(mask, mask): {titles[name]: values.mean() for name, values in own.items()}
        for mask, own in scores.items()
    }
    return pd.DataFrame(rows).T


def _without(part: Mapping[str, subnetworks.Mask], removed: float, seed: tuple[int, int]) -> Masks:
    flat = subnetworks.flatten_masks(part)
    count, held = round(removed * flat.size), int(flat.sum())
    if count > held:
        message = f"Cannot take away {count} weights: the part has {held}."
        raise ParameterError(message)
    out = np.random.default_rng((*seed, 7)).choice(np.flatnonzero(flat), size=count, replace=False)
    kept = np.ones(flat.size, dtype=bool)
    kept[out] = False
    ends = np.cumsum([mask.size for mask in part.values()])[:-1]
    pieces = zip(part.items(), np.split(kept, ends), strict=True)
    return Masks({name: piece.reshape(mask.shape) for (name, mask), piece in pieces})


def _averaged(task: EvaluationTask, masks: Sequence[Masks]) -> FloatArray:
    found: FloatArray = np.mean([task.scores(one) for one in masks], axis=0)
    return found
