"""The parts of a cosine add up to it, and each equals its double loop."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ima.measures.alignment import (
    compute_alignment_curve,
    compute_depth_rise,
    compute_ima_score,
)
from ima.measures.cosine_parts import (
    COSINE_PARTS,
    compute_part_intervals,
    decompose_alignment,
)

DIMS = ("sample", "kind", "layer", "hidden")


def make_states(seed, n=12, hidden=7, sink=0.0):
    """Return raw means, means without a sink, and their squares, of three layers."""
    rng = np.random.default_rng(seed)
    without = rng.normal(size=(n, 2, 3, hidden)) + 0.4
    without[..., 2] += 6  # a rogue dimension
    raw = without.copy()
    raw[:, 0, 1:, 4] += sink
    coords = {"kind": ["perceptual", "textual"], "layer": [0, 1, 2]}
    squares = (without**2).sum(axis=0, keepdims=True)
    return (
        xr.DataArray(raw, dims=DIMS, coords=coords),
        xr.DataArray(without, dims=DIMS, coords=coords),
        xr.DataArray(squares, dims=("unit", *DIMS[1:]), coords=coords),
    )


def make_sets(seed=0, sink=0.0):
    sides = {name: make_states(seed + place, sink=sink) for place, name in enumerate("ab")}
    names = ("means", "without_sinks", "sum_squares")
    return {
        kind: {name: own[place] for name, own in sides.items()} for place, kind in enumerate(names)
    }


def test_the_parts_add_up_to_the_raw_cosine_in_every_resample():
    given = make_sets(sink=50.0)
    parts = decompose_alignment(**given, resamples=20, seed=3)
    whole = compute_alignment_curve(given["means"], resamples=20, seed=3)
    for name in ("estimate", "draws"):
        np.testing.assert_allclose(
            parts[name].sum("part").transpose(*whole[name].dims), whole[name], atol=1e-12
        )


def test_each_part_is_its_double_loop():
    given = make_sets(sink=50.0)
    parts = decompose_alignment(**given, resamples=2)["estimate"].sel(dataset="b")
    states = given["without_sinks"]["b"].to_numpy()
    raw = given["means"]["b"].to_numpy()
    for layer in range(3):
        p, t = (states[:, kind, layer] for kind in (0, 1))
        products = [
            a * b / np.linalg.norm(a) / np.linalg.norm(b) for a in p for b in t
        ]  # by dimension
        expected = np.mean(products, axis=0)
        assert parts.sel(part="rogue dimensions")[layer] == pytest.approx(expected[2])
        assert parts.sel(part="other dimensions")[layer] == pytest.approx(
            expected.sum() - expected[2]
        )
        p, t = (raw[:, kind, layer] for kind in (0, 1))
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a in p for b in t]
        assert parts.sel(part="sinks")[layer] == pytest.approx(np.mean(cosines) - expected.sum())
    assert parts.sel(part="sinks", layer=0) == pytest.approx(0, abs=1e-12)
    assert abs(parts.sel(part="sinks", layer=2)) > 0.05


def test_the_numbers_of_the_paper_are_split_into_parts():
    given, start = make_sets(sink=50.0), make_sets(seed=7)
    parts = decompose_alignment(**given, resamples=50)
    before = decompose_alignment(**start, resamples=50)
    found = compute_part_intervals(parts, before=before)
    curve = compute_alignment_curve(given["means"], resamples=50)
    score, rise = compute_ima_score(curve), compute_depth_rise(curve)
    whole = found.sel(part="all")
    assert whole["estimate"].sel(number="IMA score") == pytest.approx(score.value)
    assert whole["low"].sel(number="IMA score") == pytest.approx(score.low)
    assert whole["high"].sel(number="rise with depth") == pytest.approx(rise.high)
    change = (
        score.value - compute_ima_score(compute_alignment_curve(start["means"], resamples=50)).value
    )
    assert whole["estimate"].sel(number="change in training") == pytest.approx(change)
    np.testing.assert_allclose(
        found["estimate"].sel(part=list(COSINE_PARTS)).sum("part"), whole["estimate"], atol=1e-12
    )
    assert "change in training" not in compute_part_intervals(parts)["number"]
