"""Implicit alignment (F3): how similar perceptual and textual tokens are, and the IMA score.

Figure 7 of the paper, for mean-pooled tokens P and T of data set d at layers l = 0 … L::

    PvsT(d, l) = mean_ij cos(P_d,i,l , T_d,j,l)
    IMA score  = mean over d and l = 0 … L-1 of PvsT(d, l)

The released code also has a version that takes P at the model's input: P_d,i,0. All pairs include
the matched ones (i = j), as in the paper. A direction that all states of a layer share raises every
cosine. It cancels in the difference of matched and all pairs, which is what F3.1 and F3.2 test::

    gain(d, l) = mean_i cos(P_d,i,l , T_d,i,l) − PvsT(d, l)

One module because all statistics of F3.1 and F3.2 read the same curves and their draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from ima.errors import ParameterError, UnknownNameError
from ima.hook_points import TOKEN_KINDS
from ima.measures.similarity import (
    average_directions,
    check_same_layers,
    compute_matched_cosines,
    compute_pair_cosine_draws,
    compute_weighted_means,
    correct_shared_pair_draws,
    normalize_array,
)
from ima.stats import FloatArray
from ima.stats.correlation import correlate_rows
from ima.stats.intervals import Interval
from ima.stats.resampling import count_contents, draw_dataset_weights, label_draws

#: The layer of the perceptual tokens: that of the textual tokens, or layer 0.
ALIGNMENT_VERSIONS = ("same layer", "input")
#: The pairs of samples of a curve.
ALIGNMENT_PAIRS = ("all", "matched minus all")


def compute_alignment_curve(
    means: Mapping[str, xr.DataArray],
    *,
    version: Literal["same layer", "input"] = "same layer",
    pairs: Literal["all", "matched minus all"] = "all",
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compute PvsT at each layer within each data set.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Mean-pooled tokens of each data set, ``(sample, kind, layer, hidden)``, all from one
        language model. The coord ``id`` on ``sample`` identifies contents that data sets share.
    version : {"same layer", "input"}
        Layer of the perceptual tokens.
    pairs : {"all", "matched minus all"}
        The mean over all pairs of samples, which include the matched ones, or how far the mean over
        matched pairs exceeds it: percepts and text of the same sample.
    resamples : int
        Number of bootstrap resamples of contents.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(dataset, layer)`` and ``draws`` ``(draw, dataset, layer)``, cosines.

    Raises
    ------
    UnknownNameError
        If the version or the pairs do not exist.
    ParameterError
        If no data sets are given, layers differ, or a data set lacks a kind of token.

    Examples
    --------
    >>> states = xr.DataArray(
    ...     [[[[1.0, 0.0]], [[0.0, 1.0]]], [[[1.0, 0.0]], [[1.0, 0.0]]]],
    ...     dims=("sample", "kind", "layer", "hidden"),
    ...     coords={"kind": ["perceptual", "textual"], "layer": [0]},
    ... )
    >>> compute_alignment_curve({"caption": states}, resamples=2)["estimate"].values
    array([[0.5]])
    """
    if version not in ALIGNMENT_VERSIONS:
        raise UnknownNameError.among(kind="version", asked=version, available=ALIGNMENT_VERSIONS)
    if pairs not in ALIGNMENT_PAIRS:
        raise UnknownNameError.among(kind="pairs", asked=pairs, available=ALIGNMENT_PAIRS)
    curves = compute_alignment_curves(means, version=version, resamples=resamples, seed=seed)
    return curves[pairs]


