"""A contest of masks at equal sparsity (I4): tasks solved with each, and paired differences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ima.measures.similarity import Floats
from ima.pruning import alpha_subnet, sparsegpt
from ima.pruning.masks import Masks, masks_from_cache
from ima.pruning.transfer import ByMask, Scores, Task, difference, sign_flip_p
from ima.stats.correlation import holm

#: Each task with Wanda's mask of its own; and one model for all, its kept weights updated.
OWN, SPARSEGPT = "Wanda on each task", "SparseGPT on all tasks"
#: What a claim about the α-SubNet must beat: masks that see no input.
BLIND = (alpha_subnet.SIZE, alpha_subnet.SIZE_OVERALL, alpha_subnet.RANDOM)

Paths = Mapping[str, str | os.PathLike[str]]


def contest(
    tasks: Mapping[str, Task],
    caches: Paths,
    *,
    alpha: Masks,
    rivals: Sequence[str] = (OWN, *alpha_subnet.RIVALS, SPARSEGPT),
    calibration: int = 64,
    seed: int = 0,
) -> dict[str, dict[str, Floats]]:
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
        Of :data:`OWN`, :data:`ima.pruning.alpha_subnet.RIVALS` and :data:`SPARSEGPT`.
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
    found = {alpha_subnet.ALPHA: {name: task.scores(alpha) for name, task in tasks.items()}}
    for which in rivals:
        if which == SPARSEGPT:
            masks = updated(tasks, caches, sparsity=sparsity, calibration=calibration)
        elif which != OWN:
            masks = alpha_subnet.rival(model, paths, which=which, sparsity=sparsity, seed=seed)
        found[which] = {
            name: _own(task, caches[name], sparsity) if which == OWN else task.scores(masks)
            for name, task in tasks.items()
        }
    return found


def updated(
    tasks: Mapping[str, Task], caches: Paths, *, sparsity: float, calibration: int
) -> Masks:
    """Prune the language model by SparseGPT on what all tasks' models feed it."""
    batches = [
        batch
        for name, task in tasks.items()
        for batch in task.calibration(caches[name], n=calibration)
    ]
    model = next(iter(tasks.values())).model
    return sparsegpt.prune(model, batches, sparsity=sparsity)


def _own(task: Task, path: str | os.PathLike[str], sparsity: float) -> Floats:
    return task.scores(masks_from_cache(task.model, path, sparsity=sparsity))


def paired(scores: ByMask, *, tasks: Mapping[str, Task], seed: int = 0) -> pd.DataFrame:
    """Compare the α-SubNet with every other mask, the same samples of every task.

    Parameters
    ----------
    scores : mapping
        From :func:`contest`.
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
    alpha = scores[alpha_subnet.ALPHA]
    rows = [
        {
            "mask": mask,
            "score": mean(own),
            "gap": difference(alpha, own, tasks=tasks, seed=seed),
            "p": sign_flip_p(alpha, own, tasks=tasks, seed=seed),
        }
        for mask, own in scores.items()
        if mask != alpha_subnet.ALPHA
    ]
    table = pd.DataFrame(rows)
    table["p (Holm)"] = holm(table["p"].tolist())
    return table


def mean(scores: Scores) -> float:
    """Return the mean score over tasks, each counted as much."""
    return float(np.mean([values.mean() for values in scores.values()]))


def best_blind(scores: ByMask) -> str:
    """Return which of the masks that see no input scores most."""
    return max((name for name in BLIND if name in scores), key=lambda name: mean(scores[name]))
