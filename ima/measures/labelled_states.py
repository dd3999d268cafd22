"""Points: one per sample and kind of token, with the classes that separability asks about."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ima.errors import ParameterError, UnknownNameError
from ima.stats.contents import list_sample_contents

RowIndices = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

PROBE_PROBLEMS: Mapping[str, str] = {
    "modality": "text, image, video or audio tokens",
    "perceptual": "image, video or audio, among perceptual tokens",
    "kind": "perceptual or textual tokens",
    "text source": "whether textual tokens follow image, video or audio tokens: a control for "
    "what the text is about",
}


def list_labelled_states(
    means: Mapping[str, xr.DataArray],
    *,
    modalities: Mapping[str, str],
    tasks: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """List the points of a family of data sets.

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
        :func:`ima.stats.contents.list_sample_contents` and ``kind``, ``source`` (modality of the media),
        ``modality`` (``"text"`` for textual points) and ``task``.
    """
    parts = []
    listed = list_sample_contents(means)
    for name, array in means.items():
        first = array.isel(layer=0)
        present = xr.ufuncs.isfinite(first).all("hidden").transpose("kind", "sample")
        own = listed[listed["dataset"] == name].reset_index(drop=True)
        for kind in map(str, present["kind"].values):
            part = own[present.sel(kind=kind).to_numpy()]
            source = modalities[name]
            modality = "text" if kind == "textual" else source
            task = (tasks or {}).get(name, "")
            parts.append(part.assign(kind=kind, source=source, modality=modality, task=task))
    joined: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return joined


def get_class_labels(points: pd.DataFrame, *, problem: str) -> pd.Series[str]:
    """Return the classes of the points that a problem is about.

    Parameters
    ----------
    points : pandas.DataFrame
        From :func:`list_labelled_states`.
    problem : str
        One of :data:`PROBE_PROBLEMS`.

    Returns
    -------
    pandas.Series
        Class names; the index holds the rows of `points` that take part.

    Raises
    ------
    UnknownNameError
        If no such problem exists.
    ParameterError
        If fewer than two classes are present.
    """
    if problem not in PROBE_PROBLEMS:
        raise UnknownNameError.among(kind="problem", asked=problem, available=PROBE_PROBLEMS)
    if problem == "perceptual":
        found = points.loc[points["kind"] == "perceptual", "modality"]
    elif problem == "text source":
        found = points.loc[points["kind"] == "textual", "source"]
    else:
        found = points[problem]
    if found.nunique() < 2:
        message = (
            f"Separability of {PROBE_PROBLEMS[problem]} needs at least two classes; found "
            f"{', '.join(found.unique()) or 'none'}. Give caches of more modalities."
        )
        raise ParameterError(message)
    return found


def balance_classes(classes: pd.Series[str], *, seed: int) -> pd.Series[str]:
    """Draw the same number of points of every class, so that accuracy is balanced accuracy.

    Parameters
    ----------
    classes : pandas.Series
        From :func:`get_class_labels`.
    seed : int
        Same seed, same points.

    Returns
    -------
    pandas.Series
        As many of each class as the rarest has, in the order of `classes`.
    """
    rng = np.random.default_rng(seed)
    least = int(classes.value_counts().min())
    kept = [
        rng.permutation(rows.to_numpy())[:least]
        for _, rows in sorted(classes.groupby(classes).groups.items())
    ]
    return classes.loc[np.sort(np.concatenate(kept))]


def read_layer_states(
    means: Mapping[str, xr.DataArray], *, points: pd.DataFrame, rows: RowIndices, layer: int
) -> FloatArray:
    """Read the vectors of points at one layer.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        ``(sample, kind, layer, hidden)``; only this layer is read.
    points : pandas.DataFrame
        From :func:`list_labelled_states`.
    rows : ndarray
        Which points.
    layer : int
        Label of the layer.

    Returns
    -------
    ndarray
        ``(point, hidden)``, float64.
    """
    chosen = points.loc[rows]
    width = next(iter(means.values())).sizes["hidden"]
    out = np.empty((len(chosen), width))
    place = pd.Series(np.arange(len(chosen)), index=chosen.index)
    for (name, kind), group in chosen.groupby(["dataset", "kind"]):
        found = means[str(name)].sel(layer=layer, kind=str(kind)).to_numpy()
        out[place[group.index]] = found[group["sample"].to_numpy()]
    if not np.isfinite(out).all():
        message = f"States at layer {layer} are not finite; the cache is damaged or unfinished."
        raise ParameterError(message)
    return out