def compute_alignment_curves(
    means: Mapping[str, xr.DataArray],
    *,
    version: Literal["same layer", "input"] = "same layer",
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, xr.Dataset]:
    """Compute the curves of all pairs and of matched minus all pairs, from one pass over the means.

    Parameters
    ----------
    means, version, resamples, seed
        As for :func:`compute_alignment_curve`.

    Returns
    -------
    dict of str to xarray.Dataset
        For each of :data:`ALIGNMENT_PAIRS`, as from :func:`compute_alignment_curve`.

    Raises
    ------
    UnknownNameError
        If the version does not exist.
    ParameterError
        If no data sets are given, layers differ, or a data set lacks a kind of token.

    Examples
    --------
    >>> states = xr.DataArray(
    ...     [[[[1.0, 0.0]], [[1.0, 0.0]]], [[[0.0, 1.0]], [[0.0, 1.0]]]],
    ...     dims=("sample", "kind", "layer", "hidden"),
    ...     coords={"kind": ["perceptual", "textual"], "layer": [0]},
    ... )
    >>> curves = compute_alignment_curves({"caption": states}, resamples=2)
    >>> {pairs: curve["estimate"].item() for pairs, curve in curves.items()}
    {'all': 0.5, 'matched minus all': 0.5}
    """
    if version not in ALIGNMENT_VERSIONS:
        raise UnknownNameError.among(kind="version", asked=version, available=ALIGNMENT_VERSIONS)
    layers = check_same_layers(means, hint="Give caches of one language model.")
    weights, _, n = draw_dataset_weights(means, resamples=resamples, seed=seed)
    shape = (1 + resamples, len(means), layers.size)
    values = {pairs: np.empty(shape) for pairs in ALIGNMENT_PAIRS}
    for number, (name, array) in enumerate(means.items()):
        own, rows = weights[name], np.arange(array.sizes["sample"])
        for at in range(layers.size):
            textual = array.isel(layer=at).sel(kind="textual")
            if at == 0 or version == "same layer":
                perceptual = array.isel(layer=at).sel(kind="perceptual")
                (perceptual_means,) = compute_weighted_means(perceptual, [own])
            (textual_means,) = compute_weighted_means(textual, [own])
            matched = compute_matched_cosines(perceptual, textual, rows_a=rows, rows_b=rows)
            over_all = correct_shared_pair_draws(
                compute_pair_cosine_draws(perceptual_means, textual_means),
                weights_a=own,
                weights_b=own,
                matched_cosines=matched,
                rows_a=rows,
                rows_b=rows,
            )
            values["all"][:, number, at] = over_all
            values["matched minus all"][:, number, at] = own @ matched - over_all
    coords = {"dataset": list(means), "layer": layers}
    return {
        pairs: label_draws(own, ("dataset", "layer"), coords=coords, n=n, means=means)
        for pairs, own in values.items()
    }


def compute_ima_score(curve: xr.Dataset) -> Interval:
    """Compute the IMA score: the mean of PvsT over layers 0 … L-1 and data sets.

    Parameters
    ----------
    curve : xarray.Dataset
        From :func:`compute_alignment_curve`, or some of its data sets.

    Returns
    -------
    Interval
        The score, a cosine.

    Examples
    --------
    >>> values = xr.DataArray([[0.2, 0.4, 0.9]], dims=("dataset", "layer"))
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> print(compute_ima_score(curve.assign_attrs(samples=8)))  # leaves out the last layer
    0.300 [0.300, 0.300], n = 8
    """
    value, draws = compute_ima_score_draws(curve)
    return Interval.of_draws(value, draws, n=int(curve.attrs["samples"]))


def compute_ima_score_draws(curve: xr.Dataset) -> tuple[float, FloatArray]:
    """Compute the IMA score and its value in every resample.

    Scores of models that read the same samples, drawn with the same seed, can be compared draw by
    draw.

    Parameters
    ----------
    curve : xarray.Dataset
        From :func:`compute_alignment_curve`.

    Returns
    -------
    score : float
        The score.
    draws : ndarray
        ``(draw,)``.

    Examples
    --------
    >>> values = xr.DataArray([[0.25, 0.75, 1.0]], dims=("dataset", "layer"))
    >>> compute_ima_score_draws(
    ...     xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    ... )
    (0.5, array([0.5]))
    """
    inner = average_inner_layers(curve)
    return float(inner["estimate"]), inner["draws"].to_numpy()


def compare_ima_scores(first: xr.Dataset, second: xr.Dataset) -> dict[str, Interval]:
    """Compare two IMA scores of the same contents, resampled together.

    Parameters
    ----------
    first, second : xarray.Dataset
        From :func:`compute_alignment_curve` of the same contents with the same seed and number of
        resamples.

    Returns
    -------
    dict of str to Interval
        The scores, ``first`` and ``second``, and their ``difference``, first minus second; n counts
        contents.

    Examples
    --------
    >>> values = xr.DataArray([[0.25, 0.75, 1.0]], dims=("dataset", "layer"))
    >>> one = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> other = (one / 2).assign_attrs(samples=8)
    >>> print(compare_ima_scores(one.assign_attrs(samples=8), other)["difference"])
    0.250 [0.250, 0.250], n = 8
    """
    own, other = average_inner_layers(first), average_inner_layers(second)
    return {
        name: Interval.of_draws(
            float(score["estimate"]), score["draws"], n=int(first.attrs["samples"])
        )
        for name, score in (("first", own), ("second", other), ("difference", own - other))
    }


