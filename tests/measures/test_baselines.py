"""Baselines of the IMA score stand between their nulls and one."""

from __future__ import annotations

import pytest
from madestates import make_aligned_states

from ima.errors import ParameterError
from ima.measures import baselines, representation_similarity


def test_rivals_stand_between_their_nulls_and_one():
    means = dataset(60, seed=7)
    found = baselines.compute_baseline_curves(means, neighbours=5, permutations=10, resamples=100)
    assert (found["low"] <= found["estimate"] + 1e-9).all()
    assert (found["high"] >= found["estimate"] - 1e-9).all()
    last = found.isel(layer=-1)
    for name in baselines.ALIGNMENT_BASELINES[:3]:
        own = last.sel(rival=name)
        assert own["low"] > own["null"]
    first = found.isel(layer=0)
    for name in baselines.ALIGNMENT_BASELINES[:3]:
        own = first.sel(rival=name)
        assert own["low"] < own["null"] + 0.05
    assert found["null"].sel(rival="retrieval@1").mean() == pytest.approx(1 / 60, abs=0.02)
    assert found["null"].sel(rival="mutual k-NN").mean() == pytest.approx(5 / 59, abs=0.02)
    layer = means.isel(layer=2)
    a, b = (layer.sel(kind=kind).to_numpy() for kind in ("perceptual", "textual"))
    assert found["estimate"].sel(rival="linear CKA", layer=2) == pytest.approx(
        representation_similarity.compute_cka(a, b)
    )
    with pytest.raises(ParameterError, match="at least 16"):
        baselines.compute_baseline_curves(dataset(10, seed=0))
