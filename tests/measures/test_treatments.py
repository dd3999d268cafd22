"""Treatments against their definitions, and on states in which a planted dimension hides pairs."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from ima.errors import UnknownNameError
from ima.measures.representation_similarity import compute_retrieval_hits
from ima.measures.treatments import TREATED, TREATMENTS, find_rogue_dimensions, treat_means

DIMS = ("sample", "kind", "layer", "hidden")


@pytest.fixture
def planted():
    """Matched pairs in 16 dimensions, one more that dominates, and a sink in the raw means."""
    rng = np.random.default_rng(0)
    content = rng.normal(size=(40, 1, 1, 16))
    states = np.concatenate([content + 0.5 * rng.normal(size=(40, 2, 1, 16))], axis=-1)
    rogue = 60 + 20 * rng.normal(size=(40, 2, 1, 1))
    without = np.concatenate([states, rogue], axis=-1)
    raw = without + 3000 * np.eye(17)[3] * np.array([1, 0])[None, :, None, None]
    coords = {"kind": ["perceptual", "textual"], "layer": [0]}
    squares = (without**2).sum(axis=0, keepdims=True)
    return {
        "means": xr.DataArray(raw, dims=DIMS, coords=coords),
        "without_sinks": xr.DataArray(without, dims=DIMS, coords=coords),
        "sum_squares": xr.DataArray(squares, dims=("unit", *DIMS[1:]), coords=coords),
    }


def retrieve(means):
    """Return the fraction of percepts whose own text is nearest, over centred states."""
    sides = (means.isel(layer=0).sel(kind=kind).to_numpy() for kind in ("perceptual", "textual"))
    return compute_retrieval_hits(*(side - side.mean(axis=0) for side in sides)).mean()


def test_a_treatment_shows_the_pairs_that_a_dimension_hides(planted):
    found = {name: retrieve(treat_means(treatment=name, **planted)) for name in TREATMENTS}
    assert found["raw"] < 0.3
    assert found["without sinks"] < 0.3
    assert found["without rogue dimensions"] > 0.9
    assert found["standardised"] > 0.9


def test_standardised_states_have_mean_zero_and_variance_one_over_both_kinds(planted):
    got = treat_means(treatment="standardised", **planted).to_numpy().reshape(80, 17)
    expected = stats.zscore(planted["without_sinks"].to_numpy().reshape(80, 17))
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_the_rogue_dimensions_are_the_fewest_that_carry_half(planted):
    squares = np.array([5.0, 1, 4, 3, 2, 1])  # 5 + 4 reach half of 16, 5 alone does not
    array = xr.DataArray(np.tile(squares, (3, 2, 1, 1)), dims=("unit", *DIMS[1:]))
    assert find_rogue_dimensions(array).values.tolist() == [[True, False, True] + [False] * 3]
    # A kind with many tokens has no more say than the other.
    many = array * xr.DataArray([1.0, 1e6], dims="kind")
    assert (find_rogue_dimensions(many) == find_rogue_dimensions(array)).all()
    assert find_rogue_dimensions(planted["sum_squares"]).values[0].tolist() == [False] * 16 + [True]


def test_a_dimension_that_never_varies_and_a_missing_kind_stay_defined(planted):
    still = {**planted, "without_sinks": planted["without_sinks"].copy()}
    still["without_sinks"][..., 2] = 7.0
    still["without_sinks"][5, 1] = np.nan
    got = treat_means(treatment="standardised", **still)
    assert (got[:5, :, :, 2] == 0).all()
    assert got[5, 1].isnull().all()
    assert got[5, 0].notnull().all()


def test_raw_is_what_it_was_and_an_unknown_treatment_names_the_known(planted):
    assert treat_means(treatment="raw", **planted) is planted["means"]
    for name in TREATED:
        assert treat_means(treatment=name, **planted).dims == DIMS
    with pytest.raises(UnknownNameError, match="standardised"):
        treat_means(treatment="standard", **planted)
