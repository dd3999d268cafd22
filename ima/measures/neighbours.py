"""Nearest neighbours (F1.2): how often a state and its nearest neighbour are of one class.

At each layer, for balanced classes of mean-pooled states; nearest is by cosine, among states of
other contents::

    fraction of states whose nearest neighbour has their class
    − the mean of this fraction over all permutations of the classes

F1.2 is the minimum over layers. Costs O(states² · hidden) in matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ima.errors import ParameterError
from ima.measures.labelled_states import balance_classes, get_class_labels, iterate_layer_states
from ima.measures.similarity import SAMPLE_BLOCK_SIZE, normalize_array
from ima.measures.treatments import name_least_treatment
from ima.stats import FloatArray, RowIndices
from ima.stats.intervals import Interval, compute_minimum_interval, compute_wilson_interval
from ima.stats.jackknife import compute_jackknife_variance

#: Number of cosines that are in memory at once.
_BLOCK_COSINES = 2**21


def compare_nearest_neighbours(
    means: Mapping[str, xr.DataArray], *, states: pd.DataFrame, comparisons: int = 1, seed: int = 0
) -> xr.Dataset:
    """Compare the class of each state with that of its nearest neighbour, at every layer.

    Nearest is by cosine, among states of other contents: a caption and a question about one
    picture are not neighbours. Classes are balanced.

    The interval is Wilson's over contents. Its effective number of contents comes from the
    delete-one jackknife (Korn & Graubard 1998). Each content is left out in turn, as a state and as
    a neighbour, so a state that is the neighbour of many others counts as often. A bootstrap would
    not do: a state whose content is drawn twice would be its own neighbour, and without errors the
    interval would have no width. The ends hold for all layers together (Bonferroni).

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``.
    states : pandas.DataFrame
        From :func:`ima.measures.labelled_states.list_labelled_states`.
    comparisons : int
        Number of treatments of the means whose minimum is taken: ``low`` and ``high`` hold for all
        together, and over all layers.
    seed : int
        Same seed, same states.

    Returns
    -------
    xarray.Dataset
        ``fraction``, ``low`` and ``high`` ``(layer,)``: states whose neighbour has their class;
        ``pointwise_low``, the lower end of each layer alone; ``by_class`` ``(class, layer)``. The
        attribute ``expected`` is the mean fraction over all permutations of the classes,
        ``samples`` the number of contents.

    Raises
    ------
    ParameterError
        If there are fewer than three contents or two classes.

    Examples
    --------
    >>> vectors = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]] * 4)
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> means = {"caption": xr.DataArray(vectors, coords, ("sample", "kind", "layer", "hidden"))}
    >>> from ima.measures.labelled_states import list_labelled_states
    >>> states = list_labelled_states(means, modalities={"caption": "image"})
    >>> neighbours = compare_nearest_neighbours(means, states=states)
    >>> neighbours["fraction"].values, round(neighbours.attrs["expected"], 3)
    (array([1.]), 0.429)
    """
    classes = balance_classes(get_class_labels(states, problem="modality"), seed=seed)
    rows = classes.index.to_numpy()
    names, codes = np.unique(classes.to_numpy(), return_inverse=True)
    _, contents = np.unique(states.loc[rows, "content"].to_numpy(), return_inverse=True)
    n = int(contents.max()) + 1
    if n < 3:
        raise ParameterError(f"Neighbours of another content need 3 contents; found {n}.")
    layers = next(iter(means.values()))["layer"]
    directions = np.empty((len(rows), next(iter(means.values())).sizes["hidden"]))
    fraction, effective = np.empty(layers.size), np.empty(layers.size)
    by_class = np.empty((len(names), layers.size))
    for at, layer in enumerate(layers.values):
        for places, own in iterate_layer_states(means, states=states, rows=rows, layer=int(layer)):
            directions[places] = normalize_array(own)
        hits, next_hits, nearest = _find_neighbour_hits(directions, codes=codes, contents=contents)
        fraction[at] = hits.mean()
        by_class[:, at] = [hits[codes == code].mean() for code in range(len(names))]
        # Without a content, its own states are gone, and its neighbours take their next one.
        gone = np.bincount(contents, hits, n)
        changed = np.bincount(contents[nearest], next_hits - hits, n)
        left = (hits.sum() - gone + changed) / (len(rows) - np.bincount(contents, minlength=n))
        variance = compute_jackknife_variance(left)
        spread = fraction[at] * (1 - fraction[at])
        effective[at] = min(n, spread / variance) if spread > 0 and variance > 0 else n
    curve = xr.DataArray(fraction, {"layer": layers}, "layer")
    weighed = curve.copy(data=effective)
    low, high = compute_wilson_interval(
        curve, n=weighed, level=1 - 0.05 / (comparisons * layers.size)
    )
    pointwise, _ = compute_wilson_interval(curve, n=weighed)
    # Of two different states, drawn at random, this part has the same class.
    size = len(rows) / len(names)
    return xr.Dataset(
        {
            "fraction": curve,
            "low": low,
            "high": high,
            "pointwise_low": pointwise,
            "by_class": (("class", "layer"), by_class),
        },
        coords={"class": names},
        attrs={"expected": (size - 1) / (len(rows) - 1), "samples": n},
    )


def _find_neighbour_hits(
    directions: FloatArray, *, codes: RowIndices, contents: RowIndices
) -> tuple[FloatArray, FloatArray, RowIndices]:
    """Find the nearest state of another content, and the next one without that content.

    Returns whether each of the two has the state's class, and the row of the nearest.
    """
    hits, next_hits = np.empty(len(codes)), np.empty(len(codes))
    nearest = np.empty(len(codes), np.int64)
    step = max(1, min(SAMPLE_BLOCK_SIZE, _BLOCK_COSINES // len(codes)))
    for start in range(0, len(codes), step):
        block = slice(start, start + step)
        cosines = directions[block] @ directions.T
        cosines[contents[block, None] == contents] = -np.inf
        nearest[block] = cosines.argmax(axis=1)
        cosines[contents[nearest[block], None] == contents] = -np.inf
        hits[block] = codes[nearest[block]] == codes[block]
        next_hits[block] = codes[cosines.argmax(axis=1)] == codes[block]
    return hits, next_hits, nearest


def compute_neighbour_margin(neighbours: xr.Dataset) -> Interval:
    """Measure F1.2 as tested: how often neighbours share their class, beyond permuted classes.

    Parameters
    ----------
    neighbours : xarray.Dataset
        From :func:`compare_nearest_neighbours`; several treatments are on the dim ``treatment``.

    Returns
    -------
    Interval
        Minimum over layers and treatments of the fraction of states whose neighbour has their
        class, minus the fraction that permuted classes give.

    Examples
    --------
    >>> fraction = xr.DataArray([0.75, 1.0], dims="layer")
    >>> ends = {"pointwise_low": fraction / 2, "high": fraction}
    >>> neighbours = xr.Dataset({"fraction": fraction, **ends})
    >>> print(compute_neighbour_margin(neighbours.assign_attrs(expected=0.25, samples=8)))
    0.500 [0.125, 0.500], n = 8
    """
    curve, low, high = (neighbours[name] for name in ("fraction", "pointwise_low", "high"))
    expected = float(neighbours.attrs["expected"])
    return compute_minimum_interval(
        curve - expected,
        low=low - expected,
        high=high - expected,
        n=int(neighbours.attrs["samples"]),
    )


def describe_neighbours(neighbours: xr.Dataset) -> str:
    """Describe in one sentence where fewest states have a neighbour of their class.

    Parameters
    ----------
    neighbours : xarray.Dataset
        From :func:`compare_nearest_neighbours`; several treatments are on the dim ``treatment``.

    Examples
    --------
    >>> coords = {"class": ["image", "text"], "layer": [0, 1]}
    >>> by_class = xr.DataArray([[1.0, 0.8], [1.0, 0.9]], coords, ("class", "layer"))
    >>> neighbours = xr.Dataset({"by_class": by_class, "fraction": by_class.mean("class")})
    >>> print(describe_neighbours(neighbours.assign_attrs(expected=0.5)))
    At layer 1, the fewest states have a nearest neighbour of their own class: 0.85 of all and \
0.80 of the image states, against 0.50 with permuted classes.
    >>> print(describe_neighbours(neighbours.isel(layer=[0]).assign_attrs(expected=0.5)))
    At each of 1 layers, the nearest neighbour of every state is of its own class; with permuted \
classes, the fraction is 0.50.
    """
    if "treatment" in neighbours.dims:
        lowest = neighbours["fraction"].min("layer").to_series()
        own = neighbours.sel(treatment=lowest.idxmin(), drop=True)
        return name_least_treatment(describe_neighbours(own), lowest.to_dict(), quantity="fraction")
    curve, expected = neighbours["fraction"], f"{neighbours.attrs['expected']:.2f}"
    if bool((curve == 1).all()):
        return (
            f"At each of {curve.size} layers, the nearest neighbour of every state is of its own "
            f"class; with permuted classes, the fraction is {expected}."
        )
    layer = int(curve.idxmin("layer"))
    by_class = neighbours["by_class"].sel(layer=layer)
    return (
        f"At layer {layer}, the fewest states have a nearest neighbour of their own class: "
        f"{float(curve.min()):.2f} of all and {float(by_class.min()):.2f} of the "
        f"{by_class.idxmin('class').item()} states, against {expected} with permuted classes."
    )
