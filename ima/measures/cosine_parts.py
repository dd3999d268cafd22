"""What a cosine over all pairs is made of: sinks, rogue dimensions, and all other dimensions.

A mean cosine over all pairs is a product of two mean directions, so it is a sum over dimensions::

    PvsT = Σ_h mean_i(P_i,h / |P_i|) · mean_j(T_j,h / |T_j|)

Without sinks, the sum over the rogue dimensions and the sum over all others are two parts of PvsT.
The third part is what sinks add: PvsT with them minus PvsT without.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ima.hook_points import TOKEN_KINDS
from ima.measures.alignment import (
    average_inner_layers,
    compute_alignment_curve,
    subtract_layer_one,
)
from ima.measures.similarity import (
    check_same_layers,
    compute_pair_cosine_draws,
    correct_shared_pair_draws,
    normalize_array,
)
from ima.measures.treatments import find_rogue_dimensions
from ima.stats.intervals import Interval
from ima.stats.resampling import draw_dataset_weights, label_draws

COSINE_PARTS = ("sinks", "rogue dimensions", "other dimensions")


def decompose_alignment(
    means: Mapping[str, xr.DataArray],
    *,
    without_sinks: Mapping[str, xr.DataArray],
    sum_squares: Mapping[str, xr.DataArray],
    resamples: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Decompose PvsT at each layer into what sinks, rogue and other dimensions contribute.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        Raw means of each data set, ``(sample, kind, layer, hidden)``, all from one language model.
    without_sinks : mapping of str to xarray.DataArray
        Means over the tokens that are no sinks, with the same dims.
    sum_squares : mapping of str to xarray.DataArray
        Sums of squares over these tokens, ``(unit, kind, layer, hidden)``: they decide which
        dimensions are rogue (:func:`ima.measures.treatments.find_rogue_dimensions`).
    resamples : int
        Number of bootstrap resamples of contents; the rogue dimensions stay.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(part, dataset, layer)`` and ``draws`` ``(draw, part, dataset, layer)``,
        cosines. The sum over ``part`` is PvsT of the raw means, in the data and in each resample.

    Raises
    ------
    ParameterError
        If layers differ, or a data set lacks a kind of token.

    Examples
    --------
    >>> dims = ("sample", "kind", "layer", "hidden")
    >>> states = xr.DataArray(
    ...     [[[[4.0, 3.0]], [[4.0, -3.0]]]] * 2,
    ...     dims=dims,
    ...     coords={"kind": ["perceptual", "textual"], "layer": [0]},
    ... )
    >>> squares = (states**2).sum("sample").expand_dims("unit")
    >>> parts = decompose_alignment(
    ...     {"a": states}, without_sinks={"a": states}, sum_squares={"a": squares}, resamples=2
    ... )
    >>> parts["estimate"].sel(dataset="a", layer=0).round(2).to_numpy().tolist()
    [0.0, 0.64, -0.36]
    """
    layers = check_same_layers(means, hint="Give caches of one language model.")
    weights, _, n = draw_dataset_weights(means, resamples=resamples, seed=seed)
    values = np.empty((1 + resamples, len(COSINE_PARTS), len(means), layers.size))
    whole = compute_alignment_curve(means, resamples=resamples, seed=seed)
    values[0, 0], values[1:, 0] = whole["estimate"].to_numpy(), whole["draws"].to_numpy()
    for number, (name, raw) in enumerate(means.items()):
        kept = without_sinks[name].assign_coords(raw.coords)
        rogue = find_rogue_dimensions(sum_squares[name]).to_numpy()
        own, rows = weights[name], np.arange(raw.sizes["sample"])
        for at in range(layers.size):
            sides = [
                normalize_array(kept.isel(layer=at).sel(kind=kind).to_numpy())
                for kind in TOKEN_KINDS
            ]
            for part, chosen in ((1, rogue[at]), (2, ~rogue[at])):
                left, right = (side[:, chosen] for side in sides)
                values[:, part, number, at] = correct_shared_pair_draws(
                    compute_pair_cosine_draws(own @ left, own @ right),
                    weights_a=own,
                    weights_b=own,
                    matched_cosines=compute_pair_cosine_draws(left, right),
                    rows_a=rows,
                    rows_b=rows,
                )
    values[:, 0] -= values[:, 1:].sum(axis=1)
    coords = {"part": list(COSINE_PARTS), "dataset": list(means), "layer": layers}
    return label_draws(values, ("part", "dataset", "layer"), coords=coords, n=n)


