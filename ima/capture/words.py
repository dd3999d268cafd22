"""States of words: what a language model holds of a word that it reads in text alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import xarray as xr

from ima.capture.hooks import capture_activations
from ima.data.samples import Sample
from ima.errors import ParameterError

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel


def capture_word_states(model: FrozenModel, words: Sequence[str], *, prompt: str) -> xr.DataArray:
    """Return the residual stream at words, each read behind the same prompt, without media.

    Parameters
    ----------
    model : FrozenModel
        What reads.
    words : sequence of str
        Distinct, at least one.
    prompt : str
        What stands before each, for example ``"caption : a"``.

    Returns
    -------
    xarray.DataArray
        ``(word, layer, hidden)`` float32: the mean over a word's tokens; layer 0 is what enters the
        first block.

    Raises
    ------
    ParameterError
        If no words are given or one is given twice.
    """
    if not words or len(set(words)) < len(words):
        message = f"Distinct words are needed; got {', '.join(words) or 'none'}."
        raise ParameterError(message)
    samples = [
        Sample(id=word, modality="text", task="caption", prompt=prompt, references=(word,))
        for word in words
    ]
    batch = model.encode(samples)
    # The last token of an answer ends the sequence and belongs to no word.
    last = batch.answer & ~torch.roll(batch.answer, -1, dims=1)
    own = (batch.answer & ~last).unsqueeze(-1)
    states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    means = [
        ((state * own).sum(dim=1) / own.sum(dim=1)).float().cpu().numpy()
        for state in states.values()
    ]
    return xr.DataArray(
        means, dims=("layer", "word", "hidden"), coords={"layer": list(states), "word": list(words)}
    ).transpose("word", "layer", "hidden")
