"""Separability (F1.2): linear probe and silhouette of modality, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    FloatArray,
    balance_classes,
    get_class_labels,
    read_layer_states,
)
from ima.stats.contents import draw_joint_counts
from ima.stats.intervals import (
    Interval,
    compute_minimum_interval,
    compute_simultaneous_band,
    compute_wilson_interval,
)

ProbeSplit = Literal["sample", "task"]
_BoolArray = npt.NDArray[np.bool_]


def evaluate_linear_probe(
    means: Mapping[str, xr.DataArray],
    *,
    points: pd.DataFrame,
    problem: str = "modality",
    split: ProbeSplit = "sample",
    test_share: float = 0.3,
    permutations: int = 10,
    seed: int = 0,
    level: float = 0.95,
) -> xr.Dataset:
    """Train a linear probe on some samples and test it on others, at every layer.

    Classes are balanced in training and in test, so accuracy is balanced accuracy and chance is
    one over their number. A sample is either trained on or tested on, with all its points.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``.
    points : pandas.DataFrame
        From :func:`ima.measures.labelled_states.list_labelled_states`.
    problem : str
        What to tell apart, one of :data:`ima.measures.labelled_states.PROBE_PROBLEMS`.
    split : {"sample", "task"}
        Test on held-out samples of the same data sets; or on those of each task in turn with
        training on the other tasks, which a probe passes only on what connectors that were
        trained apart have in common.
    test_share : float
        Share of the samples that is held out.
    permutations : int
        How often to train on permuted labels.
    seed : int
        Same seed, same splits.
    level : float
        Coverage of the interval at each layer, over test samples (Wilson).

    Returns
    -------
    xarray.Dataset
        ``accuracy``, ``low``, ``high`` ``(layer,)`` and ``null`` ``(permutation, layer)``; attrs
        ``classes``, ``chance``, ``test_samples``, ``train_samples``.
    """
    classes = get_class_labels(points, problem=problem)
    folds = list(_folds(points, classes=classes, split=split, test_share=test_share, seed=seed))
    layers = next(iter(means.values()))["layer"]
    accuracy = np.zeros(layers.size)
    null = np.zeros((permutations, layers.size))
    rng = np.random.default_rng((seed, 1))
    shuffles = [[rng.permutation(len(train)) for train, _ in folds] for _ in range(permutations)]
    for at, layer in enumerate(layers.values):
        for number, (train, test) in enumerate(folds):
            x, held = (
                read_layer_states(
                    means, points=points, rows=side.index.to_numpy(), layer=int(layer)
                )
                for side in (train, test)
            )
            share = len(test) / sum(len(other) for _, other in folds)
            y, truth = train.to_numpy(), test.to_numpy()
            accuracy[at] += share * _fit(x, y).score(held, truth)
            for row, shuffle in enumerate(shuffles):
                null[row, at] += share * _fit(x, y[shuffle[number]]).score(held, truth)
    curve = xr.DataArray(accuracy, dims="layer", coords={"layer": layers})
    tested = points.loc[pd.Index(np.concatenate([t.index for _, t in folds])), "owner"].nunique()
    trained = points.loc[pd.Index(np.concatenate([t.index for t, _ in folds])), "owner"].nunique()
    low, high = compute_wilson_interval(curve, n=tested, level=level)
    return xr.Dataset(
        {"accuracy": curve, "low": low, "high": high, "null": (("permutation", "layer"), null)},
        attrs={
            "problem": problem,
            "split": split,
            "classes": sorted(classes.unique()),
            "chance": 1 / classes.nunique(),
            "test_samples": int(tested),
            "train_samples": int(trained),
        },
    )


def compute_probe_margin(probed: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F1.2: by how much the probe beats chance at the layer where it is weakest.

    Parameters
    ----------
    probed : xarray.Dataset
        From :func:`evaluate_linear_probe`.
    level : float
        Coverage, simultaneous over layers (Bonferroni): layers share their test samples.

    Returns
    -------
    Interval
        Of the minimum over layers of balanced accuracy minus chance.
    """
    curve, n = probed["accuracy"], int(probed.attrs["test_samples"])
    low, high = compute_wilson_interval(curve, n=n, level=1 - (1 - level) / curve.size)
    chance = float(probed.attrs["chance"])
    return compute_minimum_interval(curve - chance, low=low - chance, high=high - chance, n=n)


