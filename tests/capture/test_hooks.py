from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tinycaches import count_hooks
from tinysamples import image_set

from ima.capture.hooks import capture_activations, capture_word_states
from ima.data.samples import Sample
from ima.errors import ParameterError, UnknownNameError
from ima.hook_points import HOOK_POINTS
from ima.models import load_model
from ima.models.frozen import FrozenModel
from ima.models.hook_points import attach_hooks


def test_capture_returns_every_hook_point_of_every_layer(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    states = capture_activations(model, batch)
    assert tuple(states) == HOOK_POINTS
    for hook_point, layers in states.items():
        assert list(layers) == list(range(0 if hook_point == "resid_post" else 1, model.layers + 1))
        width = 48 if hook_point == "mlp_post" else model.hidden
        for state in layers.values():
            assert state.shape == (*batch.embeds.shape[:2], width)
    assert torch.equal(states["resid_post"][0], batch.embeds)


def test_captured_states_are_copies(model: FrozenModel) -> None:
    batch = model.encode(image_set(2))
    before = batch.embeds.clone()
    states = capture_activations(model, batch, hook_points=["resid_post", "resid_mid"])
    states["resid_post"][0].zero_()
    assert torch.equal(batch.embeds, before)
    pointers = {
        state.untyped_storage().data_ptr()
        for hook_point in states.values()
        for state in hook_point.values()
    }
    assert len(pointers) == 2 * model.layers + 1


def test_only_our_hooks_are_removed(model: FrozenModel) -> None:
    calls = []
    handle = model.hook_points.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    try:
        before = count_hooks(model)
        capture_activations(model, model.encode(image_set(1)))
        assert count_hooks(model) == before
        model.forward(model.encode(image_set(1)))
        assert len(calls) == 2
    finally:
        handle.remove()


def test_hooks_are_removed_after_an_exception(model: FrozenModel) -> None:
    def fail(*_: Any) -> None:
        message = "in the model"
        raise RuntimeError(message)

    before = count_hooks(model)
    batch = model.encode(image_set(1))
    with (
        pytest.raises(RuntimeError, match="in the model"),
        attach_hooks(model.hook_points, names=HOOK_POINTS, samples=1, callback=fail),
    ):
        model.forward(batch)
    assert count_hooks(model) == before
    with pytest.raises(UnknownNameError, match=r"Unknown hook point 'resid_pots'\. Did you mean"):
        capture_activations(model, batch, hook_points=["attn_out", "resid_pots"])
    assert count_hooks(model) == before


@pytest.mark.parametrize("name", ["llama-mini", "llama-mini/vit/image-caption"])
def test_states_are_those_at_the_words_tokens(tiny_zoo: Path, name: str) -> None:
    model = load_model(name)
    words = ["circle", "a green triangle", "abc"]
    found = capture_word_states(model, words, prompt="caption : a")
    assert found.dims == ("word", "layer", "hidden")
    assert found["layer"].to_numpy().tolist() == list(range(model.layers + 1))
    for word in words:
        sample = Sample("x", "text", "caption", "caption : a", (word,))
        batch = model.encode([sample])
        before = model.encode([sample], target=False).embeds.shape[1]
        length = batch.embeds.shape[1] - 1 - before
        assert length >= 1
        states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
        expected = torch.stack(
            [state[0, before : before + length].mean(0) for state in states.values()]
        )
        np.testing.assert_allclose(found.sel(word=word), expected, atol=1e-4)


def test_words_must_be_distinct(tiny_zoo: Path) -> None:
    model = load_model("llama-mini")
    with pytest.raises(ParameterError, match="Distinct words are needed; got a, a"):
        capture_word_states(model, ["a", "a"], prompt="caption :")
    with pytest.raises(ParameterError, match="got none"):
        capture_word_states(model, [], prompt="caption :")