def average_inner_layers(curve: xr.Dataset) -> xr.Dataset:
    """Average a curve over layers 0 … L-1 and data sets, as in the IMA score.

    Parameters
    ----------
    curve : xarray.Dataset
        ``estimate`` ``(..., dataset, layer)`` and ``draws`` ``(draw, ..., dataset, layer)``.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(...)`` and ``draws`` ``(draw, ...)``.

    Examples
    --------
    >>> values = xr.DataArray([[0.25, 0.75, 1.0]], dims=("dataset", "layer"))
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> float(average_inner_layers(curve)["estimate"])
    0.5
    """
    return curve[["estimate", "draws"]].isel(layer=slice(None, -1)).mean(("dataset", "layer"))


def subtract_layer_one(curve: xr.Dataset) -> xr.Dataset:
    """Subtract a curve at layer 1 from that at the last layer, mean over data sets.

    Layer 0 is the input of the model, which no block has read yet.

    Parameters
    ----------
    curve : xarray.Dataset
        As for :func:`average_inner_layers`.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(...)`` and ``draws`` ``(draw, ...)``.

    Examples
    --------
    >>> values = xr.DataArray([[0.0, 0.25, 0.75]], dims=("dataset", "layer"))
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> float(subtract_layer_one(curve)["estimate"])
    0.5
    """
    mean = curve[["estimate", "draws"]].mean("dataset")
    return mean.isel(layer=-1, drop=True) - mean.isel(layer=1, drop=True)


def correlate_with_depth(curve: xr.Dataset) -> Interval:
    """Compute Spearman's correlation of PvsT, averaged over data sets, with the layer.

    Parameters
    ----------
    curve : xarray.Dataset
        From :func:`compute_alignment_curve`.

    Returns
    -------
    Interval
        In [-1, 1]; n counts layers. The interval is over samples and at least as wide as random
        walks over as many layers give. It excludes 0 only where both do. See also
        :func:`compute_depth_p`.

    Examples
    --------
    >>> values = xr.DataArray([np.linspace(0, 1, 12)], dims=("dataset", "layer"))
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> print(correlate_with_depth(curve.assign_attrs(samples=8)))
    1.000 [0.049, 1.000], n = 12
    """
    mean = curve[["estimate", "draws"]].mean("dataset")
    curves = np.vstack([mean["estimate"], mean["draws"]])
    value, *draws = _correlate_with_order(curves)
    over_samples = Interval.of_draws(value, draws, n=curves.shape[1])
    return _widen_by_random_walks(over_samples, points=[curves.shape[1]])


def _correlate_with_order(values: FloatArray) -> FloatArray:
    """Correlate each row ``(row, point)`` with the order of its points."""
    order = np.arange(values.shape[1], dtype=np.float64)
    return correlate_rows(np.broadcast_to(order, values.shape), values)


def _correlate_random_walks(points: Sequence[int], *, walks: int, seed: int) -> FloatArray:
    """Correlate random walks with the order of their points; mean over curves, ``(walk,)``.

    Neighbouring layers and steps are alike, as the points of a walk are. Random orders of the
    points, which are not, would call most curves ordered.
    """
    rng = np.random.default_rng(seed)
    draws = np.zeros(walks)
    for count in points:
        paths = rng.standard_normal((walks, count)).cumsum(axis=1)
        draws += _correlate_with_order(paths) / len(points)
    return draws


def _widen_by_random_walks(interval: Interval, *, points: Sequence[int]) -> Interval:
    """Widen the interval of a mean rank correlation to what random walks give."""
    draws = _correlate_random_walks(points, walks=9999, seed=0)
    reach = float(np.quantile(np.abs(draws), 0.95, method="higher"))
    low, high = max(-1.0, interval.value - reach), min(1.0, interval.value + reach)
    return Interval.around(
        interval.value, low=min(interval.low, low), high=max(interval.high, high), n=interval.n
    )


def compute_depth_rise(curve: xr.Dataset) -> Interval:
    """Measure F3.1: how much higher a curve is at the last layer than at layer 1, over data sets.

    Parameters
    ----------
    curve : xarray.Dataset
        From :func:`compute_alignment_curve`.

    Returns
    -------
    Interval
        A difference of cosines.

    Examples
    --------
    >>> values = xr.DataArray([[0.0, 0.25, 0.75]], dims=("dataset", "layer"))
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> compute_depth_rise(curve.assign_attrs(samples=8)).value
    0.5
    """
    rise = subtract_layer_one(curve)
    return Interval.of_draws(float(rise["estimate"]), rise["draws"], n=curve.attrs["samples"])


