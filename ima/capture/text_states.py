"""States of two language models that read the same texts without media, and what they activate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ima.capture.hooks import capture_activations
from ima.capture.input_norms import accumulate_input_norms
from ima.capture.sinks import find_sinks
from ima.capture.token_masks import TokenMasks
from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.models.text_scores import hash_texts, iterate_text_batches, tokenize_texts
from ima.stats import FloatArray

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

_TEXTUAL = TOKEN_KINDS.index("textual")


def capture_text_drift(
    model: FrozenModel, against: FrozenModel, passages: Sequence[str], *, batch_size: int = 8
) -> xr.Dataset:
    """Compare the residual streams of two models at the same tokens of the same texts.

    Parameters
    ----------
    model, against : FrozenModel
        Models of one tokenizer and one size; most often a tuned one and the frozen one.
    passages : sequence of str
        Texts, read as they stand.
    batch_size : int
        Texts per forward pass.

    Returns
    -------
    xarray.Dataset
        ``cosine`` and ``change`` ``(text, layer)``: the mean over tokens of the cosine between the
        two states, and of the norm of their difference, relative to the norm of the state of
        `against`. ``mean`` and ``mean_without`` ``(sample, kind, layer, hidden)``: means over the
        tokens of a text, of all and of those that are no sinks in either model, ``kind`` being
        ``against`` and ``model``; ``sum_squares_without`` ``(unit, kind, layer, hidden)``, sums
        over tokens that are no sinks. Layer 0 is the input of the first block.

    Raises
    ------
    ParameterError
        If the models read other tokens or have other sizes.

    Examples
    --------
    >>> drift = capture_text_drift(load_model("llava-mini-1"), frozen, texts)  # doctest: +SKIP
    >>> float(drift["cosine"].mean("text").isel(layer=-1))  # doctest: +SKIP
    0.93
    """
    texts = [("", text) for text in passages]
    sizes = [(own.layers, own.hidden) for own in (model, against)]
    if sizes[0] != sizes[1]:
        raise ParameterError(
            f"{model.name!r} has {sizes[0][0]} layers of {sizes[0][1]}, {against.name!r} "
            f"{sizes[1][0]} of {sizes[1][1]}: their states cannot be compared."
        )
    if hash_texts(model, texts) != hash_texts(against, texts):
        raise ParameterError(
            f"{model.name!r} and {against.name!r} read other tokens: take models of one tokenizer."
        )
    n, layers, hidden = len(texts), model.layers + 1, model.hidden
    curves = {name: np.zeros((n, layers)) for name in ("cosine", "change")}
    means = {name: np.zeros((n, 2, layers, hidden)) for name in ("mean", "mean_without")}
    squares = np.zeros((1, 2, layers, hidden))
    tokens = tokenize_texts(model, texts)
    batches = (iterate_text_batches(own, tokens, batch_size=batch_size) for own in (against, model))
    for (rows, before_batch), (_, after_batch) in zip(*batches, strict=True):
        before, after = (
            capture_activations(own, batch, hook_points=["resid_post"])["resid_post"]
            for own, batch in ((against, before_batch), (model, after_batch))
        )
        masks = TokenMasks.from_kinds(before_batch.kinds[:, [_TEXTUAL]])
        for layer in range(layers):
            pair = [before[layer].double(), after[layer].double()]
            found = _compare_states(pair, masks=masks)
            for name, curve in curves.items():
                curve[rows, layer] = found[name]
            for name, mean in means.items():
                mean[rows, :, layer] = found[name]
            squares[0, :, layer] += found["squares"]
    coords = {"layer": np.arange(layers), "kind": ["against", "model"]}
    dims = ("sample", "kind", "layer", "hidden")
    data: dict[str, tuple[tuple[str, ...], FloatArray]] = {
        name: (("text", "layer"), curve) for name, curve in curves.items()
    }
    data |= {name: (dims, mean) for name, mean in means.items()}
    data["sum_squares_without"] = (("unit", *dims[1:]), squares)
    return xr.Dataset(data, coords=coords)


def _compare_states(pair: Sequence[Tensor], *, masks: TokenMasks) -> dict[str, FloatArray]:
    """Compare the states of two models in one layer; dims (sample, position, hidden) each."""
    real = masks.kinds[:, 0].double()
    count = real.sum(dim=1)
    norms = [state.norm(dim=-1) for state in pair]
    before, after = pair
    # The norm of a state that is zero in both models changes by nothing.
    size = norms[0].clamp_min(torch.finfo(torch.float64).tiny)
    change = (after - before).norm(dim=-1) / size
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=-1, eps=1e-30)
    sinks = find_sinks(norms[0], masks=masks) | find_sinks(norms[1], masks=masks)
    ordinary = real * ~sinks
    both = torch.stack(list(pair), dim=1)
    weights = [own / own.sum(dim=1, keepdim=True) for own in (real, ordinary)]
    mean, mean_without = (torch.einsum("sp,skph->skh", own, both) for own in weights)
    squares = torch.einsum("sp,skph->kh", ordinary, both.square())
    found = {
        "cosine": (cosine * real).sum(dim=1) / count,
        "change": (change * real).sum(dim=1) / count,
        "mean": mean,
        "mean_without": mean_without,
        "squares": squares,
    }
    return {name: value.cpu().numpy() for name, value in found.items()}


def capture_text_input_norms(
    model: FrozenModel, passages: Sequence[str], *, batch_size: int = 8
) -> dict[str, FloatArray]:
    """Return the squared norms of the inputs of linear layers over texts: what Wanda needs.

    Parameters
    ----------
    model : FrozenModel
        The model that reads.
    passages : sequence of str
        Texts, read as they stand.
    batch_size : int
        Texts per forward pass.

    Returns
    -------
    dict of str to ndarray
        By linear layer ``(layer, in_features)`` float64.

    Raises
    ------
    ModelError
        If the blocks have no linear layers of known names.

    Examples
    --------
    >>> norms = capture_text_input_norms(load_model("llama-mini"), texts)  # doctest: +SKIP
    >>> norms["mlp.up_proj"].shape  # doctest: +SKIP
    (12, 128)
    """
    total: dict[str, FloatArray] = {}
    tokens = tokenize_texts(model, [("", text) for text in passages])
    for _, batch in iterate_text_batches(model, tokens, batch_size=batch_size):
        with accumulate_input_norms(model.hook_points, batch) as sums:
            model.forward(batch)
        for name, layers in sums.items():
            added = np.stack([layer[_TEXTUAL].double().cpu().numpy() for layer in layers])
            total[name] = total.get(name, 0.0) + added
    return total
