"""A contest of masks at equal sparsity (I4): tasks solved with each, and paired differences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ima.measures.similarity import FloatArray
from ima.pruning import alpha_subnet, sparsegpt
from ima.pruning.masks import Masks, compute_masks_from_cache
from ima.pruning.transfer import (
    EvaluationTask,
    ScoresByMask,
    TaskScores,
    compute_sign_flip_p,
    compute_task_difference,
)
from ima.stats.correlation import adjust_p_values_holm

#: Each task with Wanda's mask of its own; and one model for all, its kept weights updated.
WANDA_PER_TASK, SPARSEGPT_ALL_TASKS = "Wanda on each task", "SparseGPT on all tasks"
#: What a claim about the α-SubNet must beat: masks that see no input.
DATA_FREE_MASKS = (
    alpha_subnet.MAGNITUDE_PER_ROW,
    alpha_subnet.MAGNITUDE_GLOBAL,
    alpha_subnet.RANDOM_BASELINE,
)

TaskCaches = Mapping[str, str | os.PathLike[str]]


def score_pruning_masks(
    tasks: Mapping[str, EvaluationTask],
    caches: TaskCaches,
    *,
    alpha: Masks,
    rivals: Sequence[str] = (WANDA_PER_TASK, *alpha_subnet.BASELINE_MASKS, SPARSEGPT_ALL_TASKS),
    calibration: int = 64,
    seed: int = 0,
) -> dict[str, dict[str, FloatArray]]:
    """Solve every task with the α-SubNet and with masks as sparse.

    Parameters
    ----------
    tasks : mapping of str to Task
        All of one language model.
    caches : mapping of str to path
        Of each task, a cache of calibration samples with ``inputs``.
    alpha : Masks
        The α-SubNet, whose sparsity the others get.
    rivals : sequence of str
        Of :data:`WANDA_PER_TASK`, :data:`ima.pruning.alpha_subnet.BASELINE_MASKS` and :data:`SPARSEGPT_ALL_TASKS`.
    calibration : int
        Samples of each task that SparseGPT reads.
    seed : int
        Of random masks.

    Returns
    -------
    dict of str to dict of str to ndarray
        By mask, ``α-SubNet`` first, and task: the score of each sample ``(sample,)``.
    """
    model = next(iter(tasks.values())).model
    paths, sparsity = list(caches.values()), alpha.sparsity
    found = {alpha_subnet.ALPHA_SUBNET: {name: task.scores(alpha) for name, task in tasks.items()}}
    for which in rivals:
        if which == SPARSEGPT_ALL_TASKS:
            masks = run_sparsegpt_over_tasks(
                tasks, caches, sparsity=sparsity, calibration=calibration
            )
        elif which != WANDA_PER_TASK:
            masks = alpha_subnet.build_baseline_masks(
                model, paths, which=which, sparsity=sparsity, seed=seed
            )
        found[which] = {
            name: _own(task, caches[name], sparsity)
            if which == WANDA_PER_TASK
            else task.scores(masks)
            for name, task in tasks.items()
        }
    return found


def run_sparsegpt_over_tasks(
    tasks: Mapping[str, EvaluationTask], caches: TaskCaches, *, sparsity: float, calibration: int
) -> Masks:
    """Prune the language model by SparseGPT on what all tasks' models feed it."""
    batches = [
        batch
        for name, task in tasks.items()
        for batch in task.calibration(caches[name], n=calibration)
    ]
    model = next(iter(tasks.values())).model
    return sparsegpt.compute_sparsegpt_masks(model, batches, sparsity=sparsity)


def _own(task: EvaluationTask, path: str | os.PathLike[str], sparsity: float) -> FloatArray:
    return task.scores(compute_masks_from_cache(task.model, path, sparsity=sparsity))


def compare_alpha_to_baselines(
    scores: ScoresByMask, *, tasks: Mapping[str, EvaluationTask], seed: int = 0
) -> pd.DataFrame:
    """Compare the α-SubNet with every other mask, the same samples of every task.

    Parameters
    ----------
    scores : mapping
        From :func:`score_pruning_masks`.
    tasks : mapping of str to Task
        What was solved.
    seed : int
        Of resamples and of signs.

    Returns
    -------
    pandas.DataFrame
        A row for each rival: ``mask``; ``score``, its mean over tasks; ``gap``, an
        :class:`~ima.stats.intervals.Interval` of the α-SubNet's score minus its own;
        ``p`` of a sign-flip test, and ``p (Holm)`` over the rows.
    """
    alpha = scores[alpha_subnet.ALPHA_SUBNET]
    rows = [
        {
            "mask": mask,
            "score": average_over_tasks(own),
            "gap": compute_task_difference(alpha, own, tasks=tasks, seed=seed),
            "p": compute_sign_flip_p(alpha, own, tasks=tasks, seed=seed),
        }
        for mask, own in scores.items()
        if mask != alpha_subnet.ALPHA_SUBNET
    ]
    table = pd.DataFrame(rows)
    table["p (Holm)"] = adjust_p_values_holm(table["p"].tolist())
    return table


def average_over_tasks(scores: TaskScores) -> float:
    """Return the mean score over tasks, each counted as much."""
    return float(np.mean([values.mean() for values in scores.values()]))


def find_best_data_free_mask(scores: ScoresByMask) -> str:
    """Return which of the masks that see no input scores most."""
    return max(
        (name for name in DATA_FREE_MASKS if name in scores),
        key=lambda name: average_over_tasks(scores[name]),
    )