def describe_depth_rise(curve: xr.Dataset, *, quantity: str = "PvsT") -> str:
    """Describe :func:`compute_depth_rise` in one sentence.

    Parameters
    ----------
    curve : xarray.Dataset
        From :func:`compute_alignment_curve`.
    quantity : str
        What the curve holds, the subject of the sentence.

    Examples
    --------
    >>> values = xr.DataArray([[0.0, 0.25, 0.75]], {"layer": range(3)}, ("dataset", "layer"))
    >>> describe_depth_rise(xr.Dataset({"estimate": values}))
    'PvsT rises from 0.250 at layer 1 to 0.750 at layer 2.'
    """
    mean = curve["estimate"].mean("dataset")
    last = int(mean["layer"][-1])
    return _describe_change(
        quantity, mean[[1, -1]].to_numpy(), starts="at layer 1", ends=f"at layer {last}"
    )


def _describe_change(quantity: str, values: FloatArray, *, starts: str, ends: str) -> str:
    """Say how a quantity changes between its two values."""
    first, last = (f"{value:.3f}" for value in values)
    if first == last:
        return f"{quantity} is the same {starts} and {ends}: {first}."
    verb = "rises" if values[1] > values[0] else "falls"
    return f"{quantity} {verb} from {first} {starts} to {last} {ends}."


def compute_depth_p(curve: xr.Dataset, *, seed: int = 0) -> float:
    """Compute the two-sided p-value of the correlation of PvsT with depth, against random walks.

    Parameters
    ----------
    curve : xarray.Dataset
        From :func:`compute_alignment_curve`.
    seed : int
        Seed of the random walks.

    Returns
    -------
    float
        Share of random walks over as many layers whose correlation is at least as far from 0. The
        curve counts as one of them, so p is never 0.

    Examples
    --------
    >>> values = xr.DataArray([[0.1, 0.2, 0.3, 0.4]], dims=("dataset", "layer"))
    >>> bool(0.2 < compute_depth_p(xr.Dataset({"estimate": values})) < 0.3)
    True
    """
    values = curve["estimate"].mean("dataset").to_numpy()
    observed = abs(float(_correlate_with_order(values[None])[0]))
    draws = np.abs(_correlate_random_walks([len(values)], walks=9999, seed=seed))
    return (1 + int(np.sum(draws >= observed - 1e-12))) / 10_000


def correlate_with_step(runs: Mapping[str, Mapping[int, xr.Dataset]]) -> Interval:
    """Compute Spearman's correlation of the IMA score with the training step.

    Parameters
    ----------
    runs : mapping of str to mapping of int to xarray.Dataset
        By run and training step, from :func:`compute_alignment_curve` with the same seed and
        number of resamples; within a run of the same samples.

    Returns
    -------
    Interval
        Mean over runs, in [-1, 1]; n counts the steps of all runs. The interval is over contents
        and at least as wide as random walks over as many steps give. It excludes 0 only where both
        do.

    Raises
    ------
    ParameterError
        If a run has fewer than three steps.

    Examples
    --------
    >>> def make_curve(score):
    ...     values = xr.DataArray([[score, 0.0]], dims=("dataset", "layer"))
    ...     curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    ...     return curve.assign_attrs(samples=8)
    >>> run = {step: make_curve(-0.01 * step) for step in (0, 10, 20)}
    >>> print(correlate_with_step({"run": run}))  # three steps are too few
    -1.000 [-1.000, 0.000], n = 3
    """
    scores = _read_score_paths(runs, fewest=3, what="an order needs at least 3")
    value, *draws = np.mean([_correlate_with_order(own) for own in scores], axis=0)
    points = [own.shape[1] for own in scores]
    over_contents = Interval.of_draws(value, draws, n=sum(points))
    return _widen_by_random_walks(over_contents, points=points)


def _read_score_paths(
    runs: Mapping[str, Mapping[int, xr.Dataset]], *, fewest: int, what: str
) -> list[FloatArray]:
    """Return the IMA scores of each run, ``(1 + draw, step)``; row 0 holds the estimates."""
    paths = []
    for name, steps in runs.items():
        if len(steps) < fewest:
            raise ParameterError(f"{name} has {len(steps)} steps; {what}.")
        scores = [compute_ima_score_draws(steps[step]) for step in sorted(steps)]
        paths.append(np.stack([np.append(value, draws) for value, draws in scores], axis=1))
    return paths


