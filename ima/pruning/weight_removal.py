"""Removal of a few weights (F2.2): of those that all masks keep, of large ones, or of any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ima.errors import ParameterError
from ima.measures import subnetworks
from ima.models.linear_layers import get_linear_weights
from ima.pruning.masks import Masks, intersect_layer_masks
from ima.pruning.random_choices import score_random_choices
from ima.stats import FloatArray

if TYPE_CHECKING:
    from ima.pruning.transfer import TasksByName


def score_without_weights(
    tasks: TasksByName,
    masks: Sequence[Masks],
    *,
    removed: float,
    sparsity: float,
    repeats: int = 20,
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
        Number of random choices of weights. Each sample is answered under a few of them, the same
        of every part (:func:`ima.pruning.random_choices.deal_choices`).
    seed : int
        Seed of the choices.

    Returns
    -------
    dict of str to dict of str to ndarray
        By part (``shared part``, ``large weights``, ``anywhere``) and task ``(sample, choice)``;
        NaN where a sample was not answered under a choice.

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
        label: score_random_choices(
            tasks,
            partial(_remove_random, part=part, removed=removed, seed=seed),
            choices=repeats,
            seed=seed,
        )
        for label, part in parts.items()
    }


def _remove_random(
    number: int, *, part: Mapping[str, subnetworks.Mask], removed: float, seed: int
) -> Masks:
    """Return masks that remove a fraction of all weights, drawn from a part of them."""
    flat = subnetworks.flatten_masks(part)
    count, available = round(removed * flat.size), int(flat.sum())
    if count > available:
        raise ParameterError(f"Cannot remove {count} weights: the part has {available}.")
    rng = np.random.default_rng((seed, number, 7))
    kept = np.ones(flat.size, dtype=bool)
    kept[rng.choice(np.flatnonzero(flat), size=count, replace=False)] = False
    return Masks(subnetworks.split_mask(kept, like=part))
