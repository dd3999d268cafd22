"""Rows in the order of a score: which of them leave, and where the curve of scores has its knee."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ima.measures.similarity import FloatArray
from ima.token_reduction.plans import PruneStep


def find_knee(scores: FloatArray) -> int:
    """Return how many of the highest scores stand before the knee of their curve.

    Image-text interaction pruning (arXiv:2409.01162) keeps the head of the curve and does not say
    where it ends. Here the knee is the point farthest below the chord from the highest
    score to the lowest.

    Parameters
    ----------
    scores : ndarray
        ``(row,)``, in any order.

    Returns
    -------
    int
        At least one; all of them where no point lies below the chord.

    Examples
    --------
    >>> knee(np.array([0.1, 9.0, 0.2, 8.0, 0.3]))
    2
    >>> knee(np.array([3.0, 2.0, 1.0]))
    3
    """
    if len(scores) < 3:
        return len(scores)
    curve = np.sort(np.asarray(scores, dtype=float))[::-1]
    below = np.linspace(curve[0], curve[-1], len(curve)) - curve
    scale = max(abs(curve[0] - curve[-1]), np.finfo(float).tiny)
    return int(below.argmax()) if below.max() > 1e-9 * scale else len(curve)


def count_tokens_to_prune(step: PruneStep, scores: FloatArray) -> int:
    """Return how many rows of one sample leave, given the scores of its candidates.

    Parameters
    ----------
    step : Withdraw
        With a share, with the knee, or with a threshold.
    scores : ndarray
        ``(row,)``; rows with high scores stay.
    """
    if not len(scores):
        return 0
    if step.below is not None:
        return int((scores < step.below * scores.max()).sum())
    if step.share == "knee":
        return len(scores) - find_knee(scores)
    return round(step.share * len(scores))


def rank_tokens_to_prune(
    step: PruneStep, scores: Tensor, candidates: Tensor, ids: Sequence[str]
) -> Tensor:
    """Return the rows that a ranked withdrawal lets leave.

    Parameters
    ----------
    step : Withdraw
        Whose choice is ranked; reversed, the highest scores leave, and random, any, as many as
        would leave by rank.
    scores : Tensor
        ``(sample, position)``.
    candidates : Tensor
        ``(sample, position)`` bool: rows that may leave.
    ids : sequence of str
        The samples' ids, on which a random choice depends.

    Returns
    -------
    Tensor
        ``(sample, position)`` bool.
    """
    _, _, control = step.choose.partition("-")
    held = scores.detach().double().cpu().numpy()
    allowed = candidates.cpu().numpy()
    found = np.zeros_like(allowed)
    for row, sample in enumerate(ids):
        places = np.flatnonzero(allowed[row])
        own = held[row, places]
        count = count_tokens_to_prune(step, own)
        if control == "random":
            rng = np.random.default_rng([step.seed, zlib.crc32(sample.encode())])
            order = rng.permutation(len(places))
        else:
            order = np.argsort(-own if control == "reversed" else own, kind="stable")
        found[row, places[order[:count]]] = True
    return torch.from_numpy(found).to(candidates.device)