def compute_training_change(runs: Mapping[str, Mapping[int, xr.Dataset]]) -> Interval:
    """Measure F3.2: a score after training minus the score before the first step.

    Parameters
    ----------
    runs : mapping of str to mapping of int to xarray.Dataset
        As in :func:`correlate_with_step`. The score is the mean of the curves over data sets and
        layers 0 … L-1: the IMA score if they hold PvsT.

    Returns
    -------
    Interval
        The difference, mean over runs. The interval is over contents; runs are not resampled. n
        counts contents, each once even if several runs read it.

    Raises
    ------
    ParameterError
        If a run has a single step.

    Examples
    --------
    >>> def make_curve(score):
    ...     values = xr.DataArray([[score, 0.0]], dims=("dataset", "layer"))
    ...     curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    ...     return curve.assign_attrs(contents=frozenset("abcdefgh"))
    >>> print(compute_training_change({"run": {0: make_curve(0.75), 20: make_curve(0.25)}}))
    -0.500 [-0.500, -0.500], n = 8
    """
    scores = _read_score_paths(runs, fewest=2, what="a change needs 2")
    value, *draws = np.mean([own[:, -1] - own[:, 0] for own in scores], axis=0)
    n = count_contents(steps[min(steps)] for steps in runs.values())
    return Interval.of_draws(value, draws, n=n)


def describe_training_change(
    runs: Mapping[str, Mapping[int, xr.Dataset]], *, quantity: str = "the IMA score"
) -> str:
    """Describe :func:`compute_training_change` in one sentence.

    Parameters
    ----------
    runs : mapping of str to mapping of int to xarray.Dataset
        As in :func:`compute_training_change`.
    quantity : str
        Name of the score.

    Examples
    --------
    >>> def make_curve(score):
    ...     values = xr.DataArray([[score, 0.0]], dims=("dataset", "layer"))
    ...     return xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> describe_training_change({"run": {0: make_curve(0.75), 20: make_curve(0.25)}})
    'Over 1 run, the IMA score falls from 0.750 before training to 0.250 after it.'
    """
    scores = _read_score_paths(runs, fewest=2, what="a change needs 2")
    ends = np.mean([own[0, [0, -1]] for own in scores], axis=0)
    changed = _describe_change(quantity, ends, starts="before training", ends="after it")
    return f"Over {len(runs)} run{'s' * (len(runs) > 1)}, {changed}"


def stack_alignment_curves(curves: Mapping[str, xr.Dataset], *, dim: str) -> xr.Dataset:
    """Stack several alignment curves along a new dim, each averaged over data sets.

    Parameters
    ----------
    curves : mapping of str to xarray.Dataset
        By label on the new dim, from :func:`compute_alignment_curve`.
    dim : str
        Name of the new dim.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(dim, layer)`` and ``draws`` ``(draw, dim, layer)``.

    Examples
    --------
    >>> values = xr.DataArray([[0.25, 0.5]], dims=("dataset", "layer"))
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> stacked = stack_alignment_curves({"as it is": curve, "noise": curve}, dim="condition")
    >>> dict(stacked["estimate"].sizes)
    {'condition': 2, 'layer': 2}
    """
    averaged = [curve[["estimate", "draws"]].mean("dataset") for curve in curves.values()]
    first = next(iter(curves.values()))
    return xr.concat(averaged, dim=pd.Index(list(curves), name=dim)).assign_attrs(first.attrs)


def compute_cross_layer_cosine(means: xr.DataArray) -> xr.DataArray:
    """Compare the perceptual tokens of every layer with the textual tokens of every layer.

    Parameters
    ----------
    means : xarray.DataArray
        ``(sample, kind, layer, hidden)`` of one data set.

    Returns
    -------
    xarray.DataArray
        ``(perceptual, textual)``, mean cosine over all pairs of samples; both dims hold labels of
        layers.

    Examples
    --------
    >>> states = np.eye(2)[None, None] * np.ones((3, 2, 1, 1))  # layer 0 and 1 are orthogonal
    >>> coords = {"kind": ["perceptual", "textual"], "layer": [0, 1]}
    >>> means = xr.DataArray(states, coords, ("sample", "kind", "layer", "hidden"))
    >>> compute_cross_layer_cosine(means).values
    array([[1., 0.],
           [0., 1.]])
    """
    sides = [
        np.stack(
            [
                _average_vectors(means.isel(layer=at).sel(kind=kind))
                for at in range(means.sizes["layer"])
            ]
        )
        for kind in TOKEN_KINDS
    ]
    layers = means["layer"].to_numpy()
    return xr.DataArray(
        sides[0] @ sides[1].T,
        dims=("perceptual", "textual"),
        coords={"perceptual": layers, "textual": layers},
    )


def _average_vectors(vectors: xr.DataArray) -> FloatArray:
    """Average directions ``(sample, hidden)``, block by block where Dask holds the vectors."""
    if vectors.chunks is None:
        mean: FloatArray = normalize_array(vectors.to_numpy()).mean(axis=0)
        return mean
    blockwise: FloatArray = average_directions(vectors).to_numpy()
    return blockwise
