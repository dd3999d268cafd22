"""Curves under treatments: retrieval against brute force, and a planted sink that hides pairs."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ima.measures.treatments import TREATMENTS
from ima.studies import treated_curves
from ima.studies.treated_curves import bound_curve, compute_group_retrieval, compute_treated_curves

DIMS = ("sample", "kind", "layer", "hidden")
KINDS = ["perceptual", "textual"]


def make_means(seed=0, n=30, noise=0.3):
    """Return means of two layers: nothing in common at the first, matched pairs at the second."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(n, 1, 1, 24))
    first = rng.normal(size=(n, 2, 1, 24))
    states = np.concatenate([first, content + noise * rng.normal(size=(n, 2, 1, 24))], axis=2)
    return xr.DataArray(states, {"kind": KINDS, "layer": [0, 1]}, DIMS)


def retrieve(a, b, rows):
    """Return the hits of samples by a loop over all pairs."""
    hits = []
    for left, right in ((a, b), (b, a)):
        for row in rows:
            centred = [side[rows] - side[rows].mean(axis=0) for side in (left, right)]
            own = centred[0][rows.index(row)]
            cosines = [
                own @ other / np.linalg.norm(own) / np.linalg.norm(other) for other in centred[1]
            ]
            hits.append(rows[int(np.argmax(cosines))] == row)
    return hits


def test_retrieval_and_its_null_equal_the_loop_over_pairs():
    means = make_means(noise=1.5)
    groups = np.array(list("aaabbbbbcc") * 3)
    curve = compute_group_retrieval(means, groups=groups, resamples=50)
    for layer in (0, 1):
        a, b = (means.isel(layer=layer).sel(kind=kind).to_numpy() for kind in KINDS)
        hits = [
            hit
            for label in "abc"
            for hit in retrieve(a, b, np.flatnonzero(groups == label).tolist())
        ]
        assert curve["estimate"].sel(layer=layer) == pytest.approx(np.mean(hits))
    assert curve["null"].to_numpy() == pytest.approx(3 / 30)  # three groups, one hit each
    rng = np.random.default_rng(1)
    shuffled = []
    for _ in range(200):
        order = np.arange(30)
        for label in "abc":
            rows = np.flatnonzero(groups == label)
            order[rows] = rng.permutation(rows)
        pairs = xr.concat([means.sel(kind=[KINDS[0]]), means.sel(kind=[KINDS[1]])[order]], "kind")
        shuffled.append(
            float(compute_group_retrieval(pairs, groups=groups, resamples=1)["estimate"][1])
        )
    assert np.mean(shuffled) == pytest.approx(3 / 30, abs=4 * np.std(shuffled) / np.sqrt(200))


def test_each_treatment_has_its_curves_on_the_same_resamples():
    plain = make_means()
    sunk = plain + 200 * xr.DataArray([1.0, 0.0], {"kind": KINDS}, "kind") * xr.DataArray(
        np.eye(24)[3], dims="hidden"
    ) * xr.DataArray(np.linspace(0.5, 1.5, 30), dims="sample")
    by_treatment = dict.fromkeys(TREATMENTS, plain) | {"raw": sunk.transpose(*DIMS)}
    curves = compute_treated_curves(by_treatment, resamples=20, seed=4)
    assert set(curves) == set(treated_curves.TREATED_MEASURES)
    for curve in curves.values():
        assert curve["draws"].sizes == {"draw": 20, "treatment": 4, "layer": 2}
        same = curve.sel(treatment=["without sinks", "standardised"])
        np.testing.assert_allclose(*same["draws"].transpose("treatment", ...))
    retrieval = curves[treated_curves.RETRIEVAL]["estimate"].sel(layer=1)
    assert retrieval.sel(treatment="raw") < 0.5 < 0.9 < retrieval.sel(treatment="without sinks")
    matched = curves[treated_curves.MATCHED_MINUS_ALL]["estimate"].sel(layer=1)
    assert matched.sel(treatment="raw") < 0.3 < 0.7 < matched.sel(treatment="without sinks")
    bounded = bound_curve(curves[treated_curves.RETRIEVAL])
    assert (bounded["low"] <= bounded["high"]).all()
    xr.testing.assert_equal(bound_curve(bounded), bounded)


class PlantedCaches:
    """Caches whose outputs share a direction only where a sink is left out."""

    def __init__(self):
        rng = np.random.default_rng(2)
        shape = (20, 2, 3, 16)
        axis = np.zeros(16)
        axis[0] = 6
        quiet = rng.normal(size=shape)
        # Percepts and texts point to opposite sides of one axis, but for a sink of each percept.
        loud = quiet + axis * np.array([1.0, -1.0])[:, None, None]
        self.arrays = {"means/resid_post/mean": quiet, "sinks/mean_without": quiet}
        self.arrays["sinks/sum_squares_without"] = (quiet**2).sum(axis=0, keepdims=True)
        for name in ("attn_out", "mlp_out"):
            own = f"without_sinks/{name}"
            self.arrays |= {f"means/{name}/mean": loud[:, :, 1:], f"{own}/mean": quiet[:, :, 1:]}
            self.arrays[f"{own}/sum_squares"] = (quiet[:, :, 1:] ** 2).sum(axis=0, keepdims=True)
        held = dict.fromkeys(("attn_out", "mlp_out", "resid_post"))
        means = type("Node", (), {"children": held})
        self.trees = {"data": {"means": means}}

    def read_arrays(self, path):
        """Return the array at a path, as a cache set does."""
        values = self.arrays[path]
        dims = ("unit", *DIMS[1:]) if "squares" in path else DIMS
        first = 3 - values.shape[2]
        coords = {"kind": KINDS, "layer": range(first, 3)}
        return {"data": xr.DataArray(values, coords, dims)}


def test_outputs_are_compared_with_the_stream_that_the_block_reads_under_each_treatment():
    gaps = treated_curves.compute_treated_block_gaps(PlantedCaches(), resamples=20)
    assert gaps["estimate"].dims == ("treatment", "hook_point")
    assert gaps["treatment"].to_numpy().tolist() == list(TREATMENTS)
    assert gaps["hook_point"].to_numpy().tolist() == ["attn_out", "mlp_out"]
    raw = gaps["estimate"].sel(treatment="raw")
    assert (raw < -0.3).all()
    treated = gaps["estimate"].drop_sel(treatment="raw")
    assert (abs(treated) < 0.1).all()
    # The stream of the layer before, and not that of the same layer.
    without = treated.sel(treatment="without sinks", hook_point="attn_out")
    states = PlantedCaches().arrays["means/resid_post/mean"]

    def average(states):
        unit = states / np.linalg.norm(states, axis=-1, keepdims=True)
        return np.mean([(unit[:, 0, at] @ unit[:, 1, at].T).mean() for at in range(2)])

    assert float(without) == pytest.approx(average(states[:, :, 1:]) - average(states[:, :, :2]))
