"""Words of single tokens: what the logit lens reads from the state of each perceptual token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from ima.capture.logit_lens import LOGIT_BLOCK_SIZE
from ima.errors import CacheError, ParameterError

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

_GROUP = "tokens/resid_post"


def read_token_words(
    model: FrozenModel, cache: xr.DataTree, *, samples: int, ranks: int = 3
) -> xr.Dataset:
    """Read the most probable words of each perceptual token after each block.

    The final norm and the unembedding turn the residual state of a token into probabilities of the
    next word, as they do after the last block.

    Parameters
    ----------
    model : FrozenModel
        The model that made the cache.
    cache : xarray.DataTree
        An open cache that holds the residual stream of single tokens.
    samples : int
        Samples from the start whose tokens are read, as far as the cache holds them.
    ranks : int
        Words of each token and layer, most probable first.

    Returns
    -------
    xarray.Dataset
        ``word``, a string as the tokenizer writes it, and ``probability``, both
        ``(token, layer, rank)``. Coords on ``token``: ``sample`` (its row in ``/samples``) and
        ``position`` in the sequence.

    Raises
    ------
    CacheError
        If the cache holds no single tokens of the residual stream.
    ParameterError
        If another model made the cache.

    Examples
    --------
    >>> model = load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
    >>> words = read_token_words(model, open_cache("image.zarr"), samples=4)  # doctest: +SKIP
    >>> words["word"].isel(token=0, layer=-1).values  # doctest: +SKIP
    array([' circle', ' square', ' ring'], dtype=object)
    """
    held = cache.attrs["model"]
    if held["weights_hash"] != model.weights_hash:
        raise ParameterError(
            f"The cache is of {held['name']!r} with the weights {held['weights_hash'][:10]}; found "
            f"{model.name!r} with {model.weights_hash[:10]}. Load the model that made the cache."
        )
    if f"/{_GROUP}" not in cache.groups:
        raise CacheError(
            f"The cache of {held['name']!r} holds no /{_GROUP}. Make one with single tokens: ima "
            "cache create … --keep-tokens 16."
        )
    tokens = cache[_GROUP].to_dataset()
    chosen = (tokens["sample"].to_numpy() < samples) & (tokens["modality"].to_numpy() != 0)
    perceptual = tokens.isel(token=chosen)
    states = torch.from_numpy(perceptual["state"].astype("float32").to_numpy())
    probability, word = _find_top_words(model, states, ranks=ranks)
    dims = ("token", "layer", "rank")
    coords: dict[str, Any] = {"layer": perceptual["layer"].to_numpy()}
    for name in ("sample", "position"):
        coords[name] = ("token", perceptual[name].to_numpy())
    return xr.Dataset(
        {"word": (dims, _decode_words(model, word)), "probability": (dims, probability)}, coords
    )


def _find_top_words(
    model: FrozenModel, states: torch.Tensor, *, ranks: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the largest probabilities and their words' ids, ``(token, layer, rank)`` each."""
    flat = states.flatten(end_dim=1)
    rows = max(1, LOGIT_BLOCK_SIZE // model.hook_points.vocab_size)
    found = []
    with torch.inference_mode():
        for part in torch.split(flat, rows):
            logits = model.hook_points.compute_logits(part.to(model.device, model.language.dtype))
            found.append(logits.float().softmax(dim=-1).topk(ranks))
    shape = (*states.shape[:2], ranks)
    probability, word = (
        torch.cat([each[i] for each in found]).reshape(shape).cpu().numpy() for i in range(2)
    )
    return probability, word


def _decode_words(model: FrozenModel, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    known, place = np.unique(ids, return_inverse=True)
    words = np.array([model.tokenizer.decode([int(i)]) for i in known], dtype=object)
    decoded: np.ndarray[Any, Any] = words[place].reshape(ids.shape)
    return decoded
