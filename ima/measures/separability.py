"""Separability (F1.2): silhouette and linear probe of modality, layer by layer.

At each layer, for balanced classes of mean-pooled states::

    silhouette  mean of (b − a) / max(a, b); a and b are a state's mean cosine distances to its own
                class and to the nearest other class (Rousseeuw 1987)
    probe       accuracy of logistic regression on held-out samples; chance is 1 / classes

F1.2 is the minimum over layers and classes of the silhouette. The other reading of F1.2 is in
:mod:`ima.measures.neighbours`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ima.errors import ParameterError, UnknownNameError
from ima.measures.labelled_states import (
    balance_classes,
    get_class_labels,
    iterate_layer_states,
    read_layer_states,
)
from ima.measures.similarity import normalize_array
from ima.stats import BoolArray, FloatArray, RowIndices
from ima.stats.intervals import (
    Interval,
    compute_lowest_point,
    compute_minimum_interval,
    compute_wilson_interval,
)
from ima.stats.resampling import ResampleCounts, draw_joint_counts, label_draws

ProbeSplit = Literal["sample", "task"]
#: The part of the contents of each stratum that a probe is tested on.
_TEST_RATIO = 0.3
#: Number of distances that are in memory at once.
_BLOCK_DISTANCES = 2**18


def evaluate_linear_probe(
    means: Mapping[str, xr.DataArray],
    *,
    states: pd.DataFrame,
    problem: str = "modality",
    split: ProbeSplit = "sample",
    seed: int = 0,
) -> xr.Dataset:
    """Train a linear probe on some contents and test it on others, at every layer.

    Classes are balanced in training and in test, so accuracy is balanced accuracy. All states of a
    content are on the same side.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``.
    states : pandas.DataFrame
        From :func:`ima.measures.labelled_states.list_labelled_states`.
    problem : str
        One of :data:`ima.measures.labelled_states.PROBE_PROBLEMS`.
    split : {"sample", "task"}
        ``"sample"`` tests on held-out contents of the same data sets. ``"task"`` tests on the
        held-out contents of each task in turn and trains on the other tasks; a probe passes this
        test only by what separately trained connectors have in common.
    seed : int
        Same seed, same splits.

    Returns
    -------
    xarray.Dataset
        ``accuracy`` ``(layer,)``; attrs ``classes``, ``chance``, ``test_samples`` and
        ``train_samples``.

    Raises
    ------
    UnknownNameError
        If the problem or the split does not exist.
    ParameterError
        If there are too few tasks, or a side of a split lacks a class.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).normal(size=(20, 2, 1, 4))
    >>> vectors[:, 0] += 10
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> means = {"caption": xr.DataArray(vectors, coords, ("sample", "kind", "layer", "hidden"))}
    >>> from ima.measures.labelled_states import list_labelled_states
    >>> states = list_labelled_states(means, modalities={"caption": "image"})
    >>> probe = evaluate_linear_probe(means, states=states)
    >>> probe["accuracy"].values, probe.attrs["classes"], probe.attrs["chance"]
    (array([1.]), ['image', 'text'], 0.5)
    """
    classes = get_class_labels(states, problem=problem)
    folds = list(_draw_folds(states, classes=classes, split=split, seed=seed))
    layers = next(iter(means.values()))["layer"]
    accuracy = np.zeros(layers.size)
    for at, layer in enumerate(layers.values):
        for train, test in folds:
            x_train, x_test = (
                read_layer_states(
                    means, states=states, rows=side.index.to_numpy(), layer=int(layer)
                )
                for side in (train, test)
            )
            weight = len(test) / sum(len(other) for _, other in folds)
            probe = _fit_probe(x_train, train.to_numpy())
            accuracy[at] += weight * probe.score(x_test, test.to_numpy())
    n_train, n_test = (
        int(states.loc[np.concatenate([side.index for side in sides]), "content"].nunique())
        for sides in zip(*folds, strict=True)
    )
    return xr.Dataset(
        {"accuracy": ("layer", accuracy)},
        coords={"layer": layers},
        attrs={
            "classes": sorted(classes.unique()),
            "chance": 1 / classes.nunique(),
            "test_samples": n_test,
            "train_samples": n_train,
        },
    )


def _fit_probe(x: FloatArray, y: npt.NDArray[np.object_]) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(x, y)


def _draw_folds(
    states: pd.DataFrame, *, classes: pd.Series[str], split: str, seed: int
) -> Iterator[tuple[pd.Series[str], pd.Series[str]]]:
    """Draw balanced training and test classes that share no content."""
    own = states.loc[classes.index]
    sides = _draw_sides(own, split=split, seed=seed)
    for number, (fitted, held_out) in enumerate(sides):
        train, test = classes[fitted], classes[held_out]
        if train.nunique() < classes.nunique() or test.nunique() < classes.nunique():
            raise ParameterError(
                f"Each side of a split by {split} must have every class of "
                f"{', '.join(sorted(classes.unique()))}. Give more samples or more data sets."
            )
        yield balance_classes(train, seed=seed + number), balance_classes(test, seed=seed + number)


def _draw_sides(
    states: pd.DataFrame, *, split: str, seed: int
) -> list[tuple[BoolArray, BoolArray]]:
    """Draw which states are for training and which for testing, per fold."""
    if split not in ("sample", "task"):
        raise UnknownNameError.among(kind="split", asked=split, available=("sample", "task"))
    rng = np.random.default_rng(seed)
    drawn: set[int] = set()
    for _, group in states.groupby("stratum", sort=True):
        contents = rng.permutation(np.sort(group["content"].unique()))
        drawn.update(contents[: max(1, round(_TEST_RATIO * len(contents)))].tolist())
    held_out = states["content"].isin(drawn).to_numpy()
    if split == "sample":
        return [(~held_out, held_out)]
    tasks = sorted(states["task"].unique())
    if len(tasks) < 2:
        raise ParameterError(
            f"A split by task needs two tasks; found {', '.join(tasks) or 'none'}."
        )
    # Tasks may show the same contents: those tested in one task are not trained on in another.
    within = [(states["task"] == task).to_numpy() for task in tasks]
    return [(~task & ~held_out, task & held_out) for task in within]


def compute_probe_margin(probe: xr.Dataset) -> Interval:
    """Compute by how much the probe beats chance at the layer where it is weakest.

    Parameters
    ----------
    probe : xarray.Dataset
        From :func:`evaluate_linear_probe`.

    Returns
    -------
    Interval
        Minimum over layers of balanced accuracy minus chance.

    Examples
    --------
    >>> accuracy = ("layer", [1.0, 0.75])
    >>> probe = xr.Dataset({"accuracy": accuracy}, attrs={"chance": 0.5, "test_samples": 100})
    >>> print(compute_probe_margin(probe))
    0.250 [0.157, 0.333], n = 100
    """
    curve, n = probe["accuracy"], int(probe.attrs["test_samples"])
    low, _ = compute_wilson_interval(curve, n=n)
    _, high = compute_wilson_interval(curve, n=n, level=1 - 0.05 / curve.size)
    chance = float(probe.attrs["chance"])
    return compute_minimum_interval(curve - chance, low=low - chance, high=high - chance, n=n)


def compute_silhouette(
    means: Mapping[str, xr.DataArray],
    *,
    states: pd.DataFrame,
    resamples: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Compute the mean silhouette of each class by cosine distance, at every layer.

    1 is a cluster of its own, 0 a border; below 0 another class is nearer. The cosine distance
    makes the silhouette exact in O(states · classes · hidden): the mean distance to a class is one
    minus the product with the class's mean direction. Contents are resampled with all their
    states; copies of a state are not its neighbours.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``.
    states : pandas.DataFrame
        From :func:`ima.measures.labelled_states.list_labelled_states`.
    resamples : int
        Number of bootstrap resamples. Those without a state of some class are left out.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(class, layer)`` and ``draws`` ``(draw, class, layer)``. The attribute
        ``samples`` is the number of contents.

    Examples
    --------
    >>> vectors = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]] * 4)
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    >>> means = {"caption": xr.DataArray(vectors, coords, ("sample", "kind", "layer", "hidden"))}
    >>> from ima.measures.labelled_states import list_labelled_states
    >>> states = list_labelled_states(means, modalities={"caption": "image"})
    >>> compute_silhouette(means, states=states, resamples=2)["estimate"].values.tolist()
    [[1.0], [1.0]]
    """
    classes = balance_classes(get_class_labels(states, problem="modality"), seed=seed)
    rows = classes.index.to_numpy()
    names, codes = np.unique(classes.to_numpy(), return_inverse=True)
    layers = next(iter(means.values()))["layer"]
    weights, _ = draw_joint_counts(states.loc[rows], resamples=resamples, seed=seed)
    members = [codes == code for code in range(len(names))]
    complete = np.all([weights[:, member].any(axis=1) for member in members], axis=0)
    weights = weights[complete]
    sizes = np.stack([weights[:, own].sum(axis=1, dtype=np.float64) for own in members], axis=1)
    values = np.empty((len(weights), len(names), layers.size))
    for at, layer in enumerate(layers.values):
        read = partial(iterate_layer_states, means, states=states, rows=rows, layer=int(layer))
        values[..., at] = _average_silhouettes(read, codes=codes, weights=weights, sizes=sizes)
    n = int(states.loc[rows, "content"].nunique())
    return label_draws(values, ("class", "layer"), coords={"class": names, "layer": layers}, n=n)


