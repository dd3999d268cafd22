"""Whole neurons and whole heads: what leaves makes the model smaller, not only sparser (I4).

A neuron of the FFN is one input of its last layer, a head some inputs of attention's; each scores
the sum of Wanda's scores of the weights that read it. Heads that share their keys leave together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ima.models.linear_layers import (
    FeatureIndices,
    KeptStructure,
    find_layer_roles,
    get_attention,
    get_linear_weights,
)
from ima.pruning.masks import check_sparsity

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel


def select_kept_structure(
    model: FrozenModel, squares: Mapping[str, npt.NDArray[Any]], *, sparsity: float
) -> KeptStructure:
    """Choose the neurons and groups of heads that stay: as large a share in every layer.

    Parameters
    ----------
    model : FrozenModel
        Whose weights.
    squares : mapping of str to ndarray
        By linear layer ``(layer, in_features)``: sums of squares of its inputs.
    sparsity : float
        Share of the neurons, and of the groups, that leaves each layer, rounded down; one group
        always stays.

    Raises
    ------
    ParameterError
        If the share is not in (0, 1).
    ModelError
        If the model has no such layers.
    """
    check_sparsity(sparsity)
    names, weights = find_layer_roles(model), get_linear_weights(model)
    scores = {
        name: (np.abs(weights[name]) * np.sqrt(squares[name])[:, None, :]).sum(axis=1)
        for name in (names.down, names.out)
    }
    width = int(get_attention(model, 0).head_dim)
    groups = weights[names.keys[0]].shape[1] // width
    by_group = scores[names.out].reshape(model.layers, groups, -1).sum(axis=-1)
    return KeptStructure(
        neurons=[_largest(layer, sparsity) for layer in scores[names.down]],
        groups=[_largest(layer, sparsity) for layer in by_group],
    )


def _largest(scores: npt.NDArray[Any], sparsity: float) -> FeatureIndices:
    removed = min(int(len(scores) * sparsity), len(scores) - 1)
    return np.sort(np.argsort(scores, kind="stable")[removed:])
