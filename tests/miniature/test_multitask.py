"""Multitask variants: what is left out in training is what the plan leaves out afterwards."""

from __future__ import annotations

import pytest
import torch
from tinysamples import image_set

from ima.miniature.multitask import (
    ALTERNATE_BLOCKS_PLAN,
    MULTITASK_VARIANTS,
    make_embedded_batch,
    make_plan_context,
)
from ima.models import load_model
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.plans import ReductionPlan


def trained_logits(model, batch, plan):
    """Return logits as training reads them: percepts, words, nothing said of padding."""
    percepts = int((batch.modality[0] > 0).sum())
    prefix = batch.embeds[:, :percepts]
    ids = batch.token_id[:, percepts:].clamp(min=0)
    with make_plan_context(plan, model)(prefix, ids):
        words = model.language.get_input_embeddings()(ids)
        return model.language(inputs_embeds=torch.cat([prefix, words], dim=1)).logits


@pytest.mark.usefixtures("tiny_zoo")
@torch.no_grad()
def test_training_under_a_plan_runs_as_the_plan_runs():
    model = load_model("llama-mini/vit/image-caption")
    batch = model.encode(image_set(3))
    real = batch.attention_mask.bool()
    plain = trained_logits(model, batch, ReductionPlan(name="plain"))
    told = trained_logits(model, batch, ALTERNATE_BLOCKS_PLAN)
    with apply_plan(model, batch, ALTERNATE_BLOCKS_PLAN):
        expected = model.forward(batch, logits=True)
    torch.testing.assert_close(told[real], expected[real], atol=1e-5, rtol=0)
    assert (told - plain)[real].abs().max() > 1e-3


@pytest.mark.usefixtures("tiny_zoo")
def test_a_gradient_reaches_percepts_that_bypass_blocks():
    model = load_model("llama-mini/vit/image-caption")
    prefix = torch.randn(2, 4, model.hidden, generator=torch.Generator().manual_seed(0))
    prefix.requires_grad_()
    ids = torch.arange(6).reshape(2, 3)
    with make_plan_context(ALTERNATE_BLOCKS_PLAN, model)(prefix, ids):
        words = model.language.get_input_embeddings()(ids)
        logits = model.language(inputs_embeds=torch.cat([prefix, words], dim=1)).logits
    logits[:, -1].square().sum().backward()
    assert prefix.grad.abs().amax(dim=-1).min() > 0


def test_half_of_the_blocks_are_bypassed_by_percepts_alone():
    (step,) = ALTERNATE_BLOCKS_PLAN.steps
    assert (step.skip, step.tokens, step.ratio) == ("block", "perceptual", 1.0)
    assert step.layers.resolve(12) == [2, 4, 6, 8, 10, 12]
    assert [variant.part for variant in MULTITASK_VARIANTS if variant.plan is not None] == [
        "skipping/llava-mini-3-skipping"
    ]


def test_rows_tell_percepts_from_words():
    batch = make_embedded_batch(torch.zeros(2, 3, 5), torch.tensor([[7, 8], [9, 0]]))
    assert batch.modality.tolist() == [[1, 1, 1, 0, 0]] * 2
    assert batch.token_id.tolist() == [[-1, -1, -1, 7, 8], [-1, -1, -1, 9, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4]] * 2
