"""Similarities of patches to the CLS token, in models of a hub: LLaVA's class has them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from ima.data.samples import Sample
from ima.errors import ParameterError
from ima.models.patch_summaries import find_patch_encoder, has_summaries, place_summaries
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.methods.image_text_interaction import ImageTextInteraction
from ima.token_reduction.scoring import find_knee

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def llava(hub_models):
    return hub_models("llava")


def show(count=3, *, size=56):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (size, size, 3), dtype=np.uint8) for _ in range(count)]
    return [
        Sample(
            f"s{at}", "image", "qa", "what is it ?" + " really ?" * at, ("a red circle",),
            media=partial(lambda picture: picture, picture),
        )
        for at, picture in enumerate(pictures)
    ]  # fmt: skip


def test_what_a_patch_shares_with_the_summary_is_read_where_the_projector_reads(llava):
    samples = show()
    for side in ("left", "right"):
        batch = llava.encode(samples, side=side)
        tower = llava.language.model.vision_tower
        for row, sample in enumerate(samples):
            pixels = llava.prepare_inputs(sample)["pixel_values"]
            with torch.no_grad():
                states = tower(pixels, output_hidden_states=True).hidden_states[-2]
            expected = torch.cosine_similarity(states[0, 1:], states[0, :1], dim=-1)
            own = batch.modality[row] > 0
            torch.testing.assert_close(batch.summary[row, own], expected, atol=1e-5, rtol=1e-5)
            assert not batch.summary[row, ~own].any()
    assert not tower._forward_hooks


def test_the_tokens_before_the_knee_stay(llava):
    batch = llava.encode(show())
    with apply_plan(llava, batch, ImageTextInteraction(after_layer=1).plan()) as trace:
        llava.forward(batch)
    for row in range(len(batch)):
        own = batch.modality[row] > 0
        similarity = batch.summary[row, own]
        kept = set(trace.present[0][row, own].nonzero()[:, 0].tolist())
        order = similarity.argsort(descending=True)
        assert kept == set(order[: find_knee(similarity.double().numpy())].tolist())


@pytest.mark.parametrize("name", ["llava_next", "qwen2_vl"])
def test_models_whose_tokens_are_no_single_patches_say_so(hub_models, name):
    model = hub_models(name)
    assert not has_summaries(model)
    assert find_patch_encoder(model.language) is None
    assert model.encode(show(1)).summary is None
    with pytest.raises(ParameterError, match=r"no perceptual token for each patch.*LLaVA's class"):
        ImageTextInteraction(after_layer=1).plan().check(model)


def test_without_as_many_patches_as_tokens_there_is_no_summary():
    perceptual = torch.tensor([[False, True, True], [False, False, False]])
    placed = place_summaries([torch.tensor([[0.5, 0.25]])], perceptual)
    assert placed.tolist() == [[0, 0.5, 0.25], [0, 0, 0]]
    assert place_summaries([torch.tensor([[0.5]])], perceptual) is None
