"""Embedding: states in two dimensions, at a few layers that represent the model's depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.manifold import TSNE

from ima.errors import ParameterError
from ima.measures.labelled_states import read_layer_states
from ima.stats import RowIndices

# The paper shows layers 0, 1, 4, 8, 16, 24, 31 and 32 of 32.
_DEPTHS = (0, 4 / 32, 8 / 32, 16 / 32, 24 / 32, 1)


def select_depth_layers(layers: Sequence[int]) -> list[int]:
    """Select layers at the relative depths that the paper shows.

    Parameters
    ----------
    layers : sequence of int
        Labels of all layers, in order.

    Returns
    -------
    list of int
        The first two, the last two and up to four layers between them, without repeats.

    Examples
    --------
    >>> select_depth_layers(range(33))
    [0, 1, 4, 8, 16, 24, 31, 32]
    >>> select_depth_layers(range(13))
    [0, 1, 2, 3, 6, 9, 11, 12]
    >>> select_depth_layers(range(3))
    [0, 1, 2]
    """
    last = len(layers) - 1
    places = {round(depth * last) for depth in _DEPTHS} | {min(1, last), max(last - 1, 0)}
    return [int(layers[place]) for place in sorted(places)]


def compute_tsne(
    means: Mapping[str, xr.DataArray],
    *,
    states: pd.DataFrame,
    rows: RowIndices,
    layers: Sequence[int],
    seed: int = 0,
) -> xr.DataArray:
    """Embed states by t-SNE of their cosine distances, each layer on its own.

    The distances between clusters and their sizes mean nothing in such a picture; the linear probe
    and the silhouette are the measures.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``.
    states : pandas.DataFrame
        From :func:`ima.measures.labelled_states.list_labelled_states`.
    rows : ndarray
        Rows of `states`.
    layers : sequence of int
        Labels of the layers.
    seed : int
        Same seed, same picture.

    Returns
    -------
    xarray.DataArray
        ``(layer, point, axis)``; the coord ``point`` holds `rows`.

    Raises
    ------
    ParameterError
        If there are fewer than ten states.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> vectors = np.random.default_rng(0).normal(size=(6, 2, 1, 4))
    >>> means = {"caption": xr.DataArray(vectors, coords, ("sample", "kind", "layer", "hidden"))}
    >>> from ima.measures.labelled_states import list_labelled_states
    >>> states = list_labelled_states(means, modalities={"caption": "image"})
    >>> compute_tsne(means, states=states, rows=states.index.to_numpy(), layers=[0]).shape
    (1, 12, 2)
    """
    if len(rows) < 10:
        raise ParameterError(f"A t-SNE of {len(rows)} states shows nothing; give at least 10.")
    embedded = []
    for layer in layers:
        x = read_layer_states(means, states=states, rows=rows, layer=layer)
        tsne = TSNE(
            perplexity=min(30, (len(rows) - 1) / 3),
            metric="cosine",
            init="random",
            random_state=seed,
        )
        embedded.append(tsne.fit_transform(x))
    return xr.DataArray(
        np.stack(embedded),
        dims=("layer", "point", "axis"),
        coords={"layer": list(layers), "point": rows},
    )
