"""How similar the perceptual tokens of modalities are: all pairs of samples, and matched scenes.

Each modality counts as a data set of its own. Over all pairs of samples, the similarity is the
paper's PvsP. Modalities that show the same scenes also have matched pairs: one scene in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from ima.errors import ParameterError
from ima.measures.alignment import compare_ima_scores, compute_alignment_curves
from ima.measures.cones import compute_similarity_terms
from ima.stats.intervals import Interval
from ima.stats.resampling import draw_resample_counts, name_contents

#: The row that averages over all pairs.
ALL = "all"


def compare_modalities(
    means: Mapping[str, xr.DataArray], *, resamples: int = 500, seed: int = 0
) -> xr.Dataset:
    """Compute the similarity of perceptual tokens of each pair of modalities, over all pairs.

    This is the paper's PvsP, with modalities as data sets.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        By modality, ``(sample, kind, layer, hidden)``, from
        :func:`ima.interventions.unified_effects.capture_modalities`.
    resamples : int
        Bootstrap resamples of scenes.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(pair, layer)`` and ``draws`` ``(draw, pair, layer)``, cosines. The coord
        ``n`` of ``pair`` counts the scenes of both modalities.

    Examples
    --------
    >>> states = xr.DataArray(
    ...     np.random.default_rng(0).normal(size=(4, 2, 1, 8)),
    ...     {"kind": ["perceptual", "textual"], "layer": [0]},
    ...     ("sample", "kind", "layer", "hidden"),
    ... )
    >>> compare_modalities({"image": states, "depth": states + 1}, resamples=2)["pair"].item()
    'image and depth'
    """
    terms = compute_similarity_terms(means, resamples=resamples, seed=seed)
    between = terms.isel(term=np.flatnonzero(terms["curve"].to_numpy() == "PvsP"))
    names = [
        name_pair(left, right)
        for left, right in zip(between["left"].to_numpy(), between["right"].to_numpy(), strict=True)
    ]
    contents = name_contents(means)
    n = [
        len({*contents[str(left)], *contents[str(right)]})
        for left, right in zip(between["left"].to_numpy(), between["right"].to_numpy(), strict=True)
    ]
    joined = between.drop_vars(["curve", "left", "right"]).rename(term="pair")
    return joined.assign_coords(pair=names, n=("pair", n))


def name_pair(left: str, right: str) -> str:
    """Return the name of a pair of modalities.

    Examples
    --------
    >>> name_pair("image", "depth")
    'image and depth'
    """
    return f"{left} and {right}"


def align_modalities(
    means: Mapping[str, xr.DataArray], *, resamples: int = 500, seed: int = 0
) -> xr.Dataset:
    """Compute how far one scene's tokens in two modalities are more similar than other scenes'.

    Only modalities that show the same scenes in the same order have matched pairs.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        By modality, ``(sample, kind, layer, hidden)``, from
        :func:`ima.interventions.unified_effects.capture_modalities`.
    resamples : int
        Bootstrap resamples of scenes.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(pair, layer)`` and ``draws`` ``(draw, pair, layer)``: mean cosine of matched
        pairs minus that of all pairs. 0 is what scenes that are matched at random give. The coord
        ``n`` of ``pair`` counts scenes.

    Raises
    ------
    ParameterError
        If no two modalities show the same scenes.

    Examples
    --------
    >>> states = xr.DataArray(
    ...     np.eye(4)[:, None, None].repeat(2, 1),
    ...     {"kind": ["perceptual", "textual"], "layer": [0], "id": ("sample", list("abcd"))},
    ...     ("sample", "kind", "layer", "hidden"),
    ... )
    >>> aligned = align_modalities({"image": states, "depth": states}, resamples=2)
    >>> aligned["estimate"].values.tolist()
    [[0.75]]
    """
    curves, n = {}, []
    for left, right in combinations(means, 2):
        first, second = means[left], means[right]
        if first["id"].to_numpy().tolist() != second["id"].to_numpy().tolist():
            continue
        other = second.sel(kind=["perceptual"]).assign_coords(kind=["textual"])
        both = xr.concat([first.sel(kind=["perceptual"]), other], "kind")
        curve = compute_alignment_curves(
            {"pair": both.transpose(*first.dims)}, resamples=resamples, seed=seed
        )["matched minus all"]
        curves[name_pair(left, right)] = curve.isel(dataset=0, drop=True)
        n.append(len(set(first["id"].to_numpy().tolist())))
    if not curves:
        raise ParameterError(
            f"No two of the modalities {', '.join(means)} show the same scenes. Give samples of "
            "views of the same scenes, in the same order."
        )
    joined = xr.concat(list(curves.values()), "pair")
    joined = joined.assign_coords(pair=list(curves), n=("pair", n))
    return joined.transpose("draw", "pair", "layer")


def average_pairs(curves: xr.Dataset, *, seed: int = 0) -> Interval:
    """Average curves of pairs of modalities over pairs and layers 0 … L-1.

    Where there are several pairs, the interval resamples modalities, too: pairs that share a
    modality are not independent, and what holds on average must hold for other modalities. A pair
    counts as often as both of its modalities are drawn; draws without a pair are left out.

    Parameters
    ----------
    curves : xarray.Dataset
        From :func:`compare_modalities` or :func:`align_modalities`.
    seed : int
        Seed of the modalities that are drawn.

    Returns
    -------
    Interval
        A cosine, or a difference of cosines; n counts scenes.

    Examples
    --------
    >>> values = xr.DataArray([[0.25, 0.75, 1.0]], dims=("pair", "layer"))
    >>> curves = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> average_pairs(curves.assign_attrs(samples=8)).value
    0.5
    """
    inner = curves.isel(layer=slice(None, -1)).mean("layer")
    by_draw = inner["draws"].transpose("draw", "pair").to_numpy()
    weights = np.ones(by_draw.shape)
    if by_draw.shape[1] > 1:
        ends = [str(pair).split(" and ") for pair in curves["pair"].to_numpy()]
        numbers, names = pd.factorize(np.array(ends, dtype=object).ravel())
        left, right = numbers.reshape(-1, 2).T
        drawn = draw_resample_counts(len(names), resamples=len(by_draw), seed=(seed, 1))[1:]
        weights = drawn[:, left].astype(float) * drawn[:, right]
    held = weights.sum(axis=1) > 0
    draws = (weights * by_draw)[held].sum(axis=1) / weights[held].sum(axis=1)
    n = curves["n"].item() if by_draw.shape[1] == 1 and "n" in curves.coords else None
    samples = int(curves.attrs["samples"] if n is None else n)
    return Interval.of_draws(float(inner["estimate"].mean()), draws, n=samples)


def compare_curves(first: xr.Dataset, second: xr.Dataset) -> pd.DataFrame:
    """Compare the curves of two arms that read the same samples, by pair and over all pairs.

    Parameters
    ----------
    first, second : xarray.Dataset
        From :func:`compare_modalities` or :func:`align_modalities`, of the same samples, with the
        same seed and number of resamples.

    Returns
    -------
    pandas.DataFrame
        ``pair``, and ``first``, ``second`` and ``difference``, each an
        :class:`~ima.stats.intervals.Interval` of the mean over layers 0 … L-1.

    Examples
    --------
    >>> values = xr.DataArray([[0.25, 0.75, 1.0]], {"pair": ["a and b"]}, ("pair", "layer"))
    >>> curves = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> curves = curves.assign_attrs(samples=8)
    >>> compare_curves(curves, curves)["pair"].tolist()
    ['all', 'a and b']
    """
    # Of data sets of xarray, a difference has no attributes.
    apart = (first - second).assign_attrs(first.attrs)
    rows = []
    for name in (ALL, *first["pair"].to_numpy().tolist()):
        chosen = slice(None) if name == ALL else [name]
        own = [average_pairs(each.sel(pair=chosen)) for each in (first, second, apart)]
        rows.append({"pair": name} | dict(zip(("first", "second", "difference"), own, strict=True)))
    return pd.DataFrame(rows)


def compare_text_alignment(
    first: Mapping[str, xr.DataArray],
    second: Mapping[str, xr.DataArray],
    *,
    resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare how two arms align each modality with its captions.

    The alignment is the mean over layers of matched minus all pairs of perceptual and textual
    tokens.

    Parameters
    ----------
    first, second : mapping of str to xarray.DataArray
        By modality, from :func:`ima.interventions.unified_effects.capture_modalities`, of the same
        samples.
    resamples : int
        Bootstrap resamples of scenes, the same for both arms.
    seed : int
        Same seed, same intervals.

    Returns
    -------
    pandas.DataFrame
        ``modality``, with a first row for all, and ``first``, ``second`` and ``difference``, each
        an :class:`~ima.stats.intervals.Interval`; n counts scenes.

    Examples
    --------
    >>> states = xr.DataArray(
    ...     np.eye(4)[:, None, None].repeat(2, 1).repeat(2, 2),
    ...     {"kind": ["perceptual", "textual"], "layer": [0, 1]},
    ...     ("sample", "kind", "layer", "hidden"),
    ... )
    >>> compare_text_alignment({"depth": states}, {"depth": states})["first"].iloc[0].value
    0.75
    """
    rows = []
    for name in (ALL, *first):
        chosen = list(first) if name == ALL else [name]
        curves = [
            compute_alignment_curves(
                {each: arm[each] for each in chosen}, resamples=resamples, seed=seed
            )["matched minus all"]
            for arm in (first, second)
        ]
        rows.append({"modality": name} | compare_ima_scores(*curves))
    return pd.DataFrame(rows)


def tabulate_pairs(curves: xr.Dataset, *, modalities: Sequence[str]) -> pd.DataFrame:
    """Tabulate the mean over layers 0 … L-1 of each pair of modalities as a matrix.

    Parameters
    ----------
    curves : xarray.Dataset
        From :func:`compare_modalities`.
    modalities : sequence of str
        Rows and columns, in order.

    Returns
    -------
    pandas.DataFrame
        Symmetric; NaN on the diagonal.

    Examples
    --------
    >>> values = xr.DataArray([[0.25, 0.75, 1.0]], {"pair": ["a and b"]}, ("pair", "layer"))
    >>> tabulate_pairs(xr.Dataset({"estimate": values}), modalities=["a", "b"]).loc["b", "a"]
    np.float64(0.5)
    """
    mean = curves["estimate"].isel(layer=slice(None, -1)).mean("layer")
    matrix = pd.DataFrame(np.nan, index=list(modalities), columns=list(modalities))
    for left, right in combinations(modalities, 2):
        matrix.loc[left, right] = matrix.loc[right, left] = float(
            mean.sel(pair=name_pair(left, right))
        )
    return matrix
