"""Methods: each system's own conditions, on models that can hold them."""

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.errors import ParameterError
from ima.models import load_model
from ima.token_reduction import paper_plans, plans
from ima.token_reduction.apply import apply_plan


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load_model("llama-mini/vit/image-caption")


def test_vtw_withdraws_at_the_first_layer_that_changes_little_enough(model):
    samples = image_set(4)
    found = paper_plans.search_vtw(model, samples, threshold=1e-9)
    assert list(found.divergence) == [1, 2, 3]
    assert found.divergence[3] == 0.0
    assert found.divergence[1] > 1e-6
    (step,) = found.plan.withdrawals
    assert step.behind == next(k for k, v in found.divergence.items() if v <= 1e-9)
    loose = paper_plans.search_vtw(model, samples, threshold=np.inf)
    assert loose.plan.withdrawals[0].behind == 1
    assert found.samples == 4


def test_divergence_is_the_kullback_leibler_divergence_of_the_next_word(model):
    samples = image_set(3)
    plan = paper_plans.make_vtw_plan(behind=1)
    found = paper_plans.compute_plan_divergence(model, samples, {0: plan}, batch_size=2)[0]
    by_hand = []
    for sample in samples:
        batch = model.encode([sample], side="left", target=False)
        with apply_plan(model, batch, plan):
            cut = model.forward(batch, logits=True)[0, -1].double().softmax(-1)
        plain = model.forward(batch, logits=True)[0, -1].double().softmax(-1)
        by_hand.append(float((cut * (cut / plain).log()).sum()))
    assert found == pytest.approx(np.mean(by_hand), rel=1e-4)
    with pytest.raises(ParameterError, match="At least one sample"):
        paper_plans.compute_plan_divergence(model, [], {0: plan})


def test_shortv_freezes_where_it_matters_least(model):
    found = paper_plans.search_shortv(model, image_set(4), count=2)
    (step,) = found.plan.skips
    order = sorted(found.divergence, key=found.divergence.get)
    assert plans.resolve_layers(step, 3) == sorted(order[:2])
    with pytest.raises(ParameterError, match="count must be between 1 and 3"):
        paper_plans.search_shortv(model, image_set(2), count=4)


def test_each_method_leaves_out_what_it_says(model):
    batch = model.encode(image_set(3))
    whole = int((batch.modality > 0).sum())

    def perceptual(plan):
        with apply_plan(model, batch, plan) as trace:
            model.forward(batch)
        return [int((rows & (batch.modality > 0)).sum()) for rows in trace.present], trace

    assert perceptual(paper_plans.make_vtw_plan(behind=2))[0] == [whole, whole, 0]
    halved = [whole, whole // 2, whole // 2]
    assert perceptual(paper_plans.make_fastv_plan(behind=1))[0] == halved
    for control in ("random", "attention-reversed"):
        assert perceptual(paper_plans.make_fastv_plan(behind=1, control=control))[0] == halved
    assert perceptual(paper_plans.make_v2drop_plan(behind=1))[0] == halved
    pyramid = perceptual(paper_plans.make_pyramiddrop_plan(model))[0]
    assert pyramid[0] == whole
    assert pyramid == sorted(pyramid, reverse=True)
    counts, trace = perceptual(paper_plans.make_skip_plan("ffn", share=0.5, start=2))
    assert counts == [whole] * 3
    assert [int(rows.sum()) for rows in trace.skipped["ffn"]] == [0, whole // 2, whole // 2]
    assert not any(rows.any() for rows in trace.skipped["attention"])
    _, trace = perceptual(paper_plans.make_skip_plan("block", start=1, every=2))
    assert [int(rows.sum()) for rows in trace.skipped["attention"]] == [whole, 0, whole]
    plain = model.forward(batch, logits=True)
    with apply_plan(model, batch, paper_plans.make_parallel_plan(start=3)):
        assert not torch.allclose(model.forward(batch, logits=True), plain, atol=1e-4)
