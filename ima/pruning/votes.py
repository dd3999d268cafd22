"""How many tasks' masks drop a weight (I4): the α-SubNet drops what a single one of them does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ima.errors import ParameterError
from ima.measures import subnetworks
from ima.models.linear_layers import get_linear_weights
from ima.pruning.masks import Masks, check_sparsity, read_cache_input_norms

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

_Path = str | os.PathLike[str]
_Ranks = npt.NDArray[np.int32]


def build_voted_masks(
    model: FrozenModel, caches: Sequence[_Path], *, sparsity: float, votes: int = 1
) -> Masks:
    """Return the mask of the sparsity that is asked for, or the next lower one, by votes of tasks.

    Parameters
    ----------
    model : FrozenModel
        Any of the models that made the caches: their language model.
    caches : sequence of path
        Of each task, a cache of calibration samples with ``inputs``.
    sparsity : float
        Share of all weights that leave. The share that each task's mask drops follows from it.
    votes : int
        A weight leaves if the masks of so many tasks drop it: 1 makes the α-SubNet, the number of
        tasks keeps what any of them keeps.

    Returns
    -------
    Masks
        Its attribute ``sparsity`` is the share that each task's mask drops.

    Raises
    ------
    ParameterError
        If the share is not in (0, 1), there are no so many caches, or they are of another model.
    """
    check_sparsity(sparsity)
    if not 1 <= votes <= len(caches):
        message = f"votes must be from 1 to the number of caches, {len(caches)}; got {votes}."
        raise ParameterError(message)
    ranks = _lowest_ranks(model, caches, at=votes)
    widest = max(one.shape[-1] for one in ranks.values())
    low, high = 0, widest
    # The achieved sparsity never falls as the share of each task rises.
    while high - low > 1:
        middle = (low + high) // 2
        reached = 1 - subnetworks.flatten_masks(_ranked(ranks, middle / widest)).mean()
        low, high = (middle, high) if reached <= sparsity else (low, middle)
    share = low / widest
    about = {"method": "votes", "votes": votes, "tasks": len(caches), "sparsity": share}
    return Masks(_ranked(ranks, share), about | {"weights_hash": model.weights_hash})


def _lowest_ranks(model: FrozenModel, caches: Sequence[_Path], *, at: int) -> dict[str, _Ranks]:
    """Return, of the ranks that a weight has in its row for each task, the lowest but so many."""
    found: dict[str, list[_Ranks]] = {}
    weights = get_linear_weights(model)
    for path in caches:
        for name, squares in read_cache_input_norms(model, path).items():
            order = np.argsort(
                np.abs(weights[name]) * np.sqrt(squares)[..., None, :], axis=-1, kind="stable"
            )
            ranks = np.empty(order.shape, dtype=np.int32)
            np.put_along_axis(ranks, order, np.arange(order.shape[-1], dtype=np.int32), axis=-1)
            kept = found.setdefault(name, [])
            for place, lower in enumerate(kept):
                kept[place], ranks = np.minimum(lower, ranks), np.maximum(lower, ranks)
            if len(kept) < at:
                kept.append(ranks)
    return {name: kept[at - 1] for name, kept in found.items()}


def _ranked(ranks: Mapping[str, _Ranks], share: float) -> dict[str, subnetworks.Mask]:
    return {name: own >= int(own.shape[-1] * share) for name, own in ranks.items()}


def compute_vote_agreement(masks: Sequence[Masks]) -> pd.DataFrame:
    """Return how many tasks drop the weights that any of them drops.

    Parameters
    ----------
    masks : sequence of Masks
        Of one language model, one of each task.

    Returns
    -------
    pandas.DataFrame
        Linear layers in rows, numbers of tasks in columns, from 1: the share of the weights that so
        many masks drop, of those that one or more drop. Rows sum to 1.
    """
    found = {}
    for name in masks[0].names:
        dropped = sum((~one.kept[name]).astype(np.int16) for one in masks)
        counts = np.bincount(np.ravel(dropped), minlength=len(masks) + 1)[1:]
        found[name] = counts / max(counts.sum(), 1)
    return pd.DataFrame(found, index=pd.RangeIndex(1, len(masks) + 1, name="tasks")).T


def compute_chance_agreement(tasks: int, *, sparsity: float) -> pd.Series[float]:
    """Return what :func:`compute_vote_agreement` would be if each task dropped weights whatever the others do.

    Parameters
    ----------
    tasks : int
        How many.
    sparsity : float
        Share that each of them drops.
    """
    numbers = np.arange(1, tasks + 1)
    shares = stats.binom.pmf(numbers, tasks, sparsity)
    index = pd.Index(numbers, name="tasks")
    return pd.Series(shares / shares.sum(), index=index)


def compute_silent_input_ratio(model: FrozenModel, caches: Sequence[_Path]) -> pd.Series[float]:
    """Return which share of each linear layer's inputs is silent in some tasks, not in all.

    An input is silent in a task if it is zero at every token of its calibration samples, as a
    neuron behind a ReLU can be. Wanda drops every weight that reads it.

    Parameters
    ----------
    model : FrozenModel
        Any of the models that made the caches.
    caches : sequence of path
        Of each task, a cache of calibration samples with ``inputs``.
    """
    some: dict[str, npt.NDArray[Any]] = {}
    every: dict[str, npt.NDArray[Any]] = {}
    for path in caches:
        for name, squares in read_cache_input_norms(model, path).items():
            silent = squares == 0
            some[name] = some[name] | silent if name in some else silent
            every[name] = every[name] & silent if name in every else silent
    shares = {name: float((some[name] & ~every[name]).mean()) for name in some}
    return pd.Series(shares, dtype=float)
