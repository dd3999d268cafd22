"""Hooks of a running model: activations of a batch at hook points, and states of single words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import xarray as xr
from torch import Tensor

from ima.data.samples import Sample
from ima.errors import ParameterError
from ima.hook_points import HOOK_POINTS
from ima.models.hook_points import attach_hooks

if TYPE_CHECKING:
    from ima.models import Batch
    from ima.models.frozen import FrozenModel


def capture_activations(
    model: FrozenModel, batch: Batch, *, hook_points: Sequence[str] = HOOK_POINTS
) -> dict[str, dict[int, Tensor]]:
    """Return the activations of a batch.

    Parameters
    ----------
    model : FrozenModel
        The model; its language-model head does not run.
    batch : Batch
        What :meth:`ima.models.frozen.FrozenModel.encode` returned.
    hook_points : sequence of str
        Hook points to read.

    Returns
    -------
    dict of str to dict of int to Tensor
        Copies per hook point and layer, ``(sample, position, hidden)``, on the model's device,
        padding included. Layer 0 exists for ``resid_post`` only: the input of the first block.

    Raises
    ------
    UnknownNameError
        If there is no such hook point.
    ParameterError
        If this model does not have the hook point.

    Examples
    --------
    >>> batch = model.encode(samples)  # doctest: +SKIP
    >>> states = capture_activations(model, batch, hook_points=["resid_post"])  # doctest: +SKIP
    >>> states["resid_post"][0].shape  # doctest: +SKIP
    torch.Size([2, 40, 192])
    """
    states: dict[str, dict[int, Tensor]] = {name: {} for name in hook_points}

    def store(name: str, layer: int, state: Tensor) -> None:
        # A view would keep the whole activation alive, and the model may write to it.
        states[name][layer] = state.clone()

    samples = len(batch.sample_ids)
    with (
        torch.no_grad(),
        attach_hooks(model.hook_points, names=hook_points, samples=samples, callback=store),
    ):
        model.forward(batch, logits=False)
    return states


def capture_word_states(model: FrozenModel, words: Sequence[str], *, prompt: str) -> xr.DataArray:
    """Return the residual stream at words that the model reads after a prompt, without media.

    Parameters
    ----------
    model : FrozenModel
        The model that reads the words.
    words : sequence of str
        Distinct words, at least one.
    prompt : str
        Text before each word, for example ``"caption : a"``.

    Returns
    -------
    xarray.DataArray
        ``(word, layer, hidden)`` float32: the mean over a word's tokens; layer 0 is the input of
        the first block.

    Raises
    ------
    ParameterError
        If no words are given, or one is given twice.

    Examples
    --------
    >>> states = capture_word_states(  # doctest: +SKIP
    ...     load_model("llama-mini"), ["circle", "square"], prompt="caption : a"
    ... )
    >>> states.sel(word="circle", layer=3).shape  # doctest: +SKIP
    (192,)
    """
    if not words or len(set(words)) < len(words):
        raise ParameterError(f"Distinct words are needed; got {', '.join(words) or 'none'}.")
    samples = [
        Sample(id=word, modality="text", task="caption", prompt=prompt, references=(word,))
        for word in words
    ]
    batch = model.encode(samples)
    # The last token of an answer ends the sequence and belongs to no word.
    last = batch.answer & ~torch.roll(batch.answer, -1, dims=1)
    in_word = (batch.answer & ~last).unsqueeze(-1)
    states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    means = [
        ((state * in_word).sum(dim=1) / in_word.sum(dim=1)).float().cpu().numpy()
        for state in states.values()
    ]
    return xr.DataArray(
        means, dims=("layer", "word", "hidden"), coords={"layer": list(states), "word": list(words)}
    ).transpose("word", "layer", "hidden")
