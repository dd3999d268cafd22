"""States of words: those of the word's own tokens, not of its prompt nor of the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ima.capture import capture_activations
from ima.capture.words import capture_word_states
from ima.data.samples import Sample
from ima.errors import ParameterError
from ima.models import load_model


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
