"""Alignment measures against their definitions: loops, scipy's matrix root, textbook formulas."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import sqrtm
from scipy.spatial.distance import cosine
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from ima.errors import ParameterError, UnknownNameError
from ima.measures import (
    alignment,
    baselines,
    hook_point_comparison,
    representation_similarity,
    token_pairs,
)


def dataset(n, *, seed, layers=5, hidden=7):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 2, layers, hidden))
    # Textual tokens lie nearer to perceptual ones with depth.
    values[:, 1] += (
        values[:, 0] * np.linspace(0, 2, layers)[:, None] + np.linspace(0, 1, layers)[:, None]
    )
    values[:, 0] += np.linspace(0, 1, layers)[:, None]
    return xr.DataArray(
        values,
        dims=("sample", "kind", "layer", "hidden"),
        coords={"kind": ["perceptual", "textual"], "layer": range(layers)},
    )


def loop(means, *, at_p, at_t):
    p, t = (means.sel(kind=kind).to_numpy() for kind in ("perceptual", "textual"))
    pairs = [1 - cosine(a, b) for a in p[:, at_p] for b in t[:, at_t]]
    return np.mean(pairs)


def test_both_versions_are_the_double_loop():
    means = {"a": dataset(6, seed=0), "b": dataset(4, seed=1)}
    same = alignment.compute_alignment_curve(means, resamples=3)
    start = alignment.compute_alignment_curve(means, version="input", resamples=3)
    for name, array in means.items():
        for layer in range(5):
            expected = loop(array, at_p=layer, at_t=layer)
            assert same["estimate"].sel(dataset=name, layer=layer) == pytest.approx(expected)
            expected = loop(array, at_p=0, at_t=layer)
            assert start["estimate"].sel(dataset=name, layer=layer) == pytest.approx(expected)


def test_the_ima_score_leaves_the_last_layer_out():
    found = alignment.compute_alignment_curve({"a": dataset(30, seed=2)}, resamples=200)
    got = alignment.compute_ima_score(found)
    assert got.value == pytest.approx(float(found["estimate"][:, :-1].mean()))
    assert got.low < got.value < got.high
    assert got.n == 30
    rise = alignment.correlate_with_depth(found)
    assert rise.value == pytest.approx(1)
    assert rise.low > 0
    backwards = found.isel(layer=slice(None, None, -1))
    assert alignment.correlate_with_depth(backwards).value == pytest.approx(-1)
    mean = found["estimate"].mean("dataset")
    gain = alignment.compute_depth_rise(found)
    assert gain.value == pytest.approx(float(mean[-1] - mean[0]))
    assert 0 < gain.low < gain.value < gain.high
    # Two of all orders of five layers are as extreme as a steady rise.
    assert (
        alignment.compute_depth_p(found)
        == alignment.compute_depth_p(backwards)
        == pytest.approx(2 / 120)
    )


def test_curves_without_an_order_are_seldom_called_ordered():
    """Random curves, known exactly: few intervals leave 0 out, where samples alone leave it all."""
    rng = np.random.default_rng(8)
    trials, out = 400, 0
    for _ in range(trials):
        values = rng.random(9)
        exact = xr.Dataset(
            {
                "estimate": (("dataset", "layer"), values[None]),
                "draws": (("draw", "dataset", "layer"), np.stack([values[None]] * 3)),
            },
            attrs={"samples": 50},
        )
        found = alignment.correlate_with_depth(exact)
        assert -1 <= found.low <= found.value <= found.high <= 1
        out += not found.low <= 0 <= found.high
    assert out / trials < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_the_interval_of_the_score_covers_the_score_of_the_population():
    population = dataset(4000, seed=3)
    truth = alignment.compute_ima_score(
        alignment.compute_alignment_curve({"a": population}, resamples=1)
    ).value
    hits = 0
    for trial in range(40):
        part = population.isel(sample=slice(trial * 100, (trial + 1) * 100))
        got = alignment.compute_ima_score(
            alignment.compute_alignment_curve({"a": part}, resamples=200, seed=trial)
        )
        hits += got.low <= truth <= got.high
    assert hits >= 34


def test_the_layer_matrix_is_the_double_loop():
    means = dataset(5, seed=4)
    matrix = alignment.compute_cross_layer_cosine(means)
    for p in range(5):
        for t in range(5):
            expected = loop(means, at_p=p, at_t=t)
            assert matrix.sel(perceptual=p, textual=t) == pytest.approx(expected)


def test_bad_requests_are_refused():
    with pytest.raises(UnknownNameError, match="same layer"):
        alignment.compute_alignment_curve({"a": dataset(5, seed=0)}, version="output")
    with pytest.raises(ParameterError, match="No data sets"):
        alignment.compute_alignment_curve({})
    with pytest.raises(ParameterError, match="layers differ"):
        alignment.compute_alignment_curve(
            {"a": dataset(5, seed=0), "b": dataset(5, seed=0, layers=4)}
        )


def pair(n=30, d=6, *, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d)) * np.arange(1, d + 1) + 3
    return a, a @ rng.normal(size=(d, d + 2)) + noise * rng.normal(size=(n, d + 2))


def test_retrieval_is_the_argmax_of_centred_cosines():
    a, b = pair(seed=1)
    b = b[:, :6]
    cosines = cosine_similarity(a - a.mean(0), b - b.mean(0))
    own = np.arange(len(a))
    expected = ((cosines.argmax(1) == own) * 1.0 + (cosines.argmax(0) == own)) / 2
    np.testing.assert_array_equal(representation_similarity.compute_retrieval_hits(a, b), expected)


def test_equal_texts_share_a_hit():
    a = np.array([[1.0, 0.1], [1.0, -0.1], [-2.0, 0.0]])
    b = np.array([[1.0, 0.0], [1.0, 0.0], [-2.0, 0.0]])
    got = representation_similarity.compute_retrieval_hits(a, b)
    np.testing.assert_allclose(got[:2].sum(), 1.0)
    assert got[2] == 1


def test_neighbours_are_scikit_learns():
    a, b = pair(seed=2)
    sets = []
    for side in (a, b):
        finder = NearestNeighbors(n_neighbors=6, metric="cosine").fit(side - side.mean(0))
        near = finder.kneighbors(return_distance=False)
        sets.append([set(row) for row in near[:, :5]])
    expected = [len(x & y) / 5 for x, y in zip(*sets, strict=True)]
    np.testing.assert_allclose(representation_similarity.compute_mutual_knn(a, b, k=5), expected)


def test_cka_is_one_under_rotation_and_scale_and_zero_on_average_by_chance():
    a, _ = pair(seed=3)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    assert representation_similarity.compute_cka(a, 3 * a @ turn + 7) == pytest.approx(1)
    rng = np.random.default_rng(4)
    chance = [
        representation_similarity.compute_cka(rng.normal(size=(8, 20)), rng.normal(size=(8, 20)))
        for _ in range(400)
    ]
    assert abs(np.mean(chance)) < 0.02


def test_cka_tends_to_the_biased_textbook_formula():
    a, b = pair(n=3000, seed=5)
    x, y = a - a.mean(0), b - b.mean(0)
    textbook = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert representation_similarity.compute_cka(a, b) == pytest.approx(textbook, abs=2e-3)


@pytest.mark.parametrize(("n", "d"), [(40, 5), (6, 9)])
def test_frechet_is_the_formula_with_scipys_matrix_root(n, d):
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(n, d)) * 2, rng.normal(size=(n + 3, d)) @ rng.normal(size=(d, d)) + 1
    cov = [np.cov(side.T) for side in (a, b)]
    root = np.trace(sqrtm(cov[0] @ cov[1])).real
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    spread = np.trace(cov[0]) + np.trace(cov[1])
    expected = (apart + spread - 2 * root) / spread
    assert representation_similarity.compute_frechet_distance(a, b) == pytest.approx(
        expected, abs=1e-6
    )


def test_matching_refuses_what_has_no_answer():
    a, b = pair(n=10)
    with pytest.raises(ParameterError, match="same samples"):
        representation_similarity.compute_retrieval_hits(a, b[:5, :6])
    with pytest.raises(ParameterError, match="between 1 and"):
        representation_similarity.compute_mutual_knn(a, b, k=9)
    with pytest.raises(ParameterError, match="at least 4"):
        representation_similarity.compute_cka(a[:3], b[:3])
    with pytest.raises(ParameterError, match="spread"):
        representation_similarity.compute_frechet_distance(np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(ParameterError, match="none"):
        representation_similarity.compute_cka(a, np.ones((10, 2)))


def tokens(sizes, *, seed, hidden=4):
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return rng.normal(size=(len(owners), hidden)) + 0.2, owners


def test_token_pairs_are_the_loops(monkeypatch):
    monkeypatch.setattr(token_pairs, "BLOCK", 6)
    (a, of_a), (b, of_b) = tokens([3, 1, 4, 2], seed=0), tokens([2, 5, 1], seed=1)
    found = token_pairs.reduce_token_cosines(a, b, owners_a=of_a, owners_b=of_b)
    for i in range(4):
        for j in range(3):
            block = cosine_similarity(a[of_a == i], b[of_b == j])
            expected = {
                "mean": block.mean(),
                "median": np.median(block),
                "max": block.max(),
                "min": block.min(),
                "mean of max": block.max(axis=1).mean(),
            }
            for name, value in expected.items():
                assert found[name][i, j] == pytest.approx(value)
    assert set(found) == set(token_pairs.TOKEN_PAIR_REDUCTIONS)


def kept(sizes, *, seed):
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
    sets = {"a": kept([4, 2, 6], seed=2), "b": kept([2, 4], seed=3)}
    found = token_pairs.compute_token_pair_terms(sets)
    assert list(found["curve"].values) == ["PvsT", "PvsT", "PvsP", "TvsT"]
    a, b = sets["a"], sets["b"]
    values = []
    for i in range(3):
        for j in range(2):
            p = a["state"].isel(layer=1)[((a["sample"] == i) & (a["modality"] > 0)).values]
            q = b["state"].isel(layer=1)[((b["sample"] == j) & (b["modality"] > 0)).values]
            values.append(np.median(cosine_similarity(p, q)))
    got = found.isel(term=2).sel(reduction="median", layer=1)
    assert float(got) == pytest.approx(np.mean(values))
    pooled = token_pairs.average_token_pair_terms(found)["median"]
    assert list(pooled["curve"].values) == ["PvsT", "PvsP", "TvsT"]
    expected = found.isel(term=[0, 1]).sel(reduction="median").mean("term")
    np.testing.assert_allclose(pooled.sel(curve="PvsT"), expected)


def test_single_tokens_need_tokens_of_both_kinds():
    only = kept([4, 2], seed=4)
    only["modality"] = ("token", np.zeros(6, dtype="int8"))
    with pytest.raises(ParameterError, match="keep_tokens"):
        token_pairs.compute_token_pair_terms({"a": only})
    with pytest.raises(ParameterError, match="sorted"):
        token_pairs.reduce_token_cosines(
            np.ones((2, 2)), np.ones((2, 2)), owners_a=np.array([1, 0]), owners_b=np.array([0, 1])
        )


def test_the_order_of_scores_over_steps():
    steps = {}
    for at, step in enumerate([0, 10, 40, 160]):
        # What all share makes any two more similar.
        means = dataset(30, seed=11) + 2 * at
        steps[step] = alignment.compute_alignment_curve({"a": means}, resamples=50)
    got = alignment.correlate_with_step({"run": steps})
    assert got.value == 1
    assert got.n == 30
    falling = dict(zip(steps, reversed(list(steps.values())), strict=True))
    assert alignment.correlate_with_step({"run": falling}).value == -1
    assert alignment.correlate_with_step({"run": steps, "back": falling}).value == 0
    with pytest.raises(ParameterError, match="at least 3"):
        alignment.correlate_with_step({"run": {0: steps[0], 10: steps[10]}})


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


def test_the_margin_inside_the_block_is_the_weakest_hook_points():
    rng = np.random.default_rng(8)
    apart, close = dataset(40, seed=9), dataset(40, seed=9)
    apart[:, 0] -= 2
    apart[:, 1] += 2
    close += 5
    close = close.isel(layer=slice(1, None))
    nearer = close + rng.normal(size=close.shape) * 0.1 + 5
    hook_points = {
        "attn_out": {"a": close},
        "mlp_out": {"a": nearer},
        "resid_post": {"a": apart},
    }
    found = hook_point_comparison.compute_hook_point_alignment(hook_points, resamples=100)
    assert found["layer"].values.tolist() == [1, 2, 3, 4]
    got = hook_point_comparison.compute_block_margin(found)
    own = {
        hook_point: float(found["estimate"].sel(hook_point=hook_point).mean())
        for hook_point in hook_points
    }
    assert got.value == pytest.approx(min(own["attn_out"], own["mlp_out"]) - own["resid_post"])
    assert got.low > 0
    assert got.n == 40
    with pytest.raises(ParameterError, match="resid_post"):
        hook_point_comparison.compute_block_margin(found.sel(hook_point=["attn_out", "mlp_out"]))
