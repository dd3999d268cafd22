"""Embedding: points in two dimensions, at a few layers that stand for the depth of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ima.errors import ParameterError
from ima.measures.labelled_states import RowIndices, read_layer_states

# The paper shows layers 0, 1, 4, 8, 16, 24, 31 and 32 of 32.
_DEPTHS = (0, 4 / 32, 8 / 32, 16 / 32, 24 / 32, 1)


def select_depth_layers(layers: Sequence[int]) -> list[int]:
    """Choose layers as the paper does, at the same relative depths.

    Parameters
    ----------
    layers : sequence of int
        Labels of all layers, in order.

    Returns
    -------
    list of int
        The first two, the last two and three between, without repeats.

    Examples
    --------
    >>> chosen_layers(range(33))
    [0, 1, 4, 8, 16, 24, 31, 32]
    >>> chosen_layers(range(13))
    [0, 1, 2, 3, 6, 9, 11, 12]
    >>> chosen_layers(range(3))
    [0, 1, 2]
    """
    last = len(layers) - 1
    places = {round(depth * last) for depth in _DEPTHS} | {min(1, last), max(last - 1, 0)}
    return [int(layers[place]) for place in sorted(places)]


def compute_tsne(
    means: Mapping[str, xr.DataArray],
    *,
    points: pd.DataFrame,
    rows: RowIndices,
    layers: Sequence[int],
    perplexity: float = 30,
    seed: int = 0,
) -> xr.DataArray:
    """Embed points by t-SNE of their cosine distances, each layer on its own.

    Distances between clusters and their sizes mean nothing in such a picture; the probe and the
    silhouette are the measures.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``.
    points : pandas.DataFrame
        From :func:`ima.measures.labelled_states.list_labelled_states`.
    rows : ndarray
        Which points.
    layers : sequence of int
        Labels of the layers.
    perplexity : float
        Neighbours that count; at most a third of the points is used.
    seed : int
        Same seed, same picture.

    Returns
    -------
    xarray.DataArray
        ``(layer, point, axis)``; the coord ``point`` holds `rows`.

    Raises
    ------
    ParameterError
        If there are fewer than ten points.
    """
    from openTSNE import TSNE

    if len(rows) < 10:
        message = f"A t-SNE of {len(rows)} points shows nothing; give at least 10."
        raise ParameterError(message)
    embedded = []
    for layer in layers:
        x = read_layer_states(means, points=points, rows=rows, layer=layer)
        engine = TSNE(
            perplexity=min(perplexity, (len(rows) - 1) / 3),
            metric="cosine",
            neighbors="exact",
            negative_gradient_method="bh",
            random_state=seed,
            n_jobs=1,
        )
        embedded.append(np.asarray(engine.fit(x)))
    return xr.DataArray(
        np.stack(embedded),
        dims=("layer", "point", "axis"),
        coords={"layer": list(layers), "point": rows},
    )
