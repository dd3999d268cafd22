"""Means under a plan: those of the tokens that are there, in their layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tinysamples import image_set
from torch import nn

from ima.capture import capture_activations
from ima.models import load_model
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.cost import (
    compute_prefill_cost,
    count_after_encoder,
    count_operations,
    count_other_operations,
)
from ima.token_reduction.methods.fastv import FastV
from ima.token_reduction.methods.skip_sub_block import SkipSubBlock
from ima.token_reduction.methods.vtw import VTW
from ima.token_reduction.plan_states import capture_plan_means
from ima.token_reduction.report import UNREDUCED_PLAN


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load_model("llama-mini/vit/image-caption")


def average(states, mask):
    return (states * mask[..., None]).sum(-2) / mask.sum(-1, keepdim=True)


def test_a_plan_that_leaves_nothing_out_gives_the_means_of_the_model(model):
    samples = image_set(5)
    means = capture_plan_means(model, samples, UNREDUCED_PLAN, batch_size=2)
    assert means["id"].values.tolist() == [sample.content_key for sample in samples]
    for row, sample in enumerate(samples):
        batch = model.encode([sample])
        states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
        for kind, mask in (("perceptual", batch.modality > 0), ("textual", batch.modality == 0)):
            expected = torch.stack([average(own.float(), mask)[0] for own in states.values()])
            own = means[row].sel(kind=kind).to_numpy()
            np.testing.assert_allclose(own, expected, atol=1e-5, rtol=1e-5)


def test_pruned_tokens_count_in_the_layers_that_they_reach(model):
    samples = image_set(4)
    plain = capture_plan_means(model, samples, UNREDUCED_PLAN)
    pruned = capture_plan_means(model, samples, VTW(after_layer=1).plan())
    reached = pruned.sel(layer=[0, 1])
    np.testing.assert_allclose(reached, plain.sel(layer=[0, 1]), atol=1e-5, rtol=1e-5)
    later = pruned.sel(layer=slice(2, None))
    assert later.sel(kind="perceptual").isnull().all()
    assert not later.sel(kind="textual").isnull().any()
    assert not np.allclose(later.sel(kind="textual"), plain.sel(kind="textual", layer=[2, 3]))


def test_of_half_of_the_tokens_the_means_are_those_of_the_half_that_stays(model):
    samples = image_set(3)
    plan = FastV(after_layer=1, ratio=0.5).plan()
    means = capture_plan_means(model, samples, plan)
    for row, sample in enumerate(samples):
        batch, seen = model.encode([sample]), []
        with apply_plan(model, batch, plan) as trace:
            block = model.hook_points.blocks[1]
            handle = block.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
            model.forward(batch)
            handle.remove()
        (state,) = seen
        state = state[0] if isinstance(state, tuple) else state
        codes = batch.modality[0][trace.present[1][0]]
        expected = state[0][codes > 0].mean(0)
        own = means[row].sel(kind="perceptual", layer=2).to_numpy()
        np.testing.assert_allclose(own, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "plan", [FastV(after_layer=1, ratio=0.5).plan(), VTW(after_layer=1).plan()]
)
def test_an_answer_does_not_choose_which_tokens_leave(model, plan, side):
    samples, kept = image_set(5), []
    for target in (False, True):
        batch = model.encode(samples, side=side, target=target)
        with apply_plan(model, batch, plan) as trace:
            model.forward(batch)
        perceptual = batch.modality > 0
        rows = zip(trace.present[-1], perceptual, strict=True)
        kept.append([present[own].tolist() for present, own in rows])
        # Neither the answer nor the end of the prompt ever leaves.
        assert (trace.present[-1] | perceptual).equal(batch.attention_mask.bool() | perceptual)
    assert kept[0] == kept[1]


def test_skipped_tokens_keep_their_places(model):
    samples = image_set(3)
    plan = SkipSubBlock(sub_block="ffn", ratio=0.5, start=2).plan()
    plain, skipped = (capture_plan_means(model, samples, own) for own in (UNREDUCED_PLAN, plan))
    assert np.isfinite(skipped).all()
    np.testing.assert_allclose(skipped.sel(layer=1), plain.sel(layer=1), atol=1e-5, rtol=1e-5)
    assert not np.allclose(skipped.sel(layer=2), plain.sel(layer=2))


def test_counted_operations_are_those_of_the_prompt(model):
    batch = model.encode(image_set(1))
    with apply_plan(model, batch, UNREDUCED_PLAN) as trace:
        counted = count_operations(lambda: model.forward(batch))
    assert counted == compute_prefill_cost(model, trace).total_flops
    assert count_operations(lambda: [model.forward(batch) for _ in range(2)]) == 2 * counted


def test_other_operations_are_those_of_connector_and_unembedding(model):
    samples = image_set(2)
    tokens = model.perception.tokens(list(samples))[:, 0 if model.perception.cls else 1 :]
    connector = count_operations(lambda: model.perception.connector(tokens))
    vocabulary, hidden = model.language.get_output_embeddings().weight.shape
    # Of each prompt, the unembedding reads the last state alone.
    expected = connector / len(samples) + 2 * vocabulary * hidden
    assert count_other_operations(model, samples) == expected


def test_an_encoder_that_has_read_its_media_is_not_counted(model):
    samples, runs = list(image_set(2)), []

    def run(own):
        runs.append(own.generate(samples, max_new_tokens=1))

    after = count_after_encoder(model, run)
    encoder = count_operations(lambda: model.perception.tokens(samples))
    assert after + encoder == count_operations(lambda: run(model))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("gradients", [False, True])
def test_layers_of_a_connector_are_counted_though_torch_fuses_them(gradients):
    layer = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=12, batch_first=True, norm_first=True, dropout=0.0
    )
    tokens, width, hidden, length = torch.ones(3, 5, 8), 8, 12, 5
    with torch.set_grad_enabled(gradients):
        counted = count_operations(lambda: layer.eval()(tokens))
    linear = 3 * length * 2 * (4 * width * width + 2 * width * hidden)
    assert counted == linear + 3 * 2 * 2 * length * length * width
    assert torch.backends.mha.get_fastpath_enabled()
