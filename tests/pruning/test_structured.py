"""The choice of neurons and heads that a smaller model keeps."""

from __future__ import annotations

import numpy as np
import pytest

from ima.errors import ParameterError
from ima.models.linear_layers import find_layer_roles, get_attention, get_linear_weights
from ima.pruning.structured import select_kept_structure


def draw_norms(model):
    rng = np.random.default_rng(0)
    return {name: rng.gamma(1, size=w.shape[::2]) for name, w in get_linear_weights(model).items()}


def test_what_reads_the_largest_inputs_is_kept(model):
    norms = draw_norms(model)
    structure = select_kept_structure(model, norms, sparsity=0.5)
    roles, weights = find_layer_roles(model), get_linear_weights(model)
    width = get_attention(model, 0).head_dim
    groups = weights[roles.keys[0]].shape[1] // width
    for index in range(model.layers):
        neurons, features = (
            (np.abs(weights[name][index]) * norms[name][index] ** 0.5).sum(axis=0)
            for name in (roles.down, roles.out)
        )
        kept = np.sort(np.argsort(neurons)[len(neurons) // 2 :])
        assert structure.neurons[index].tolist() == kept.tolist()
        heads = features.reshape(groups, -1).sum(axis=1)
        kept = np.sort(np.argsort(heads)[groups // 2 :])
        assert structure.groups[index].tolist() == kept.tolist()


def test_one_group_of_heads_is_always_kept(model):
    structure = select_kept_structure(model, draw_norms(model), sparsity=0.99)
    assert {len(groups) for groups in structure.groups} == {1}


def test_a_sparsity_of_nothing_is_refused(model):
    with pytest.raises(ParameterError, match="sparsity must be above 0 and below 1"):
        select_kept_structure(model, draw_norms(model), sparsity=0.0)
