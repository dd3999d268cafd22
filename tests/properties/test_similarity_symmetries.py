"""Similarity has the symmetries of the cosine."""

from __future__ import annotations

import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import special_ortho_group

from ima.measures import similarity

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 12)


def vectors(n, seed, *, hidden=6):
    values = np.random.default_rng(seed).normal(size=(n, 2, hidden)) + 0.3
    return xr.DataArray(values, dims=("sample", "layer", "hidden"))


def rotated(array, seed):
    turn = special_ortho_group.rvs(array.sizes["hidden"], random_state=seed % 2**31)
    return array.copy(data=array.values @ turn)


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, seeds)
def test_a_rotation_of_both_sides_changes_nothing(n, m, seed):
    a, b = vectors(n, seed), vectors(m, seed + 1)
    got = similarity.cosine_over_pairs(rotated(a, seed), rotated(b, seed))
    np.testing.assert_allclose(got, similarity.cosine_over_pairs(a, b), atol=1e-10)


@settings(deadline=None, max_examples=40)
@given(sizes, seeds, st.floats(1e-3, 1e3))
def test_positive_scaling_of_any_sample_changes_nothing(n, seed, scale):
    a, b = vectors(n, seed), vectors(n, seed + 1)
    factors = np.ones((n, 1, 1))
    factors[seed % n] = scale
    got = similarity.cosine_over_pairs(a * factors, b)
    np.testing.assert_allclose(got, similarity.cosine_over_pairs(a, b), atol=1e-10)


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, seeds)
def test_it_is_symmetric_and_a_cosine(n, m, seed):
    a, b = vectors(n, seed), vectors(m, seed + 1)
    got = similarity.cosine_over_pairs(a, b)
    np.testing.assert_allclose(got, similarity.cosine_over_pairs(b, a), atol=1e-12)
    assert (np.abs(got) <= 1 + 1e-12).all()


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, seeds)
def test_turning_one_side_around_turns_the_sign(n, m, seed):
    a, b = vectors(n, seed), vectors(m, seed + 1)
    np.testing.assert_allclose(
        similarity.cosine_over_pairs(a, -b), -similarity.cosine_over_pairs(a, b), atol=1e-12
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 30), seeds)
def test_halves_are_disjoint_and_complete(n, seed):
    named = xr.DataArray(np.arange(n), dims="sample")
    first, second = similarity.split_into_halves(named, seed=seed)
    assert sorted([*first.values, *second.values]) == list(range(n))
    assert 0 <= second.sizes["sample"] - first.sizes["sample"] <= 1
