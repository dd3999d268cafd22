"""Gaps between cones (F1.1): by how much tokens resemble their own kind more than the other kind.

With the curves of :mod:`ima.measures.cones`, F1.1 is the minimum over layers of
min(P intra − PvsT, T intra − PvsT): over all pairs of samples of a data set, or over those whose
texts have the same wording and over those whose texts do not.
"""

from __future__ import annotations

import pandas as pd
import xarray as xr

from ima.errors import ParameterError
from ima.measures.cones import GROUP_PAIRS, WITHIN_CURVES, average_terms_by_curve
from ima.measures.treatments import name_least_treatment
from ima.stats.intervals import Interval, compute_lowest_point


def compute_cone_gaps(terms: xr.Dataset, *, sides: tuple[str, str] = WITHIN_CURVES) -> xr.Dataset:
    """Subtract PvsT from the similarity of each kind of tokens with itself.

    Parameters
    ----------
    terms : xarray.Dataset
        From :func:`ima.measures.cones.compute_similarity_terms` or
        :func:`ima.measures.cones.compute_group_terms`. Data sets without
        perceptual tokens are left out.
    sides : tuple of str
        The curves from which PvsT is subtracted: :data:`WITHIN_CURVES` or :data:`BETWEEN_CURVES`.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(side, layer)`` and ``draws`` ``(draw, side, layer)``, means over data sets
        of the differences of cosines. Their two parts are ``own`` ``(side, layer)`` and ``across``
        ``(layer,)``.

    Raises
    ------
    ParameterError
        If a curve is missing, as PvsP is where only one data set was given.

    Examples
    --------
    >>> terms = xr.Dataset(
    ...     {"estimate": (("term", "layer"), [[0.2], [0.5], [0.6]])},
    ...     coords={
    ...         "curve": ("term", ["PvsT", "P intra", "T intra"]),
    ...         "left": ("term", ["qa"] * 3),
    ...         "right": ("term", ["qa"] * 3),
    ...     },
    ... ).assign(draws=lambda d: d["estimate"].expand_dims("draw"))
    >>> compute_cone_gaps(terms)["estimate"].round(2).values.tolist()
    [[0.3], [0.4]]
    """
    with_media = terms["left"].to_numpy()[(terms["curve"] == "PvsT").to_numpy()]
    present = terms["left"].isin(with_media) & terms["right"].isin(with_media)
    averaged = average_terms_by_curve(terms.isel(term=present.to_numpy()))
    missing = [name for name in ("PvsT", *sides) if name not in averaged["curve"]]
    if missing:
        raise ParameterError(
            f"F1.1 compares PvsT with {' and '.join(sides)}; missing: {', '.join(missing)}. PvsP "
            "and TvsT are between data sets: give the caches of at least two data sets with media."
        )
    across = averaged[["estimate", "draws"]].sel(curve="PvsT", drop=True)
    own = averaged[["estimate", "draws"]].sel(curve=list(sides)).rename(curve="side")
    parts = {"own": own["estimate"], "across": across["estimate"]}
    return (own - across).assign(parts).assign_attrs(averaged.attrs)


def compute_group_gaps(terms: xr.Dataset) -> xr.Dataset:
    """Compute the gaps over pairs of the same group and over pairs of different groups.

    Parameters
    ----------
    terms : xarray.Dataset
        From :func:`ima.measures.cones.compute_group_terms`.

    Returns
    -------
    xarray.Dataset
        As from :func:`compute_cone_gaps`, with the dim ``pairs``.

    Raises
    ------
    ParameterError
        If no data set has two groups.

    Examples
    --------
    >>> curve = ["PvsT", "P intra", "T intra"] * 2
    >>> sets = {"left": ("term", ["qa"] * 6), "right": ("term", ["qa"] * 6)}
    >>> pairs = ["same"] * 3 + ["different"] * 3
    >>> coords = {"curve": ("term", curve), "pairs": ("term", pairs), **sets}
    >>> values = [[0.2], [0.5], [0.6], [0.2], [0.3], [0.4]]
    >>> terms = xr.Dataset({"estimate": (("term", "layer"), values)}, coords)
    >>> terms["draws"] = terms["estimate"].expand_dims("draw")
    >>> dict(compute_group_gaps(terms)["estimate"].sizes)
    {'pairs': 2, 'side': 2, 'layer': 1}
    """
    own = {pairs: terms.isel(term=(terms["pairs"] == pairs).to_numpy()) for pairs in GROUP_PAIRS}
    if not own["different"].sizes["term"]:
        raise ParameterError(
            "Each data set has a single group, so there are no pairs of different groups."
        )
    gaps = [compute_cone_gaps(part) for part in own.values()]
    joined = xr.concat(gaps, dim=pd.Index(GROUP_PAIRS, name="pairs"))
    return joined.assign_attrs(terms.attrs)