def compute_silhouette(
    means: Mapping[str, xr.DataArray],
    *,
    points: pd.DataFrame,
    problem: str = "modality",
    resamples: int = 200,
    permutations: int = 10,
    seed: int = 0,
) -> xr.Dataset:
    """Compute the silhouette of the classes by cosine distance, at every layer.

    The silhouette of a point is (b − a) / max(a, b), with a the mean distance to its own class and
    b to the nearest other (Rousseeuw 1987): 1 is a cluster of its own, 0 a border, below 0
    another class is nearer. The cosine distance makes it exact in O(points · classes · hidden):
    the mean distance to a class is one minus the product with the class's mean direction.

    Samples are resampled with all their points; copies of a point are not its neighbours.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``.
    points : pandas.DataFrame
        From :func:`ima.measures.labelled_states.list_labelled_states`.
    problem : str
        The classes, one of :data:`ima.measures.labelled_states.PROBE_PROBLEMS`.
    resamples : int
        Number of bootstrap resamples.
    permutations : int
        How often to permute the classes.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(layer,)``, ``by_class`` ``(class, layer)``, ``draws`` ``(draw, layer)``,
        ``class_draws`` ``(draw, class, layer)`` and ``null`` ``(permutation, layer)``; attrs
        ``classes``, ``samples``.
    """
    classes = balance_classes(get_class_labels(points, problem=problem), seed=seed)
    rows = classes.index.to_numpy()
    names, codes = np.unique(classes.to_numpy(), return_inverse=True)
    layers = next(iter(means.values()))["layer"]
    weights, _ = draw_joint_counts(points.loc[rows], resamples=resamples, seed=seed)
    uniform = weights[:1]
    rng = np.random.default_rng((seed, 1))
    shuffles = [rng.permutation(codes) for _ in range(permutations)]
    scores = np.empty((1 + resamples, layers.size))
    by_class = np.full((1 + resamples, len(names), layers.size), np.nan)
    members = [codes == code for code in range(len(names))]
    null = np.empty((permutations, layers.size))
    for at, layer in enumerate(layers.values):
        x = read_layer_states(means, points=points, rows=rows, layer=int(layer))
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        single = _silhouettes(x, codes=codes, weights=uniform)[0]
        for number, row in enumerate(weights):
            own = single if number == 0 else _silhouettes(x, codes=codes, weights=row[None])[0]
            scores[number, at] = np.average(own, weights=row)
            for code, rows_of in enumerate(members):
                if row[rows_of].any():
                    by_class[number, code, at] = np.average(own[rows_of], weights=row[rows_of])
        for number, shuffle in enumerate(shuffles):
            null[number, at] = _silhouettes(x, codes=shuffle, weights=uniform).mean()
    return xr.Dataset(
        {
            "estimate": ("layer", scores[0]),
            "by_class": (("class", "layer"), by_class[0]),
            "class_draws": (("draw", "class", "layer"), by_class[1:]),
            "draws": (("draw", "layer"), scores[1:]),
            "null": (("permutation", "layer"), null),
        },
        coords={"layer": layers, "class": names},
        attrs={
            "problem": problem,
            "classes": list(names),
            "samples": int(points.loc[rows, "owner"].nunique()),
        },
    )


