"""GPT-2's layers store their weights transposed: norms, masks and checkpoints are the same."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tinyzoo import make_tokenizer
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from ima.cache.reader import open_cache
from ima.capture.writer import create_cache
from ima.data.samples import Sample, SampleSet
from ima.models import load_model
from ima.models.hook_point_search import find_hook_points
from ima.models.linear_layers import get_block_weights
from ima.models.sparse_checkpoint import load_sparse_checkpoint, write_sparse_checkpoint
from ima.pruning.masks import compute_masks_from_cache
from ima.pruning.sparsegpt import compute_sparsegpt_masks
from ima.pruning.wanda import apply_masks, compute_sequential_masks

LINEARS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpt2")
    tokenizer = make_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=64,
            bos_token_id=None, eos_token_id=1, initializer_range=0.2,
        )  # fmt: skip
        GPT2LMHeadModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder))


@pytest.fixture(scope="module")
def usual(model):
    """The same model with layers that store their weights as others do."""
    language = copy.deepcopy(model.language)
    for module in list(language.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv1D):
                linear = nn.Linear(*child.weight.shape)
                linear.weight = nn.Parameter(child.weight.T.contiguous(), requires_grad=False)
                linear.bias = child.bias
                setattr(module, name, linear)
    return replace(model, language=language, hook_points=find_hook_points(language))


def texts():
    words = ["the red circle", "a small blue square and a green one", "what is it", "two of them"]
    return [Sample(str(n), "text", "qa", text, ("yes",)) for n, text in enumerate(words)]


def test_weights_and_their_names_are_those_of_the_usual_layers(model, usual):
    assert tuple(model.hook_points.linear_in_features) == LINEARS
    assert model.hook_points.linear_in_features == usual.hook_points.linear_in_features
    for name, weight in get_block_weights(model, 1).items():
        assert np.array_equal(weight, get_block_weights(usual, 1)[name])


def test_input_norms_and_masks_of_a_cache_are_the_same(model, usual, tmp_path):
    stores = {
        key: create_cache(
            each,
            dataset=SampleSet("texts", "test", tuple(texts())),
            path=tmp_path / f"{key}.zarr",
            samples=4,
            input_norms=True,
            progress=False,
        )
        for key, each in {"own": model, "usual": usual}.items()
    }
    own, other = (open_cache(stores[key])["input_norms"] for key in ("own", "usual"))
    for name in LINEARS:
        np.testing.assert_allclose(
            own[f"{name}/sum_squares"].to_numpy(),
            other[f"{name}/sum_squares"].to_numpy(),
            rtol=1e-5,
            atol=1e-6,
        )
    masks = compute_masks_from_cache(model, stores["own"], sparsity=0.5)
    expected = compute_masks_from_cache(usual, stores["usual"], sparsity=0.5)
    for name in LINEARS:
        assert masks.kept[name].shape == expected.kept[name].shape
        assert (masks.kept[name] == expected.kept[name]).mean() > 0.999


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_masks_of_block_after_block_run_and_leave_the_model_as_it_was(model, usual, method):
    def compute(each):
        if method == "wanda":
            return compute_sequential_masks(each, texts(), sparsity=0.5)
        return compute_sparsegpt_masks(each, each.encode_batches(texts()), sparsity=0.5)

    masks, expected = compute(model), compute(usual)
    batch = model.encode(texts())
    plain = model.forward(batch, logits=True)
    with apply_masks(model, masks):
        pruned = model.forward(batch, logits=True)
        for name, kept in masks.kept.items():
            assert not get_block_weights(model, 1)[name][~kept[0]].any()
    with apply_masks(usual, expected):
        wanted = usual.forward(batch, logits=True)
    torch.testing.assert_close(pruned, wanted, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(pruned, plain, atol=1e-2)
    assert torch.equal(model.forward(batch, logits=True), plain)


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_a_sparse_checkpoint_gives_the_pruned_model_bit_for_bit(model, tmp_path, method):
    if method == "wanda":
        masks = compute_sequential_masks(model, texts(), sparsity=0.5)
    else:
        masks = compute_sparsegpt_masks(model, model.encode_batches(texts()), sparsity=0.5)
    size = write_sparse_checkpoint(model, masks, tmp_path / "sparse")
    assert size.sparsity == pytest.approx(0.5, abs=0.02)
    batch = model.encode(texts())
    with apply_masks(model, masks):
        expected = model.forward(batch, logits=True)
    loaded = load_sparse_checkpoint(tmp_path / "sparse")
    assert torch.equal(loaded.forward(batch, logits=True), expected)
