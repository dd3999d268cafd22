"""How much of the whole model's score α-SubNets keep (I4), and what they keep beside a baseline."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ima.cache.cache_set import CacheSet
from ima.models.frozen import FrozenModel
from ima.pruning.alpha_subnet import ALPHA_SUBNET, build_alpha_subnet
from ima.pruning.mask_comparison import open_calibration_tasks, score_pruning_masks
from ima.pruning.masks import Masks, compute_masks_from_cache
from ima.pruning.transfer import (
    ScoresByMask,
    TasksByName,
    TaskScores,
    average_over_tasks,
    open_tasks,
)
from ima.stats.intervals import Interval, compute_lowest_point
from ima.stats.resampling import draw_dataset_weights, label_draws

#: The part of the whole model's score that claim I4 says remains.
KEPT_PART = 0.9
#: Sparsities of the tasks' masks whose α-SubNets claim I4 is about; it is tested at the last.
MASK_SPARSITIES = (0.3, 0.5)


@dataclass(frozen=True)
class AlphaEvaluation:
    """Scores of a model's tasks: whole, with α-SubNets, and with baselines that are as sparse.

    Parameters
    ----------
    tasks : mapping of str to EvaluationTask
        The tasks, with test samples.
    masks : mapping of float to sequence of Masks
        By sparsity, the Wanda mask of each task.
    alphas : mapping of float to Masks
        By sparsity of the tasks' masks, the α-SubNet.
    whole : mapping of str to ndarray
        By task ``(sample,)``: scores of the whole model.
    by_sparsity : mapping of float to mapping
        By sparsity of the tasks' masks and task ``(sample,)``: scores of the α-SubNet.
    by_mask : mapping
        By mask and task ``(sample,)``: scores of the last α-SubNet and of equally sparse baselines.
    on_calibration : mapping
        The same as ``by_mask`` on calibration samples.
    """

    tasks: TasksByName
    masks: Mapping[float, Sequence[Masks]]
    alphas: Mapping[float, Masks]
    whole: TaskScores
    by_sparsity: Mapping[float, TaskScores]
    by_mask: ScoresByMask
    on_calibration: ScoresByMask


def compute_task_masks(
    model: FrozenModel, caches: Sequence[str | os.PathLike[str]]
) -> dict[float, list[Masks]]:
    """Compute the Wanda mask of each task at each of :data:`MASK_SPARSITIES`.

    Parameters
    ----------
    model : FrozenModel
        Any of the models that made the caches; they share one language model.
    caches : sequence of path
        For each task, a cache of calibration samples with ``/input_norms``.

    Examples
    --------
    >>> model = load_model("llama-mini/vit/image-qa")  # doctest: +SKIP
    >>> list(compute_task_masks(model, ["caption.zarr", "qa.zarr"]))  # doctest: +SKIP
    [0.3, 0.5]
    """
    return {
        sparsity: [compute_masks_from_cache(model, path, sparsity=sparsity) for path in caches]
        for sparsity in MASK_SPARSITIES
    }


def evaluate_alpha_subnets(
    cache_set: CacheSet, *, samples: int, chosen_on: int, calibration: int = 64, seed: int = 0
) -> AlphaEvaluation:
    """Score the tasks of a model with the α-SubNets of :data:`MASK_SPARSITIES` and with baselines.

    Parameters
    ----------
    cache_set : CacheSet
        Caches of calibration samples with ``/input_norms``.
    samples : int
        Test samples of each task.
    chosen_on : int
        Calibration samples of each task on which masks are scored too, to choose the best.
    calibration : int
        Samples of each task on which SparseGPT is calibrated.
    seed : int
        Seed of the random baseline.

    Examples
    --------
    >>> cache_set = open_cache_set(["caption.zarr", "qa.zarr"])  # doctest: +SKIP
    >>> evaluation = evaluate_alpha_subnets(cache_set, samples=24, chosen_on=12)  # doctest: +SKIP
    >>> list(evaluation.by_sparsity)  # doctest: +SKIP
    [0.3, 0.5]
    """
    paths, tasks = dict(cache_set.members["path"]), open_tasks(cache_set, samples=samples)
    model = next(iter(tasks.values())).model
    masks = compute_task_masks(model, list(paths.values()))
    alphas = {sparsity: build_alpha_subnet(own) for sparsity, own in masks.items()}
    by_mask, on_calibration = score_pruning_masks(
        tasks,
        paths,
        alpha=alphas[MASK_SPARSITIES[-1]],
        other_tasks=open_calibration_tasks(tasks, paths, samples=chosen_on),
        calibration=calibration,
        seed=seed,
    )
    by_sparsity = {
        sparsity: {name: task.compute_scores(alphas[sparsity]) for name, task in tasks.items()}
        for sparsity in MASK_SPARSITIES[:-1]
    }
    return AlphaEvaluation(
        tasks=tasks,
        masks=masks,
        alphas=alphas,
        whole={name: task.compute_scores() for name, task in tasks.items()},
        by_sparsity=by_sparsity | {MASK_SPARSITIES[-1]: by_mask[ALPHA_SUBNET]},
        by_mask=by_mask,
        on_calibration=on_calibration,
    )


def compute_kept_score_curve(
    by_sparsity: Mapping[float, TaskScores],
    whole: TaskScores,
    *,
    tasks: TasksByName,
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compute how far α-SubNets of several sparsities stay above nine tenths of the whole score.

    Parameters
    ----------
    by_sparsity : mapping of float to mapping
        By sparsity of the tasks' masks and task ``(sample,)``: scores of the α-SubNet.
    whole : mapping of str to ndarray
        By task ``(sample,)``: scores of the whole model.
    tasks : mapping of str to EvaluationTask
        The tasks that were scored; samples with one id show one content.
    resamples : int
        Bootstrap resamples of contents, the same for all sparsities.
    seed : int
        Seed of the resamples.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(sparsity,)`` and ``draws`` ``(draw, sparsity)`` of the score minus
        :data:`KEPT_PART` of the whole model's, mean over tasks; the attribute ``samples`` counts
        contents.

    Examples
    --------
    >>> curve = compute_kept_score_curve(  # doctest: +SKIP
    ...     {0.3: light, 0.5: heavy}, whole, tasks=tasks
    ... )
    >>> curve["estimate"].values  # doctest: +SKIP
    array([ 0.09, -0.18])
    """
    gaps = {
        name: xr.DataArray(
            np.column_stack([own[name] - KEPT_PART * whole[name] for own in by_sparsity.values()]),
            dims=("sample", "sparsity"),
            coords={"id": ("sample", task.contents)},
        )
        for name, task in tasks.items()
    }
    weights, _, n = draw_dataset_weights(gaps, resamples=resamples, seed=seed)
    values = np.mean([weights[name] @ own.to_numpy() for name, own in gaps.items()], axis=0)
    return label_draws(values, ("sparsity",), coords={"sparsity": list(by_sparsity)}, n=n)