def compute_part_intervals(parts: xr.Dataset, *, before: xr.Dataset | None = None) -> xr.Dataset:
    """Compute how much each part contributes to three numbers of the paper.

    Parameters
    ----------
    parts : xarray.Dataset
        From :func:`decompose_alignment`.
    before : xarray.Dataset or None
        The same of the model before training, on the same samples. None leaves out the change.

    Returns
    -------
    xarray.Dataset
        ``estimate``, ``low`` and ``high`` (95 %) ``(number, part)``, cosines, means over data sets.
        ``number``: the IMA score (mean over layers 0 … L-1), the rise with depth (last layer minus
        layer 1), and the change in training (IMA score minus that before). ``part``: *all* and
        :data:`COSINE_PARTS`.

    Examples
    --------
    >>> values = xr.DataArray(
    ...     [[[0.1, 0.2, 0.4]], [[0.3, 0.3, 0.1]], [[0.0, 0.1, 0.1]]],
    ...     dims=("part", "dataset", "layer"), coords={"part": list(COSINE_PARTS)},
    ... )
    >>> parts = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> found = compute_part_intervals(parts.assign_attrs(samples=9))
    >>> found["estimate"].sel(number="rise with depth").round(2).to_numpy().tolist()
    [0.0, 0.2, -0.2, 0.0]
    """
    score = average_inner_layers(parts)
    numbers = {"IMA score": score, "rise with depth": subtract_layer_one(parts)}
    if before is not None:
        numbers["change in training"] = score - average_inner_layers(before)
    rows = {}
    for number, curves in numbers.items():
        total = curves.sum("part").expand_dims(part=["all"])
        every = xr.concat([total, curves], "part")
        intervals = [
            Interval.of_draws(
                float(every["estimate"].sel(part=part)),
                every["draws"].sel(part=part).to_numpy(),
                n=int(parts.attrs["samples"]),
            )
            for part in every["part"].to_numpy()
        ]
        rows[number] = [(one.value, one.low, one.high) for one in intervals]
    values = np.array(list(rows.values()))
    coords = {"number": list(rows), "part": ["all", *COSINE_PARTS]}
    return xr.Dataset(
        {
            name: (("number", "part"), values[..., place])
            for place, name in enumerate(("estimate", "low", "high"))
        },
        coords=coords,
        attrs={"samples": parts.attrs["samples"]},
    )


def tabulate_parts(intervals: xr.Dataset) -> pd.DataFrame:
    """Tabulate the parts of the numbers of the paper, each with its interval.

    Parameters
    ----------
    intervals : xarray.Dataset
        From :func:`compute_part_intervals`.

    Returns
    -------
    pandas.DataFrame
        Numbers in rows, ``PvsT`` and its parts in columns.

    Examples
    --------
    >>> values = xr.DataArray([[0.5, 0.25]], dims=("number", "part"))
    >>> intervals = xr.Dataset({"estimate": values, "low": values - 0.1, "high": values + 0.1})
    >>> table = tabulate_parts(intervals.assign_coords(number=["rise"], part=["all", "sinks"]))
    >>> table.loc["rise", "PvsT"], table.loc["rise", "sinks"]
    ('0.500 [0.400, 0.600]', '0.250 [0.150, 0.350]')
    """
    ends = [intervals[end].transpose("number", "part") for end in ("estimate", "low", "high")]
    cells = [
        ["{:.3f} [{:.3f}, {:.3f}]".format(*map(float, cell)) for cell in zip(*row, strict=True)]
        for row in zip(*(end.to_numpy() for end in ends), strict=True)
    ]
    columns = ["PvsT" if part == "all" else str(part) for part in intervals["part"].to_numpy()]
    return pd.DataFrame(cells, index=list(intervals["number"].to_numpy()), columns=columns)
