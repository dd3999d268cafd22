"""Do routers differ: a permutation test whose null holds and whose alternative is found."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ima.errors import ParameterError
from ima.measures.router_weights import compare_routers

DIMS = ("modality", "query", "expert")


def draw(seed, *, apart=0.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(5, 8, 3)) + apart * rng.normal(size=(5, 1, 3))
    weights = np.exp(logits)
    return xr.DataArray(weights / weights.sum(-1, keepdims=True), dims=DIMS)


def test_the_share_is_that_of_an_analysis_of_variance():
    weight = draw(0, apart=1.0)
    found = compare_routers(weight, permutations=9)
    centred = weight - weight.mean(("modality", "query"))
    within = ((weight - weight.mean("query")) ** 2).sum()
    assert found.share == pytest.approx(1 - float(within / (centred**2).sum()))
    assert found.n == 40


def test_without_a_difference_p_is_uniform():
    ps = [compare_routers(draw(seed), permutations=199).p for seed in range(60)]
    assert 0.3 < np.mean(ps) < 0.7
    assert np.mean(np.array(ps) <= 0.05) < 0.15


def test_a_difference_is_found():
    found = compare_routers(draw(1, apart=3.0), permutations=199)
    assert found.p == pytest.approx(1 / 200)
    assert found.share > found.null_high > found.null


def test_equal_weights_have_no_difference():
    found = compare_routers(xr.DataArray(np.full((3, 4, 2), 0.5), dims=DIMS), permutations=19)
    assert (found.share, found.p) == (0.0, 1.0)


def test_too_few_modalities_are_refused():
    with pytest.raises(ParameterError, match="got 1 with 8"):
        compare_routers(draw(0).isel(modality=[0]))