def _average_silhouettes(
    read: Callable[[], Iterator[tuple[RowIndices, FloatArray]]],
    *,
    codes: RowIndices,
    weights: ResampleCounts,
    sizes: FloatArray,
) -> FloatArray:
    """Average the silhouettes of each class ``(draw, class)``, reading the states twice.

    `weights` ``(draw, state)`` counts a state in each draw, `sizes` ``(draw, class)`` a class.
    """
    sums: list[FloatArray] = [np.zeros(())] * sizes.shape[1]
    for places, states in read():
        directions, own = normalize_array(states), codes[places]
        for code in range(len(sums)):
            counted = weights[:, places[own == code]].astype(np.float64)
            sums[code] = sums[code] + counted @ directions[own == code]
    totals = np.zeros(sizes.shape)
    step = max(1, _BLOCK_DISTANCES // sizes.size)
    for places, states in read():
        for start in range(0, len(places), step):
            block = slice(start, start + step)
            own, counted = codes[places[block]], weights[:, places[block]].astype(np.float64)
            scores = counted * _compute_silhouettes(
                normalize_array(states[block]), codes=own, weights=counted, sums=sums, sizes=sizes
            )
            for code in range(len(sums)):
                totals[:, code] += scores[:, own == code].sum(axis=1)
    return totals / sizes


def _compute_silhouettes(
    x: FloatArray,
    *,
    codes: RowIndices,
    weights: FloatArray,
    sums: Sequence[FloatArray],
    sizes: FloatArray,
) -> FloatArray:
    """Compute the silhouette of each state ``(draw, state)`` under weights ``(draw, state)``.

    `sums` are, by class, the weighted sums of its directions, ``(draw, hidden)``.
    """
    # Sum of cosine distances from every state to every class, (class, draw, state).
    distance = np.stack([sizes[:, [code]] - own @ x.T for code, own in enumerate(sums)])
    states = np.arange(len(x))
    others = sizes[:, codes] - weights
    own = distance[codes, :, states].T
    # Distances of a state to its own copies are zero up to rounding and do not count.
    a = np.divide(own, others, out=np.zeros_like(own), where=others > 0)
    mean = distance / sizes.T[..., None]
    mean[codes, :, states] = np.inf
    b = mean.min(axis=0)
    scale = np.maximum(a, b)
    score = np.divide(b - a, scale, out=np.zeros_like(a), where=scale > 0)
    return np.where(others > 0, score, 0.0)


def compute_silhouette_margin(silhouette: xr.Dataset) -> Interval:
    """Measure F1.2 as stated: the silhouette of the class and layer where it is lowest.

    Parameters
    ----------
    silhouette : xarray.Dataset
        From :func:`compute_silhouette`.

    Returns
    -------
    Interval
        Minimum over classes and layers of the mean silhouette of a class, so that other classes
        cannot mask one that is no cluster.

    Examples
    --------
    >>> estimate = xr.DataArray([[0.25], [0.5]], dims=("class", "layer"))
    >>> silhouette = xr.Dataset({"estimate": estimate, "draws": estimate.expand_dims("draw")})
    >>> print(compute_silhouette_margin(silhouette.assign_attrs(samples=8)))
    0.250 [0.250, 0.250], n = 8
    """
    return compute_lowest_point(silhouette, n=silhouette.attrs["samples"])


def describe_silhouette(silhouette: xr.Dataset) -> str:
    """Describe the least separate class in one sentence.

    Parameters
    ----------
    silhouette : xarray.Dataset
        From :func:`compute_silhouette`.

    Examples
    --------
    >>> coords = {"class": ["image", "text"], "layer": [0, 1]}
    >>> by_class = xr.DataArray([[0.5, 0.4], [0.3, -0.1]], coords, ("class", "layer"))
    >>> silhouette = by_class.to_dataset(name="estimate")
    >>> print(describe_silhouette(silhouette))
    At layer 1, text states are closer to another class than to their own (mean silhouette \
-0.10); each class is closest to itself at 1 of 2 layers.
    >>> print(describe_silhouette(silhouette.isel(layer=[0])))
    Each class is closest to itself at 1 of 1 layers; the least separate are text states at layer \
0, with a mean silhouette of 0.30.
    """
    by_class = silhouette["estimate"].transpose("class", "layer")
    point = by_class.isel(by_class.argmin(...))
    name, layer, lowest = point["class"].item(), point["layer"].item(), float(point)
    holds = (
        f"closest to itself at {int((by_class > 0).all('class').sum())} of "
        f"{by_class.sizes['layer']} layers"
    )
    if lowest > 0:
        return (
            f"Each class is {holds}; the least separate are {name} states at layer {layer}, with a "
            f"mean silhouette of {lowest:.2f}."
        )
    return (
        f"At layer {layer}, {name} states are closer to another class than to their own (mean "
        f"silhouette {lowest:.2f}); each class is {holds}."
    )