def compute_lowest_kept_score(curve: xr.Dataset) -> Interval:
    """Measure I4 as stated: the lowest point of :func:`compute_kept_score_curve`.

    The interval is that of a minimum: the lower of two noisy numbers is biased downwards.

    Examples
    --------
    >>> values = np.array([[0.1, -0.2], [0.1, -0.2]])
    >>> curve = label_draws(values, ("sparsity",), coords={"sparsity": [0.3, 0.5]}, n=8)
    >>> print(compute_lowest_kept_score(curve))
    -0.200 [-0.200, -0.200], n = 8
    """
    return compute_lowest_point(curve, n=curve.attrs["samples"])


def describe_kept_scores(
    by_sparsity: Mapping[float, TaskScores], whole: TaskScores, *, reached: Mapping[float, float]
) -> str:
    """Say how much of the whole model's mean score the α-SubNets keep.

    Parameters
    ----------
    by_sparsity, whole
        As for :func:`compute_kept_score_curve`.
    reached : mapping of float to float
        By sparsity of the tasks' masks, the sparsity of the α-SubNet.

    Examples
    --------
    >>> whole, half = {"qa": np.array([1.0, 0.0])}, {"qa": np.array([0.5, 0.0])}
    >>> describe_kept_scores({0.3: whole, 0.5: half}, whole, reached={0.3: 0.47, 0.5: 0.7})
    'Of a mean score of 0.50, the α-SubNet of 30% masks (47% sparse) keeps 0.50 and that of 50% \
masks (70% sparse) 0.25.'
    """
    parts = [
        f"of {level:.0%} masks ({reached[level]:.0%} sparse){' keeps' * (not number)} "
        f"{average_over_tasks(own):.2f}"
        for number, (level, own) in enumerate(by_sparsity.items())
    ]
    start = f"Of a mean score of {average_over_tasks(whole):.2f}, the α-SubNet "
    return start + " and that ".join(parts) + "."


def describe_gap(
    gap: Interval, scores: ScoresByMask, *, baseline: str, sparsity: float, tasks: int
) -> str:
    """Say how the α-SubNet scores beside a baseline.

    Parameters
    ----------
    gap : Interval
        The α-SubNet's score minus the baseline's, mean over tasks.
    scores : mapping
        By mask and task ``(sample,)``.
    baseline : str
        The baseline.
    sparsity : float
        Sparsity of both.
    tasks : int
        Number of tasks.

    Examples
    --------
    >>> scores = {"α-SubNet": {"qa": np.array([0.5])}, "random": {"qa": np.array([0.25])}}
    >>> gap = Interval(0.25, 0.1, 0.4, n=9)
    >>> print(describe_gap(gap, scores, baseline="random", sparsity=0.7, tasks=1))
    At 70% sparsity the α-SubNet scores 0.50 on average over 1 task; random, the best other \
mask on calibration samples, scores 0.25. The difference is +0.25.
    """
    over = f"{tasks} task{'s' * (tasks > 1)}"
    ours, theirs = (average_over_tasks(scores[mask]) for mask in (ALPHA_SUBNET, baseline))
    return (
        f"At {sparsity:.0%} sparsity the α-SubNet scores {ours:.2f} on average over {over}; "
        f"{baseline}, the best other mask on calibration samples, scores {theirs:.2f}. The "
        f"difference is {gap.value:+.2f}."
    )
