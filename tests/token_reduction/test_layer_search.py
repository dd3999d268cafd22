"""Searches for layers: VTW's and ShortV's own conditions, and the divergence that they read."""

import numpy as np
import pytest
from tinysamples import image_set

from ima.errors import ParameterError
from ima.models import load_model
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.layer_search import compute_plan_divergence
from ima.token_reduction.methods.shortv import search_shortv
from ima.token_reduction.methods.vtw import VTW, search_vtw
from ima.token_reduction.plans import resolve_layers


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load_model("llama-mini/vit/image-caption")


def test_vtw_prunes_after_the_first_layer_that_changes_little_enough(model):
    samples = image_set(4)
    search = search_vtw(model, samples, threshold=1e-9)
    assert list(search.divergence) == [1, 2, 3]
    assert search.divergence[3] == 0.0
    assert search.divergence[1] > 1e-6
    (step,) = search.plan.prune_steps
    assert step.after_layer == next(k for k, v in search.divergence.items() if v <= 1e-9)
    loose = search_vtw(model, samples, threshold=np.inf)
    assert loose.plan.prune_steps[0].after_layer == 1
    assert search.samples == 4


def test_divergence_is_the_kullback_leibler_divergence_of_the_next_token(model):
    samples = image_set(3)
    plan = VTW(after_layer=1).plan()
    divergence = compute_plan_divergence(model, samples, {0: plan}, batch_size=2)[0]
    by_hand = []
    for sample in samples:
        batch = model.encode([sample], side="left", target=False)
        with apply_plan(model, batch, plan):
            reduced = model.forward(batch, logits=True)[0, -1].double().softmax(-1)
        unreduced = model.forward(batch, logits=True)[0, -1].double().softmax(-1)
        by_hand.append(float((reduced * (reduced / unreduced).log()).sum()))
    assert divergence == pytest.approx(np.mean(by_hand), rel=1e-4)
    with pytest.raises(ParameterError, match="At least one sample"):
        compute_plan_divergence(model, [], {0: plan})


def test_shortv_skips_the_blocks_that_matter_least(model):
    search = search_shortv(model, image_set(4), count=2)
    (step,) = search.plan.skip_steps
    order = sorted(search.divergence, key=search.divergence.get)
    assert resolve_layers(step, 3) == sorted(order[:2])
    with pytest.raises(ParameterError, match="count must be between 1 and 3"):
        search_shortv(model, image_set(2), count=4)
