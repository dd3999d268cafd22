"""Controls compared (F3.4): the IMA score of a model against its scores under controls.

Noise and random blocks are drawn many times, and each draw reads few samples. Among k samples the
matched pairs would be 1/k of all pairs, and would raise the score of a model that aligns them. The
score of a draw is therefore over pairs of *different* samples, which the IMA score approaches as
the number of samples grows::

    score(c, i) = mean over d, l = 0 … L-1 and j ≠ k of cos(P_d,j,l , T_d,k,l) under c in draw i
    F3.4 as tested = score(model) − max over controls c of score(c, i)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures.alignment import compute_ima_score, compute_ima_score_draws
from ima.measures.similarity import normalize_array
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.stats.resampling import draw_dataset_weights

#: The model itself among the conditions, and the control that is not drawn at random.
UNCHANGED, SEPARATED = "as it is", "separated"
#: The controls that are drawn at random, in words.
DRAWN_CONTROLS: Mapping[str, str] = {
    "noise": "noise inputs",
    "random blocks": "random weights",
}
#: All controls, in words.
CONTROLS: Mapping[str, str] = {**DRAWN_CONTROLS, SEPARATED: "blocked attention"}
#: Fewer samples leave too few pairs to resample.
FEWEST_SAMPLES = 3


def compute_margin_over_controls(
    curve: xr.Dataset, controls: Mapping[str, xr.Dataset]
) -> tuple[Interval, str]:
    """Measure F3.4: the IMA score minus the largest score of the same model under a control.

    Parameters
    ----------
    curve : xarray.Dataset
        From :func:`ima.measures.alignment.compute_alignment_curve`.
    controls : mapping of str to xarray.Dataset
        By control, from the same samples, with the same seed and number of resamples.

    Returns
    -------
    interval : Interval
        The difference; contents are resampled in both at once.
    largest : str
        The control with the largest score.

    Examples
    --------
    >>> def make_curve(score):
    ...     values = xr.DataArray([[score, 0.0]], dims=("dataset", "layer"))
    ...     curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    ...     return curve.assign_attrs(samples=8)
    >>> controls = {"noise": make_curve(0.25), "random blocks": make_curve(0.125)}
    >>> margin, largest = compute_margin_over_controls(make_curve(0.75), controls)
    >>> margin.value, largest
    (0.5, 'noise')
    """
    value, draws = compute_ima_score_draws(curve)
    scores = {name: compute_ima_score_draws(control) for name, control in controls.items()}
    largest = max(scores, key=lambda name: scores[name][0])
    # The largest is chosen again in each draw: chosen once, its lead would be taken for certain.
    control_draws = np.max([own for _, own in scores.values()], axis=0)
    n = int(curve.attrs["samples"])
    margin = Interval.of_draws(value - scores[largest][0], draws - control_draws, n=n)
    return margin, largest


def describe_margin_over_controls(curve: xr.Dataset, controls: Mapping[str, xr.Dataset]) -> str:
    """Describe :func:`compute_margin_over_controls` in one sentence.

    Parameters
    ----------
    curve, controls
        As in :func:`compute_margin_over_controls`; controls are named as in :data:`CONTROLS`.

    Examples
    --------
    >>> def make_curve(score):
    ...     values = xr.DataArray([[score, 0.0]], dims=("dataset", "layer"))
    ...     curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    ...     return curve.assign_attrs(samples=8)
    >>> controls = {"noise": make_curve(0.25), "separated": make_curve(0.125)}
    >>> describe_margin_over_controls(make_curve(0.75), controls)
    'The IMA score is 0.750. The highest score under a control is 0.250, with noise inputs.'
    """
    _, largest = compute_margin_over_controls(curve, controls)
    own, other = (compute_ima_score(each).value for each in (curve, controls[largest]))
    return (
        f"The IMA score is {own:.3f}. The highest score under a control is {other:.3f}, with "
        f"{CONTROLS[largest]}."
    )


def compute_pair_cosines(means: xr.DataArray) -> xr.DataArray:
    """Compute the cosine of each sample's percepts with each sample's text.

    Parameters
    ----------
    means : xarray.DataArray
        ``(sample, kind, layer, hidden)`` of one data set.

    Returns
    -------
    xarray.DataArray
        ``(sample, other)``: percepts of ``sample`` and text of ``other``, mean over layers
        0 … L-1.

    Examples
    --------
    >>> states = np.eye(2)[:, None, None] * np.ones((2, 2, 2, 1))  # own text alike, others not
    >>> coords = {"kind": ["perceptual", "textual"]}
    >>> means = xr.DataArray(states, coords, ("sample", "kind", "layer", "hidden"))
    >>> compute_pair_cosines(means).values
    array([[1., 0.],
           [0., 1.]])
    """
    inner = means.isel(layer=slice(None, -1)).transpose("layer", "kind", "sample", "hidden")
    p, t = (normalize_array(inner.sel(kind=kind).to_numpy()) for kind in TOKEN_KINDS)
    cosines = np.mean(p @ t.transpose(0, 2, 1), axis=0)
    coords = {"id": means["id"]} if "id" in means.coords else {}
    return xr.DataArray(cosines, coords, ("sample", "other"))


def compute_draw_scores(
    fixed: Mapping[str, Mapping[str, xr.DataArray]],
    drawn: Mapping[str, xr.DataArray],
    *,
    resamples: int = 20,
    seed: int = 0,
) -> xr.Dataset:
    """Compute the scores of a model and of its controls in each draw of the controls.

    Parameters
    ----------
    fixed : mapping of str to mapping
        By condition that is not drawn (:data:`UNCHANGED`, :data:`SEPARATED`) and data set, from
        :func:`compute_pair_cosines`.
    drawn : mapping of str to xarray.DataArray
        By data set ``(control, draw, sample, other)``, of the same samples.
    resamples : int
        Number of bootstrap resamples of contents in each draw, other ones in each.
    seed : int
        Same seed, same resamples.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(condition, draw)`` and ``resampled`` ``(condition, draw, resample)``: means
        over data sets and pairs of different samples.

    Raises
    ------
    ParameterError
        If a data set has fewer than three samples.

    Examples
    --------
    >>> own = xr.DataArray(np.full((3, 3), 0.5), dims=("sample", "other"))
    >>> drawn = (own * 0.5).expand_dims(control=["noise"], draw=2)
    >>> scores = compute_draw_scores({UNCHANGED: {"caption": own}}, {"caption": drawn})
    >>> scores["estimate"].to_series().unstack("draw").to_numpy()
    array([[0.5 , 0.5 ],
           [0.25, 0.25]])
    """
    first = next(iter(drawn.values()))
    draws = first.sizes["draw"]
    weights = _draw_pair_weights(drawn, draws=draws, resamples=resamples, seed=seed)
    conditions = [*fixed, *first["control"].to_numpy().tolist()]
    values = np.zeros((len(conditions), draws, 1 + resamples))
    for name, array in drawn.items():
        cosines = array.transpose("control", "draw", "sample", "other").to_numpy()
        same = [np.broadcast_to(each[name], cosines.shape[1:]) for each in fixed.values()]
        values += _average_pairs(np.concatenate([same, cosines]), weights[name]) / len(drawn)
    return xr.Dataset(
        {
            "estimate": (("condition", "draw"), values[..., 0]),
            "resampled": (("condition", "draw", "resample"), values[..., 1:]),
        },
        coords={"condition": conditions},
    )


def _draw_pair_weights(
    arrays: Mapping[str, xr.DataArray], *, draws: int, resamples: int, seed: int
) -> dict[str, FloatArray]:
    """Return weights ``(draw, 1 + resample, sample)`` of each data set; number 0 is uniform."""
    fewest = min(array.sizes["sample"] for array in arrays.values())
    if fewest < FEWEST_SAMPLES:
        raise ParameterError(
            f"Pairs of different samples need at least {FEWEST_SAMPLES} samples of each data set "
            f"in a draw; got {fewest}."
        )
    wanted = draws * resamples
    # A resample of a single content has no pair. Of three contents, one in nine has no other.
    every = draw_dataset_weights(arrays, resamples=4 * wanted + 100, seed=seed)[0]
    paired = np.all([(own.counts > 0).sum(axis=1) > 1 for own in every.values()], axis=0)
    rows = np.flatnonzero(paired[1:])[:wanted] + 1
    parts = {}
    for name, own in every.items():
        uniform = np.broadcast_to(own[:1], (draws, 1, own.shape[1]))
        parts[name] = np.concatenate([uniform, own[rows].reshape(draws, resamples, -1)], axis=1)
    return parts


def _average_pairs(cosines: FloatArray, weights: FloatArray) -> FloatArray:
    """Average over pairs of different samples: ``(condition, draw, 1 + resample)``."""
    every = np.einsum("irj,cijk,irk->cir", weights, cosines, weights, optimize=True)
    matched = np.einsum("irj,cijj->cir", weights**2, cosines)
    averaged: FloatArray = (every - matched) / (1 - (weights**2).sum(axis=-1))
    return averaged


def compute_margin_over_draws(scores: xr.Dataset) -> Interval:
    """Measure F3.4 as tested: the score of the model minus the largest control of each draw.

    Parameters
    ----------
    scores : xarray.Dataset
        From :func:`compute_draw_scores`.

    Returns
    -------
    Interval
        Median over draws, and the range of 95 % of all draws and resamples: it covers the draw of
        the control and the contents. n counts draws.

    Examples
    --------
    >>> values = [[0.5, 0.5], [0.25, 0.0], [0.0, 0.75]]
    >>> scores = xr.Dataset(
    ...     {"estimate": (("condition", "draw"), values)},
    ...     coords={"condition": ["as it is", "noise", "random blocks"]},
    ... )
    >>> scores = scores.assign(resampled=scores["estimate"].expand_dims("resample", axis=-1))
    >>> compute_margin_over_draws(scores).value  # 0.25 over noise, -0.25 over random blocks
    0.0
    """
    lead = scores.sel(condition=UNCHANGED) - scores.drop_sel(condition=UNCHANGED).max("condition")
    low, high = np.quantile(lead["resampled"], [0.025, 0.975])
    value = float(lead["estimate"].median())
    return Interval.around(value, low=low, high=high, n=scores.sizes["draw"])


def compute_draw_p(scores: xr.Dataset) -> dict[str, float]:
    """Compute the exact p-value of the model among the draws of each control.

    If the model's weights were one more draw of random weights, each of its ranks would be equally
    likely.

    Parameters
    ----------
    scores : xarray.Dataset
        From :func:`compute_draw_scores`.

    Returns
    -------
    dict of str to float
        By control that is drawn: one plus the number of draws that score at least as high as the
        model, over one plus the number of draws.

    Examples
    --------
    >>> scores = xr.Dataset(
    ...     {"estimate": (("condition", "draw"), [[0.5, 0.5, 0.5], [0.25, 0.75, 0.0]])},
    ...     coords={"condition": ["as it is", "noise"]},
    ... )
    >>> compute_draw_p(scores)
    {'noise': 0.5}
    """
    draws = scores.sizes["draw"]
    return {name: (1 + draws - below) / (1 + draws) for name, below in _count_below(scores).items()}


def _count_below(scores: xr.Dataset) -> dict[str, int]:
    """Count the draws of each drawn control that score below the model."""
    own = scores["estimate"].sel(condition=UNCHANGED)
    return {
        name: int((scores["estimate"].sel(condition=name) < own).sum())
        for name in DRAWN_CONTROLS
        if name in scores["condition"]
    }


def describe_draw_scores(scores: xr.Dataset) -> str:
    """Describe in one sentence how many draws of each control the model exceeds.

    Parameters
    ----------
    scores : xarray.Dataset
        From :func:`compute_draw_scores`.

    Examples
    --------
    >>> scores = xr.Dataset(
    ...     {"estimate": (("condition", "draw"), [[0.5, 0.5], [0.25, 0.75], [0.6, 0.6]])},
    ...     coords={"condition": ["as it is", "noise", "separated"]},
    ... )
    >>> print(describe_draw_scores(scores))
    The IMA score, 0.500, is above 1 of 2 draws of noise inputs and below the score with blocked \
attention, 0.600.
    """
    estimate, draws = scores["estimate"], scores.sizes["draw"]
    own = float(estimate.sel(condition=UNCHANGED)[0])
    parts = [
        f"above {count} of {draws} draws of {CONTROLS[name]}"
        for name, count in _count_below(scores).items()
    ]
    if SEPARATED in scores["condition"]:
        other = float(estimate.sel(condition=SEPARATED)[0])
        side = "above" if own > other else "below"
        parts.append(f"{side} the score with {CONTROLS[SEPARATED]}, {other:.3f}")
    listed = " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
    return f"The IMA score, {own:.3f}, is {listed}."