def compute_cone_margin(gaps: xr.Dataset) -> Interval:
    """Measure F1.1: how far PvsT stays below both other curves where it comes closest.

    Parameters
    ----------
    gaps : xarray.Dataset
        From :func:`compute_cone_gaps` or :func:`compute_group_gaps`; several treatments are on the
        dim ``treatment``.

    Returns
    -------
    Interval
        The minimum over all dims, a difference of cosines, with the interval of a minimum.

    Examples
    --------
    >>> gaps = xr.Dataset({"estimate": (("side", "layer"), [[0.3], [0.4]])}, attrs={"samples": 8})
    >>> print(compute_cone_margin(gaps.assign(draws=gaps["estimate"].expand_dims("draw"))))
    0.300 [0.300, 0.300], n = 8
    """
    return compute_lowest_point(gaps, n=gaps.attrs["samples"])


def describe_cone_gaps(gaps: xr.Dataset) -> str:
    """Describe the smallest gap in one sentence: its direction, size and place.

    Parameters
    ----------
    gaps : xarray.Dataset
        From :func:`compute_cone_gaps`, or from :func:`compute_group_gaps` with wordings as groups;
        several treatments are labelled on the dim ``treatment``.

    Examples
    --------
    >>> coords = {"side": ["P intra", "T intra"], "layer": [0, 1]}
    >>> own = xr.DataArray([[0.7, 0.6], [0.5, 0.1]], coords, ("side", "layer"))
    >>> across = xr.DataArray([0.2, 0.3], {"layer": [0, 1]}, "layer")
    >>> gaps = xr.Dataset({"estimate": own - across, "own": own, "across": across})
    >>> print(describe_cone_gaps(gaps))
    At layer 1, texts resemble each other less (0.10) than percepts resemble texts (0.30), within \
data sets; both kinds resemble their own kind more at 1 of 2 layers.
    >>> names = pd.Index(["standardised", "without sinks"], name="treatment")
    >>> describe_cone_gaps(xr.concat([gaps, gaps + 0.1], names)).rpartition("; ")[2]
    'both kinds resemble their own kind more at 1 of 2 layers (standardised, which gives the \
smallest gap of 2 treatments).'
    >>> print(describe_cone_gaps(gaps.isel(layer=[0])))
    At 1 of 1 layers, percepts and texts resemble their own kind more than each other; the \
smallest gap is 0.30, of texts at layer 0 (0.50 against 0.20), within data sets.
    """
    estimate = gaps["estimate"]
    if "treatment" in estimate.dims:
        # Layers and curves are those of the treatment that decides.
        smallest = estimate.min([dim for dim in estimate.dims if dim != "treatment"]).to_series()
        least = gaps.sel(treatment=smallest.idxmin(), drop=True)
        return name_least_treatment(describe_cone_gaps(least), smallest.to_dict(), quantity="gap")
    lowest = gaps.isel(estimate.argmin(...))
    gap, layer = float(lowest["estimate"]), int(lowest["layer"])
    own, across = (f"{float(lowest[name]):.2f}" for name in ("own", "across"))
    kind = "percepts" if str(lowest["side"].item()).startswith("P") else "texts"
    above = (estimate > 0).all([dim for dim in estimate.dims if dim != "layer"])
    holds = f"{int(above.sum())} of {above.size} layers"
    among = f"{'between' if 'vs' in lowest['side'].item() else 'within'} data sets"
    if "pairs" in lowest.coords:
        same = lowest["pairs"].item() == "same"
        among = f"among samples whose texts have {'the same' if same else 'different'} wording"
    if gap > 0:
        return (
            f"At {holds}, percepts and texts resemble their own kind more than each other; the "
            f"smallest gap is {gap:.2f}, of {kind} at layer {layer} ({own} against {across}), "
            f"{among}."
        )
    return (
        f"At layer {layer}, {kind} resemble each other less ({own}) than percepts resemble texts "
        f"({across}), {among}; both kinds resemble their own kind more at {holds}."
    )


def describe_shared_cones(between: xr.Dataset) -> str:
    """Say whether one cone of each kind holds for all data sets.

    Parameters
    ----------
    between : xarray.Dataset
        From :func:`compute_cone_gaps`, with the curves between data sets as sides.

    Examples
    --------
    >>> own = xr.DataArray([[0.1], [0.5]], {"side": ["TvsT", "PvsP"], "layer": [0]})
    >>> gaps = xr.Dataset({"estimate": own - 0.3}, attrs={"samples": 8})
    >>> print(describe_shared_cones(gaps.assign(draws=gaps["estimate"].expand_dims("draw"))))
    Between data sets, the smallest gap is -0.200 [-0.200, -0.200], n = 8, at layer 0. So texts of \
two data sets have less in common than percepts and texts of one, and no cone holds all texts.
    """
    smallest, estimate = compute_cone_margin(between), between["estimate"]
    lowest = estimate.isel(estimate.argmin(...))
    kind = "percepts" if str(lowest["side"].item()).startswith("P") else "texts"
    found = f"Between data sets, the smallest gap is {smallest}, at layer {int(lowest['layer'])}."
    if smallest.low > 0:
        return f"{found} So one cone of each kind holds for all data sets."
    if smallest.high < 0:
        return (
            f"{found} So {kind} of two data sets have less in common than percepts and texts of "
            f"one, and no cone holds all {kind}."
        )
    return f"{found} Its interval reaches zero, so one cone for all {kind} is not shown."
