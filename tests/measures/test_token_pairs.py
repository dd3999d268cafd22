"""Similarity of single tokens against loops over samples and scikit-learn's cosines."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics.pairwise import cosine_similarity

from ima.errors import ParameterError
from ima.measures import cones, token_pairs


def tokens(sizes, *, seed, hidden=4):
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return rng.normal(size=(len(owners), hidden)) + 0.2, owners


def test_token_pairs_are_the_loops(monkeypatch):
    monkeypatch.setattr(token_pairs, "TOKEN_BLOCK_SIZE", 6)
    (a, samples_a), (b, samples_b) = tokens([3, 1, 4, 2], seed=0), tokens([2, 5, 1], seed=1)
    reduced = token_pairs.reduce_token_cosines(a, b, samples_a=samples_a, samples_b=samples_b)
    for i in range(4):
        for j in range(3):
            block = cosine_similarity(a[samples_a == i], b[samples_b == j])
            expected = {
                "mean": block.mean(),
                "median": np.median(block),
                "max": block.max(),
                "min": block.min(),
                "mean of max": block.max(axis=1).mean(),
            }
            for name, value in expected.items():
                assert reduced[name][i, j] == pytest.approx(value)
    assert set(reduced) == set(token_pairs.TOKEN_PAIR_REDUCTIONS)


def make_tokens(sizes, *, seed):
    state, owners = tokens(sizes, seed=seed)
    modality = (np.arange(len(owners)) % 2).astype("int8")
    return xr.Dataset(
        {"state": (("token", "layer", "hidden"), np.stack([state, state * 2 + 1], axis=1))},
        coords={
            "layer": [0, 1],
            "sample": ("token", owners),
            "modality": ("token", modality),
        },
    )


def test_curves_of_single_tokens_average_over_pairs_of_samples():
    sets = {"a": make_tokens([4, 2, 6], seed=2), "b": make_tokens([2, 4], seed=3)}
    terms = token_pairs.compute_token_pair_terms(sets)
    assert list(terms["curve"].values) == ["PvsT", "PvsT", "PvsP", "TvsT"]
    a, b = sets["a"], sets["b"]
    values = []
    for i in range(3):
        for j in range(2):
            p = a["state"].isel(layer=1)[((a["sample"] == i) & (a["modality"] > 0)).values]
            q = b["state"].isel(layer=1)[((b["sample"] == j) & (b["modality"] > 0)).values]
            values.append(np.median(cosine_similarity(p, q)))
    got = terms["estimate"].isel(term=2).sel(reduction="median", layer=1)
    assert float(got) == pytest.approx(np.mean(values))
    pooled = cones.average_terms_by_curve(terms)["estimate"].sel(reduction="median")
    assert list(pooled["curve"].values) == ["PvsT", "PvsP", "TvsT"]
    expected = terms["estimate"].isel(term=[0, 1]).sel(reduction="median").mean("term")
    np.testing.assert_allclose(pooled.sel(curve="PvsT"), expected)


def test_single_tokens_need_tokens_of_both_kinds():
    only = make_tokens([4, 2], seed=4)
    only["modality"] = ("token", np.zeros(6, dtype="int8"))
    with pytest.raises(ParameterError, match="keep_tokens"):
        token_pairs.compute_token_pair_terms({"a": only})
    with pytest.raises(ParameterError, match="sorted"):
        token_pairs.reduce_token_cosines(
            np.ones((2, 2)), np.ones((2, 2)), samples_a=np.array([1, 0]), samples_b=np.array([0, 1])
        )
