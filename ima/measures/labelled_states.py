"""Labelled states: one mean state per sample and kind of token, with classes to tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ima.errors import ParameterError, UnknownNameError
from ima.stats import FloatArray, RowIndices
from ima.stats.resampling import list_sample_contents

#: Samples that are read at once: at 4,096 numbers a state, 32 MiB.
_READ_AT_ONCE = 1024
PROBE_PROBLEMS: Mapping[str, str] = {
    "modality": "text, image, video or audio tokens",
    "text source": "whether textual tokens follow image, video or audio tokens: a control for "
    "what the text is about",
}


def list_labelled_states(
    means: Mapping[str, xr.DataArray],
    *,
    modalities: Mapping[str, str],
    tasks: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """List the mean states of several data sets with their labels.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``.
    modalities : mapping of str to str
        The modality of each data set's media.
    tasks : mapping of str to str or None
        The task of each data set.

    Returns
    -------
    pandas.DataFrame
        A row per data set, sample and kind that has tokens, with the columns of
        :func:`ima.stats.resampling.list_sample_contents` and ``kind``, ``source`` (modality of the
        media), ``modality`` (``"text"`` for textual states) and ``task``.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> means = xr.DataArray(np.ones((2, 2, 1, 4)), coords, ("sample", "kind", "layer", "hidden"))
    >>> states = list_labelled_states({"caption": means}, modalities={"caption": "image"})
    >>> states[["sample", "kind", "modality"]].values.tolist()[1:3]
    [[1, 'perceptual', 'image'], [0, 'textual', 'text']]
    """
    parts = []
    samples = list_sample_contents(means)
    for name, array in means.items():
        first = array.isel(layer=0)
        present = xr.ufuncs.isfinite(first).all("hidden").transpose("kind", "sample")
        own = samples[samples["dataset"] == name].reset_index(drop=True)
        source, task = modalities[name], (tasks or {}).get(name, "")
        for kind in map(str, present["kind"].values):
            part = own[present.sel(kind=kind).to_numpy()]
            modality = "text" if kind == "textual" else source
            parts.append(part.assign(kind=kind, source=source, modality=modality, task=task))
    states: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return states


def get_class_labels(states: pd.DataFrame, *, problem: str) -> pd.Series[str]:
    """Get the classes that a problem asks to tell apart.

    Parameters
    ----------
    states : pandas.DataFrame
        From :func:`list_labelled_states`.
    problem : str
        One of :data:`PROBE_PROBLEMS`.

    Returns
    -------
    pandas.Series
        Class names; the index holds the rows of `states` that take part.

    Raises
    ------
    UnknownNameError
        If the problem does not exist.
    ParameterError
        If there are fewer than two classes.

    Examples
    --------
    >>> states = pd.DataFrame({"kind": ["perceptual", "textual"], "modality": ["image", "text"]})
    >>> get_class_labels(states, problem="modality").tolist()
    ['image', 'text']
    """
    if problem not in PROBE_PROBLEMS:
        raise UnknownNameError.among(kind="problem", asked=problem, available=PROBE_PROBLEMS)
    if problem == "text source":
        classes = states.loc[states["kind"] == "textual", "source"]
    else:
        classes = states[problem]
    if classes.nunique() < 2:
        raise ParameterError(
            f"Separability of {PROBE_PROBLEMS[problem]} needs at least two classes; found "
            f"{', '.join(classes.unique()) or 'none'}. Give caches of more modalities."
        )
    return classes


def balance_classes(classes: pd.Series[str], *, seed: int) -> pd.Series[str]:
    """Draw the same number of states of every class, so that accuracy is balanced accuracy.

    Parameters
    ----------
    classes : pandas.Series
        From :func:`get_class_labels`.
    seed : int
        Same seed, same states.

    Returns
    -------
    pandas.Series
        As many states of each class as the rarest class has, in the order of `classes`.

    Examples
    --------
    >>> balance_classes(pd.Series(["text", "image", "text", "text"]), seed=0).tolist()
    ['image', 'text']
    """
    rng = np.random.default_rng(seed)
    least = int(classes.value_counts().min())
    rows = [
        rng.permutation(own.to_numpy())[:least]
        for _, own in sorted(classes.groupby(classes).groups.items())
    ]
    return classes.loc[np.sort(np.concatenate(rows))]


def read_layer_states(
    means: Mapping[str, xr.DataArray], *, states: pd.DataFrame, rows: RowIndices, layer: int
) -> FloatArray:
    """Read the vectors of some states at one layer.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        ``(sample, kind, layer, hidden)``; only this layer is read.
    states : pandas.DataFrame
        From :func:`list_labelled_states`.
    rows : ndarray
        Rows of `states`.
    layer : int
        Label of the layer.

    Returns
    -------
    ndarray
        ``(state, hidden)``, float64, in the order of `rows`.

    Raises
    ------
    ParameterError
        If a state is not finite.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> vectors = np.arange(8.0).reshape(2, 2, 1, 2)
    >>> means = {"caption": xr.DataArray(vectors, coords, ("sample", "kind", "layer", "hidden"))}
    >>> states = list_labelled_states(means, modalities={"caption": "image"})
    >>> read_layer_states(means, states=states, rows=np.array([3, 0]), layer=0)
    array([[6., 7.],
           [0., 1.]])
    """
    width = next(iter(means.values())).sizes["hidden"]
    vectors = np.empty((len(rows), width))
    for places, own in iterate_layer_states(means, states=states, rows=rows, layer=layer):
        vectors[places] = own
    return vectors


def iterate_layer_states(
    means: Mapping[str, xr.DataArray], *, states: pd.DataFrame, rows: RowIndices, layer: int
) -> Iterator[tuple[RowIndices, FloatArray]]:
    """Read the vectors of some states at one layer, a block of samples at a time.

    Parameters
    ----------
    means, states, rows, layer
        As for :func:`read_layer_states`.

    Yields
    ------
    places : ndarray
        ``(state,)``, places in `rows`.
    vectors : ndarray
        ``(state, hidden)``, float64, of the states at these places.

    Raises
    ------
    ParameterError
        If a state is not finite.

    Examples
    --------
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> vectors = np.arange(8.0).reshape(2, 2, 1, 2)
    >>> means = {"caption": xr.DataArray(vectors, coords, ("sample", "kind", "layer", "hidden"))}
    >>> states = list_labelled_states(means, modalities={"caption": "image"})
    >>> blocks = iterate_layer_states(means, states=states, rows=np.array([3, 0]), layer=0)
    >>> [(places.tolist(), own.tolist()) for places, own in blocks]
    [([1], [[0.0, 1.0]]), ([0], [[6.0, 7.0]])]
    """
    selected = states.loc[rows, ["dataset", "kind", "sample"]]
    selected = selected.assign(place=np.arange(len(rows))).sort_values("sample")
    for (name, kind), group in selected.groupby(["dataset", "kind"]):
        array = means[str(name)].sel(layer=layer, kind=str(kind))
        samples, places = group["sample"].to_numpy(), group["place"].to_numpy()
        for start in range(0, array.sizes["sample"], _READ_AT_ONCE):
            stop = start + _READ_AT_ONCE
            within = slice(*np.searchsorted(samples, (start, stop)))
            block = array.isel(sample=slice(start, stop)).to_numpy()
            own = block[samples[within] - start].astype(np.float64)
            if not np.isfinite(own).all():
                raise ParameterError(
                    f"States at layer {layer} are not finite; the cache is damaged or unfinished."
                )
            yield places[within], own
