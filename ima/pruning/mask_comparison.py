"""Comparison of masks (I4): the α-SubNet against equally sparse baselines, and tasks' agreement."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from ima.data.samples import SampleSet
from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures import subnetworks
from ima.models.linear_layers import get_linear_weights
from ima.pruning.alpha_subnet import ALPHA_SUBNET, build_alpha_at_sparsity
from ima.pruning.masks import (
    Masks,
    compute_masks_from_cache,
    read_cache_input_norms,
    sum_input_norms,
)
from ima.pruning.sparsegpt import compute_sparsegpt_masks
from ima.pruning.transfer import (
    EvaluationTask,
    ScoresByMask,
    TasksByName,
    average_over_tasks,
    compute_sign_flip_p,
    compute_task_difference,
)
from ima.pruning.wanda import open_calibration_samples
from ima.stats import FloatArray
from ima.stats.multiplicity import adjust_p_values_holm

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

_Path = str | os.PathLike[str]
#: Wanda on the inputs of all tasks together, or on their textual inputs only.
WANDA_ALL_TASKS, WANDA_TEXT = "Wanda on all tasks", "Wanda on text"
#: Without the weights that the Wanda masks of most tasks remove.
WANDA_MOST_TASKS = "Wanda of most tasks"
#: Masks that see no input: the largest weights of each row, or of the whole model, or random ones.
MAGNITUDE_PER_ROW, MAGNITUDE_GLOBAL, RANDOM_BASELINE = "|W| in rows", "|W| overall", "random"
#: Baselines that see no input.
DATA_FREE_MASKS = (MAGNITUDE_PER_ROW, MAGNITUDE_GLOBAL, RANDOM_BASELINE)
#: Baselines that :func:`build_baseline_masks` makes from caches.
BASELINE_MASKS = (WANDA_ALL_TASKS, WANDA_MOST_TASKS, WANDA_TEXT, *DATA_FREE_MASKS)
#: Baselines that run a task's model: a separate mask for each task, and updated weights for all.
WANDA_PER_TASK, SPARSEGPT_ALL_TASKS = "Wanda on each task", "SparseGPT on all tasks"


def build_baseline_masks(
    model: FrozenModel, caches: Sequence[_Path], *, baseline: str, sparsity: float, seed: int = 0
) -> Masks:
    """Build one of the masks that the α-SubNet is compared with.

    Parameters
    ----------
    model : FrozenModel
        Any of the models that made the caches; they share one language model.
    caches : sequence of path
        For each task, a cache of calibration samples with ``/input_norms``.
    baseline : str
        One of :data:`BASELINE_MASKS`.
    sparsity : float
        Fraction of each row that is removed; of all weights for :data:`MAGNITUDE_GLOBAL` and, as an
        upper limit, for :data:`WANDA_MOST_TASKS`.
    seed : int
        Seed of the random baseline.

    Examples
    --------
    >>> model = load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
    >>> build_baseline_masks(  # doctest: +SKIP
    ...     model, ["caption.zarr", "qa.zarr"], baseline=WANDA_TEXT, sparsity=0.5
    ... ).sparsity
    0.5
    """
    weights = get_linear_weights(model)
    if baseline == WANDA_MOST_TASKS:
        majority = len(caches) // 2 + 1
        kept = build_alpha_at_sparsity(model, caches, sparsity=sparsity, votes=majority).kept
    elif baseline in {WANDA_ALL_TASKS, WANDA_TEXT}:
        kinds = TOKEN_KINDS if baseline == WANDA_ALL_TASKS else ("textual",)
        norms = sum_input_norms(model, caches, kinds=kinds)
        kept = subnetworks.compute_wanda_masks(weights, norms, sparsity=sparsity)
    elif baseline == MAGNITUDE_PER_ROW:
        kept = subnetworks.compute_magnitude_masks(weights, sparsity=sparsity)
    elif baseline == MAGNITUDE_GLOBAL:
        kept = subnetworks.compute_global_magnitude_masks(weights, sparsity=sparsity)
    else:
        rng = np.random.default_rng(seed)
        kept = subnetworks.draw_random_masks(weights, sparsity=sparsity, rng=rng)
    attributes = {"method": baseline, "sparsity": sparsity, "weights_hash": model.weights_hash}
    return Masks(kept, attributes)


def iterate_pruning_masks(
    tasks: TasksByName,
    caches: Mapping[str, _Path],
    *,
    alpha: Masks,
    baselines: Sequence[str] = (WANDA_PER_TASK, *BASELINE_MASKS, SPARSEGPT_ALL_TASKS),
    calibration: int = 64,
    seed: int = 0,
) -> Iterator[tuple[str, Mapping[str, Masks]]]:
    """Iterate over the α-SubNet and equally sparse baselines, one at a time to save memory.

    Parameters
    ----------
    tasks : mapping of str to EvaluationTask
        Tasks of the same language model.
    caches : mapping of str to path
        For each task, a cache of calibration samples with ``/input_norms``.
    alpha : Masks
        The α-SubNet; the baselines are as sparse.
    baselines : sequence of str
        From :data:`WANDA_PER_TASK`, :data:`BASELINE_MASKS` and :data:`SPARSEGPT_ALL_TASKS`.
    calibration : int
        Samples of each task on which SparseGPT is calibrated.
    seed : int
        Seed of the random baseline.

    Yields
    ------
    str, mapping of str to Masks
        The name of the mask, and the mask for each task. The α-SubNet
        (:data:`~ima.pruning.alpha_subnet.ALPHA_SUBNET`) comes first.

    Examples
    --------
    >>> masks = iterate_pruning_masks(tasks, caches, alpha=alpha)  # doctest: +SKIP
    >>> next(masks)[0]  # doctest: +SKIP
    'α-SubNet'
    """
    model, sparsity = next(iter(tasks.values())).model, alpha.sparsity
    yield ALPHA_SUBNET, dict.fromkeys(tasks, alpha)
    for baseline in baselines:
        if baseline == WANDA_PER_TASK:
            yield (
                baseline,
                {
                    name: compute_masks_from_cache(task.model, caches[name], sparsity=sparsity)
                    for name, task in tasks.items()
                },
            )
        elif baseline == SPARSEGPT_ALL_TASKS:
            batches = [
                batch
                for name, task in tasks.items()
                for batch in task.read_calibration_batches(caches[name], n=calibration)
            ]
            updated = compute_sparsegpt_masks(model, batches, sparsity=sparsity)
            yield baseline, dict.fromkeys(tasks, updated)
        else:
            shared = build_baseline_masks(
                model, list(caches.values()), baseline=baseline, sparsity=sparsity, seed=seed
            )
            yield baseline, dict.fromkeys(tasks, shared)


def score_pruning_masks(
    tasks: TasksByName,
    caches: Mapping[str, _Path],
    *,
    alpha: Masks,
    other_tasks: TasksByName | None = None,
    **options: Any,
) -> tuple[dict[str, dict[str, FloatArray]], dict[str, dict[str, FloatArray]]]:
    """Score every task with the α-SubNet and with equally sparse baselines.

    Parameters
    ----------
    tasks, caches, alpha
        As for :func:`iterate_pruning_masks`.
    other_tasks : mapping of str to EvaluationTask or None
        The same tasks with other samples, from :func:`open_calibration_tasks`; they are scored with
        the same masks.
    **options
        Passed to :func:`iterate_pruning_masks`.

    Returns
    -------
    scores, other_scores : dict of str to dict of str to ndarray
        By mask and task: the score of each sample ``(sample,)``. The second is of the other tasks.

    Examples
    --------
    >>> scores, _ = score_pruning_masks(tasks, caches, alpha=alpha)  # doctest: +SKIP
    >>> scores["random"]["mini-image-qa"].mean()  # doctest: +SKIP
    0.0
    """
    splits = (tasks, other_tasks or {})
    scores: tuple[dict[str, dict[str, FloatArray]], ...] = ({}, {})
    for mask, by_task in iterate_pruning_masks(tasks, caches, alpha=alpha, **options):
        for split, own in zip(splits, scores, strict=True):
            own[mask] = {name: task.compute_scores(by_task[name]) for name, task in split.items()}
    return scores[0], scores[1]


def open_calibration_tasks(
    tasks: TasksByName, caches: Mapping[str, _Path], *, samples: int
) -> dict[str, EvaluationTask]:
    """Open the tasks on samples from which their masks were made, and not on test samples.

    Parameters
    ----------
    tasks : mapping of str to EvaluationTask
        The tasks.
    caches : mapping of str to path
        For each task, its cache of calibration samples.
    samples : int
        Samples of each task; at most as many as its cache has.

    Examples
    --------
    >>> open_calibration_tasks(tasks, caches, samples=8)["qa"].samples.split  # doctest: +SKIP
    'calibration'
    """
    opened = {}
    for name, task in tasks.items():
        own = tuple(open_calibration_samples(caches[name], n=samples))
        opened[name] = EvaluationTask(task.model, SampleSet(name, "calibration", own))
    return opened


def compare_alpha_to_baselines(
    scores: ScoresByMask, *, tasks: TasksByName, seed: int = 0
) -> pd.DataFrame:
    """Compare the α-SubNet with every baseline on the same samples of every task.

    Parameters
    ----------
    scores : mapping
        The result of :func:`score_pruning_masks`.
    tasks : mapping of str to EvaluationTask
        The tasks that were scored.
    seed : int
        Seed of the bootstrap and of the sign-flip test.

    Returns
    -------
    pandas.DataFrame
        One row for each baseline: ``mask``; ``score``, its mean over tasks; ``gap``, the α-SubNet's
        mean score minus the baseline's as an :class:`~ima.stats.intervals.Interval`; ``p`` of a
        sign-flip test; and ``p (Holm)``, adjusted over the rows.

    Examples
    --------
    >>> compare_alpha_to_baselines(scores, tasks=tasks).columns.tolist()  # doctest: +SKIP
    ['mask', 'score', 'gap', 'p', 'p (Holm)']
    """
    alpha = scores[ALPHA_SUBNET]
    table = pd.DataFrame(
        {
            "mask": mask,
            "score": average_over_tasks(baseline),
            "gap": compute_task_difference(alpha, baseline, tasks=tasks, seed=seed),
            "p": compute_sign_flip_p(alpha, baseline, tasks=tasks, seed=seed),
        }
        for mask, baseline in scores.items()
        if mask != ALPHA_SUBNET
    )
    table["p (Holm)"] = adjust_p_values_holm(table["p"].tolist())
    return table


def find_best_mask(scores: ScoresByMask, *, among: Sequence[str] | None = None) -> str:
    """Return the name of the baseline with the highest mean score over tasks.

    Parameters
    ----------
    scores : mapping
        By mask and task ``(sample,)``; the α-SubNet is no baseline.
    among : sequence of str or None
        The baselines that count; None: all.

    Raises
    ------
    ParameterError
        If no baseline was scored.

    Examples
    --------
    >>> scores = {"random": {"qa": np.array([0.0, 0.1])}, "|W| overall": {"qa": np.array([1.0])}}
    >>> find_best_mask(scores), find_best_mask(scores, among=["random"])
    ('|W| overall', 'random')
    """
    names = [name for name in scores if name != ALPHA_SUBNET and (among is None or name in among)]
    if not names:
        raise ParameterError(f"None of the masks is a baseline: {', '.join(scores)}.")
    return max(names, key=lambda name: average_over_tasks(scores[name]))


def compute_vote_agreement(masks: Sequence[Masks]) -> pd.DataFrame:
    """Count how many tasks remove each weight that at least one task removes.

    Parameters
    ----------
    masks : sequence of Masks
        One for each task, all of the same language model.

    Returns
    -------
    pandas.DataFrame
        Linear layers in rows, numbers of tasks in columns, from 1. A cell is the fraction of the
        removed weights that exactly this number of tasks removes; rows sum to 1.

    Examples
    --------
    >>> masks = [Masks({"fc1": np.array([[row]])}) for row in ([True, False], [False, False])]
    >>> compute_vote_agreement(masks)
    tasks    1    2
    fc1    0.5  0.5
    """
    fractions = {}
    for name in masks[0].names:
        votes = sum((~task.kept[name]).astype(np.int16) for task in masks)
        counts = np.bincount(np.ravel(votes), minlength=len(masks) + 1)[1:]
        fractions[name] = counts / max(counts.sum(), 1)
    return pd.DataFrame(fractions, index=pd.RangeIndex(1, len(masks) + 1, name="tasks")).T


def compute_chance_agreement(tasks: int, *, sparsity: float) -> pd.Series[float]:
    """Compute the :func:`compute_vote_agreement` of tasks that remove weights independently.

    Parameters
    ----------
    tasks : int
        Number of tasks.
    sparsity : float
        Fraction of the weights that each task removes.

    Examples
    --------
    >>> compute_chance_agreement(2, sparsity=0.5).round(3).to_dict()
    {1: 0.667, 2: 0.333}
    """
    counts = np.arange(1, tasks + 1)
    probabilities = stats.binom.pmf(counts, tasks, sparsity)
    index = pd.Index(counts, name="tasks")
    return pd.Series(probabilities / probabilities.sum(), index=index)


def compute_silent_input_ratio(model: FrozenModel, caches: Sequence[_Path]) -> pd.Series[float]:
    """Compute the fraction of each linear layer's inputs that are silent in some tasks but not all.

    An input is silent in a task if it is zero at every token of the calibration samples, as a
    neuron after a ReLU can be. Wanda removes every weight that reads a silent input.

    Parameters
    ----------
    model : FrozenModel
        Any of the models that made the caches.
    caches : sequence of path
        For each task, a cache of calibration samples with ``/input_norms``.

    Examples
    --------
    >>> model = load_model("opt-mini/vit/image-caption")  # doctest: +SKIP
    >>> compute_silent_input_ratio(model, ["caption.zarr", "qa.zarr"])["fc2"]  # doctest: +SKIP
    0.12
    """
    silent = [
        {name: norms == 0 for name, norms in read_cache_input_norms(model, path).items()}
        for path in caches
    ]
    ratios = {}
    for name in silent[0]:
        by_task = [task[name] for task in silent]
        some, every = np.logical_or.reduce(by_task), np.logical_and.reduce(by_task)
        ratios[name] = float((some & ~every).mean())
    return pd.Series(ratios, dtype=float)