def compute_silhouette_margin(scored: xr.Dataset, *, level: float = 0.95) -> Interval:
    """Measure F1.2 a second way: the silhouette of the class and layer where it is lowest.

    Parameters
    ----------
    scored : xarray.Dataset
        From :func:`compute_silhouette`.
    level : float
        Coverage, simultaneous over classes and layers.

    Returns
    -------
    Interval
        Of the minimum over classes and layers of the mean silhouette of a class: a class that is no
        cluster does not hide behind the others. Resamples that hold no point of a class are left
        out.
    """
    draws = scored["class_draws"].dropna("draw")
    low, high = compute_simultaneous_band(draws, level=level)
    return compute_minimum_interval(
        scored["by_class"], low=low, high=high, n=int(scored.attrs["samples"])
    )


def _fit(x: FloatArray, y: npt.NDArray[np.object_]) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(x, y)


def _folds(
    points: pd.DataFrame, *, classes: pd.Series[str], split: str, test_share: float, seed: int
) -> Iterator[tuple[pd.Series[str], pd.Series[str]]]:
    """Yield balanced training and test classes that share no sample."""
    own = points.loc[classes.index]
    sides = _sides(own, split=split, test_share=test_share, seed=seed)
    for number, (fitted, held) in enumerate(sides):
        train, test = classes[fitted], classes[held]
        if train.nunique() < classes.nunique() or test.nunique() < classes.nunique():
            message = (
                f"Each side of a split by {split} must hold every class of "
                f"{', '.join(sorted(classes.unique()))}. Give more samples or more data sets."
            )
            raise ParameterError(message)
        yield balance_classes(train, seed=seed + number), balance_classes(test, seed=seed + number)


def _sides(
    own: pd.DataFrame, *, split: str, test_share: float, seed: int
) -> list[tuple[_BoolArray, _BoolArray]]:
    """Return which points are trained on and which tested, per fold."""
    if split not in ("sample", "task"):
        raise UnknownNameError.among(kind="split", asked=split, available=("sample", "task"))
    if not 0 < test_share < 1:
        message = f"test_share must lie between 0 and 1; got {test_share}."
        raise ParameterError(message)
    rng = np.random.default_rng(seed)
    chosen: set[int] = set()
    for _, group in own.groupby("stratum", sort=True):
        owners = rng.permutation(np.sort(group["owner"].unique()))
        chosen.update(owners[: max(1, round(test_share * len(owners)))].tolist())
    held = own["owner"].isin(chosen).to_numpy()
    if split == "sample":
        return [(~held, held)]
    tasks = sorted(own["task"].unique())
    if len(tasks) < 2:
        message = f"A split by task needs two tasks; found {', '.join(tasks) or 'none'}."
        raise ParameterError(message)
    # Tasks may show the same samples, so those tested on one task are not trained on in another.
    within = [(own["task"] == task).to_numpy() for task in tasks]
    return [(~task & ~held, task & held) for task in within]


def _silhouettes(x: FloatArray, *, codes: npt.NDArray[np.int64], weights: FloatArray) -> FloatArray:
    """Return the silhouette of each point ``(draw, point)`` under weights ``(draw, point)``."""
    member = codes[None] == np.unique(codes)[:, None]
    heavy = weights[:, None] * member[None]
    size = heavy.sum(2)
    # Sum of cosine distances from every point to every class.
    far = size[:, None] - np.einsum("ph,dch->dpc", x, heavy @ x)
    inside = np.take_along_axis(size, codes[None], axis=1) - weights
    own = np.take_along_axis(far, codes[None, :, None], axis=2)[..., 0]
    # Distances of a point to its own copies are zero up to rounding and count for nothing.
    a = np.divide(own, inside, out=np.zeros_like(own), where=inside > 0)
    mean = np.divide(far, size[:, None], out=np.full_like(far, np.inf), where=size[:, None] > 0)
    np.put_along_axis(mean, codes[None, :, None], np.inf, axis=2)
    b = mean.min(2)
    scale = np.maximum(a, b)
    score = np.divide(b - a, scale, out=np.zeros_like(a), where=(scale > 0) & np.isfinite(scale))
    return np.where(inside > 0, score, 0.0)
