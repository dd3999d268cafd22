"""Smaller copies of a model compute what the full model computes with zeros in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.errors import ParameterError
from ima.models import load_model
from ima.models.linear_layers import (
    KeptStructure,
    find_layer_roles,
    get_attention,
    get_linear,
    get_linear_weights,
    shrink_model,
)

ZOO = {"llama": "llama-mini/vit/image-caption", "opt": "opt-mini/vit/image-caption"}


@pytest.fixture(params=["llama", "opt", "llava"])
def model(request, tiny_zoo, hub_folders):
    if request.param in ZOO:
        return load_model(ZOO[request.param])
    return load_model(str(hub_folders("llava")))


def draw_structure(model):
    """Return a random half of the neurons and of the groups of heads."""
    rng = np.random.default_rng(0)
    roles, weights = find_layer_roles(model), get_linear_weights(model)
    width = get_attention(model, 0).head_dim
    sizes = weights[roles.down].shape[2], weights[roles.keys[0]].shape[1] // width
    neurons, groups = (
        [np.sort(rng.permutation(size)[size // 2 :]) for _ in range(model.layers)] for size in sizes
    )
    return KeptStructure(neurons, groups)


def zero_dropped_features(model, structure):
    """Set the columns that read dropped neurons and heads to zero."""
    roles = find_layer_roles(model)
    width = get_attention(model, 0).head_dim
    for index, block in enumerate(model.hook_points.blocks):
        down, out = (get_linear(block, name) for name in (roles.down, roles.out))
        groups = get_linear(block, roles.keys[0]).out_features // width
        group_of = np.arange(out.in_features) * groups // out.in_features
        dropped = np.setdiff1d(np.arange(down.in_features), structure.neurons[index])
        with torch.no_grad():
            down.weight[:, dropped] = 0.0
            out.weight[:, ~np.isin(group_of, structure.groups[index])] = 0.0


def count_block_parameters(model):
    return sum(p.numel() for block in model.hook_points.blocks for p in block.parameters())


def test_a_smaller_model_is_the_full_one_with_zeros(model):
    structure = draw_structure(model)
    small = shrink_model(model, structure)
    assert count_block_parameters(small) < 0.75 * count_block_parameters(model)
    zero_dropped_features(model, structure)
    batch = model.encode(image_set(3))
    torch.testing.assert_close(
        small.forward(batch, logits=True), model.forward(batch, logits=True), atol=1e-4, rtol=1e-4
    )
    assert small.generate(image_set(2), max_new_tokens=4)


def test_a_structure_survives_its_record(model):
    structure = draw_structure(model)
    again = KeptStructure.from_record(structure.to_record())
    for name in ("neurons", "groups"):
        pairs = zip(getattr(again, name), getattr(structure, name), strict=True)
        assert all((a == b).all() for a, b in pairs)


@pytest.mark.usefixtures("tiny_zoo")
def test_a_structure_of_another_model_is_refused():
    model = load_model(ZOO["llama"])
    structure = draw_structure(model)
    short = KeptStructure(structure.neurons[:1], structure.groups[:1])
    with pytest.raises(ParameterError, match="The structure has 1 layers, the model 3"):
        shrink_model(model, short)
    wide = KeptStructure([n + 100 for n in structure.neurons], structure.groups)
    with pytest.raises(ParameterError, match="does not fit mlp"):
        shrink_model(model, wide)
