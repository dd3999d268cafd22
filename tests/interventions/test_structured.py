"""Structured pruning: the smaller model computes what the whole one does with zeros in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tinyhub import save
from tinysamples import image_set

from ima.errors import ParameterError
from ima.models import load_model
from ima.models.linear_layers import get_linear_weights
from ima.pruning import structured
from ima.pruning.masks import Masks
from ima.pruning.wanda import apply_masks

ZOO = {"llama": "llama-mini/vit/image-caption", "opt": "opt-mini/vit/image-caption"}


@pytest.fixture(params=["llama", "opt", "llava"])
def model(request, tiny_zoo, tmp_path):
    if request.param in ZOO:
        return load_model(ZOO[request.param])
    return load_model(str(save("llava", tmp_path / "llava")))


def random_squares(model):
    rng = np.random.default_rng(0)
    return {name: rng.gamma(1, size=w.shape[::2]) for name, w in get_linear_weights(model).items()}


def zeros_instead(model, structure):
    """Return masks that leave out what the structure does: the columns that read it."""
    kept = {name: np.ones(w.shape, dtype=bool) for name, w in get_linear_weights(model).items()}
    names = structured._names(model)
    width = structured._attention(model, 0).head_dim
    for at in range(model.layers):
        gone = np.setdiff1d(np.arange(kept[names.down].shape[2]), structure.neurons[at])
        kept[names.down][at][:, gone] = False
        features = kept[names.out].shape[2]
        groups = kept[names.keys[0]].shape[1] // width
        group_of = np.arange(features) * groups // features
        kept[names.out][at][:, ~np.isin(group_of, structure.groups[at])] = False
    return Masks(kept)


def test_a_shrunken_model_is_the_whole_one_with_zeros(model):
    structure = structured.select_kept_structure(model, random_squares(model), sparsity=0.5)
    small = structured.shrink(model, structure)
    if model.modality == "image" and model.perception is not None:
        batch = model.encode(image_set(3))
        with apply_masks(model, zeros_instead(model, structure)):
            expected = model.forward(batch, logits=True)
        torch.testing.assert_close(
            small.forward(batch, logits=True), expected, atol=1e-4, rtol=1e-4
        )
        assert small.generate(image_set(2), max_new_tokens=4)
    count, whole = (
        sum(p.numel() for block in one.anatomy.blocks for p in block.parameters())
        for one in (small, model)
    )
    assert count < 0.75 * whole
    again = structured.Structure.of_record(structure.record())
    for a, b in zip(again.neurons, structure.neurons, strict=True):
        assert (a == b).all()


def test_what_reads_the_loudest_inputs_stays(tiny_zoo):
    model = load_model(ZOO["llama"])
    squares = random_squares(model)
    structure = structured.select_kept_structure(model, squares, sparsity=0.5)
    weights = get_linear_weights(model)["mlp.down_proj"]
    for at in range(model.layers):
        scores = [
            sum(abs(weights[at][row, j]) * squares["mlp.down_proj"][at][j] ** 0.5
                for row in range(weights.shape[1]))
            for j in range(weights.shape[2])
        ]  # fmt: skip
        left = set(np.argsort(scores)[len(scores) // 2 :])
        assert set(structure.neurons[at]) == left


def test_what_does_not_fit_is_refused(tiny_zoo):
    model = load_model(ZOO["llama"])
    squares = random_squares(model)
    with pytest.raises(ParameterError, match="sparsity must be above 0 and below 1"):
        structured.select_kept_structure(model, squares, sparsity=0.0)
    structure = structured.select_kept_structure(model, squares, sparsity=0.5)
    short = structured.Structure(structure.neurons[:1], structure.groups[:1])
    with pytest.raises(ParameterError, match="The structure is of 1 layers, not 3"):
        structured.shrink(model, short)
    wide = structured.Structure([n + 100 for n in structure.neurons], structure.groups)
    with pytest.raises(ParameterError, match="does not fit mlp"):
        structured.shrink(model, wide)
