"""Places of perceptual tokens: what a token's patch shows changes that token most."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ima.data.samples import Sample, open_samples
from ima.errors import ModelError, ParameterError
from ima.models import load_model
from ima.models.token_places import locate_tokens

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def picture(height, width, *, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def show(pixels):
    return Sample("a", "image", "qa", "what is it ?", ("a",), media=lambda: pixels)


# In towers of SigLIP, random weights mix patches so much that a token is not itself.
@pytest.mark.parametrize(
    "name", ["llava", "llava_next", "qwen2_5_vl", "qwen3_vl", "idefics3", "internvl"]
)
@pytest.mark.parametrize(("height", "width"), [(56, 84), (90, 60)])
def test_noise_in_the_place_of_a_token_changes_this_token_most(hub_models, name, height, width):
    model, pixels = hub_models(name), picture(height, width)
    plain = model.encode([show(pixels)])
    places = locate_tokens(model, show(pixels))
    assert len(places) == int((plain.modality > 0).sum())
    area = (places[:, 2] - places[:, 0]) * (places[:, 3] - places[:, 1])
    # A tile of the whole picture changes wherever the noise is, and has a token for each cell.
    parts = np.flatnonzero(area < height * width * 0.75)
    parts = parts[parts >= (4 if name == "llava_next" else 0)]
    assert len(parts) > 1
    for token in parts:
        left, top, right, bottom = places[token].round().astype(int)
        noisy = pixels.copy()
        noisy[top:bottom, left:right] = picture(bottom - top, right - left, seed=1)
        changed = model.encode([show(noisy)])
        moved = (changed.embeds - plain.embeds)[0][plain.modality[0] > 0].norm(dim=-1)
        assert int(moved[parts].argmax()) == list(parts).index(token)


def test_a_crop_leaves_the_margins_to_no_token(hub_models):
    places = locate_tokens(hub_models("llava"), show(picture(56, 112)))
    np.testing.assert_allclose(places[:, 0].min(), 28, atol=1)
    np.testing.assert_allclose(places[:, 2].max(), 84, atol=1)


@pytest.mark.parametrize("name", ["llava_next", "llava_onevision"])
def test_tiles_of_a_picture_cover_it_twice_and_ends_of_rows_have_no_place(hub_models, name):
    height, width = 56, 84
    places = locate_tokens(hub_models(name), show(picture(height, width)))
    whole, tiles = places[:4], places[4:]
    for own in (whole, tiles[~np.isnan(tiles[:, 0])]):
        np.testing.assert_allclose(own[:, :2].min(axis=0), [0, 0], atol=2)
        np.testing.assert_allclose(own[:, 2:].max(axis=0), [width, height], atol=2)
    ends = np.flatnonzero(np.isnan(tiles[:, 0]))
    assert len(ends) == 2
    assert ends[-1] == len(tiles) - 1
    rows = tiles[: ends[0]]
    assert (np.diff(rows[:, 0]) > 0).all()


def test_tokens_of_the_miniature_model_are_a_grid():
    sample = open_samples("mini-image-caption", n=1)[0]
    places = locate_tokens(load_model("llava-mini-3"), sample)
    corners = np.stack(np.meshgrid(np.arange(0, 64, 8), np.arange(0, 64, 8)), axis=-1)
    np.testing.assert_allclose(places[:, :2], corners.reshape(-1, 2), atol=0.2)
    np.testing.assert_allclose(places[:, 2:], corners.reshape(-1, 2) + 8, atol=0.2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("blip2", r"queries that read the whole picture \(qformer_config\)"),
        ("idefics2", r"queries that read the whole picture \(perceiver_config\)"),
        ("mllama", "attends to pictures by cross-attention"),
        ("emu3", "is not known: 1 × 48 × 72 pixels become 60 tokens, which is no grid"),
        ("qwen2_audio", None),
    ],
)
def test_models_whose_tokens_have_no_known_place_say_so(hub_models, name, reason):
    if reason is None:
        heard = Sample("b", "audio", "qa", "what ?", ("a",), media=lambda: np.zeros(16000))
        with pytest.raises(ParameterError, match="sample 'b' has modality 'audio'"):
            locate_tokens(hub_models(name), heard)
        return
    with pytest.raises(ModelError, match=reason):
        locate_tokens(hub_models(name), show(picture(56, 84)))


def test_ten_queries_have_no_place_and_the_error_names_models_that_have(tiny_zoo):
    model = load_model("llama-mini/vit/image-caption")
    queries = model.perception.queries
    expected = re.escape(f"The {queries} perceptual tokens of 'llama-mini/vit/image-caption' are")
    with pytest.raises(ModelError, match=rf"{expected}.*words of the prompt.*llava-mini-3"):
        locate_tokens(model, open_samples("mini-image-caption", n=1)[0])
    with pytest.raises(ModelError, match="'llama-mini' reads no pictures"):
        locate_tokens(load_model("llama-mini"), show(picture(64, 64)))
