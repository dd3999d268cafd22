"""Structured pruning (I4): choose the neurons and heads of a smaller, not only sparser, model.

A neuron is one input of the FFN's last layer; a head is several inputs of attention's output
projection. Each scores the sum of Wanda's scores of the weights that read it. Heads that share keys
and values are kept or dropped together.
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
    model: FrozenModel, input_norms: Mapping[str, npt.NDArray[Any]], *, sparsity: float
) -> KeptStructure:
    """Select the neurons and groups of heads to keep, the same fraction in every layer.

    Parameters
    ----------
    model : FrozenModel
        The model to shrink.
    input_norms : mapping of str to ndarray
        By linear layer ``(layer, in_features)``: sums of squares of its inputs.
    sparsity : float
        Fraction of the neurons, and of the groups, that each layer drops, rounded down. At least
        one group is kept.

    Raises
    ------
    ParameterError
        If the sparsity is outside (0, 1).
    ModelError
        If the roles of the model's linear layers are unknown.

    Examples
    --------
    >>> norms = sum_input_norms(model, ["caption.zarr", "qa.zarr"])  # doctest: +SKIP
    >>> structure = select_kept_structure(model, norms, sparsity=0.5)  # doctest: +SKIP
    >>> small = shrink_model(model, structure)  # doctest: +SKIP
    """
    check_sparsity(sparsity)
    roles, weights = find_layer_roles(model), get_linear_weights(model)
    scores = {
        name: (np.abs(weights[name]) * np.sqrt(input_norms[name])[:, None, :]).sum(axis=1)
        for name in (roles.down, roles.out)
    }
    width = int(get_attention(model, 0).head_dim)
    groups = weights[roles.keys[0]].shape[1] // width
    group_scores = scores[roles.out].reshape(model.layers, groups, -1).sum(axis=-1)
    return KeptStructure(
        neurons=[_select_largest(layer, sparsity) for layer in scores[roles.down]],
        groups=[_select_largest(layer, sparsity) for layer in group_scores],
    )


def _select_largest(scores: npt.NDArray[Any], sparsity: float) -> FeatureIndices:
    dropped = min(int(len(scores) * sparsity), len(scores) - 1)
    return np.sort(np.argsort(scores, kind="stable")[dropped:])
