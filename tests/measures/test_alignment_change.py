"""The change of alignment: paired over samples, and only where both have perceptual tokens."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ima.errors import ParameterError
from ima.measures.alignment import compute_alignment_curves
from ima.measures.alignment_change import compute_alignment_change


def make_means(*, shared=0.0, n=30, layers=5, seed=0):
    """Make states whose perceptual part holds so much of the sample's text."""
    rng = np.random.default_rng(seed)
    text, other = rng.normal(size=(2, n, layers, 16))
    states = np.stack([other + shared * text, text], axis=1)
    coords = {"kind": ["perceptual", "textual"], "layer": range(layers)}
    coords["id"] = ("sample", [f"s{at}" for at in range(n)])
    return xr.DataArray(states, coords, ("sample", "kind", "layer", "hidden"))


def test_it_is_the_difference_of_matched_minus_all_over_the_inner_layers():
    before, after = make_means(), make_means(shared=1.0)
    curves = [
        compute_alignment_curves({"d": own}, resamples=20)["matched minus all"]["estimate"]
        for own in (before, after)
    ]
    expected = (curves[1] - curves[0]).isel(layer=slice(None, -1)).mean()
    change = compute_alignment_change(after, without=before, resamples=200)
    assert change.value == pytest.approx(float(expected))
    assert change.low > 0.4
    assert change.n == 30


def test_nothing_changed_is_exactly_zero():
    own = make_means(shared=0.5)
    change = compute_alignment_change(own, without=own, resamples=50)
    assert (change.value, change.low, change.high) == (0, 0, 0)


def test_layers_without_perceptual_tokens_do_not_count():
    before, after = make_means(), make_means(shared=1.0)
    kept = after.where((after["kind"] == "textual") | (after["layer"] <= 1))
    change = compute_alignment_change(kept, without=before, resamples=50)
    first = slice(0, 3)  # the last of these layers is left out
    alone = compute_alignment_change(
        after.isel(layer=first), without=before.isel(layer=first), resamples=50
    )
    assert change == alone
    gone = after.where(after["kind"] == "textual")
    with pytest.raises(ParameterError, match="No layer among 0, 1, 2, 3 has perceptual tokens"):
        compute_alignment_change(gone, without=before)


def test_other_samples_or_layers_are_refused():
    own = make_means()
    renamed = own.assign_coords(id=("sample", [f"t{at}" for at in range(30)]))
    for other in (renamed, own.isel(layer=slice(3))):
        with pytest.raises(ParameterError, match="the same samples and layers"):
            compute_alignment_change(own, without=other)
