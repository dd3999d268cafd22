"""Similarity against its definition: the loop over all pairs, by scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import cosine
from sklearn.metrics.pairwise import cosine_similarity

from ima.measures import cones, similarity
from ima.stats.resampling import draw_dataset_weights

LAYERS, HIDDEN = 3, 8


def vectors(n, *, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, LAYERS, HIDDEN)) + shift
    return xr.DataArray(values, dims=("sample", "layer", "hidden"))


def double_loop(a, b):
    out = np.zeros(LAYERS)
    for layer in range(LAYERS):
        for i in range(a.sizes["sample"]):
            for j in range(b.sizes["sample"]):
                out[layer] += 1 - cosine(a.values[i, layer], b.values[j, layer])
    return out / (a.sizes["sample"] * b.sizes["sample"])


def test_cross_is_the_double_loop_over_all_pairs():
    a, b = vectors(7, seed=0, shift=0.5), vectors(5, seed=1, shift=-0.2)
    np.testing.assert_allclose(similarity.cosine_over_pairs(a, b), double_loop(a, b), atol=1e-12)


def test_cross_is_the_mean_of_scikit_learns_matrix():
    a, b = vectors(30, seed=2), vectors(40, seed=3, shift=1.0)
    expected = [
        cosine_similarity(a.isel(layer=at), b.isel(layer=at)).mean() for at in range(LAYERS)
    ]
    np.testing.assert_allclose(similarity.cosine_over_pairs(a, b), expected, atol=1e-12)


def test_paper_compat_is_the_diagonal():
    a, b = vectors(30, seed=4), vectors(20, seed=5)
    expected = [
        np.diag(cosine_similarity(a[:20].isel(layer=at), b.isel(layer=at))).mean()
        for at in range(LAYERS)
    ]
    got = similarity.cosine_over_pairs(a, b, paper_compat=True)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert np.abs(got - similarity.cosine_over_pairs(a, b)).max() > 0.01


def dataset(n, *, seed):
    """Make perceptual and textual means with distinct directions and matched pairs closer."""
    own = vectors(n, seed=seed)
    kinds = [own + 1.0, own * 0.8 + vectors(n, seed=seed + 100) * 0.4 - 0.5]
    return xr.concat(kinds, dim=xr.DataArray(["perceptual", "textual"], dims="kind", name="kind"))


@pytest.fixture(scope="module")
def means():
    sizes = {"image": 12, "video": 9, "audio": 10}
    layer = {"layer": np.arange(LAYERS)}
    return {
        name: dataset(n, seed=number).assign_coords(layer)
        for number, (name, n) in enumerate(sizes.items())
    }


def side(means, name, kind):
    return means[name].sel(kind=kind).transpose("sample", "layer", "hidden")


def test_every_term_is_its_double_loop(means):
    terms = cones.compute_similarity_terms(means, resamples=3)
    assert terms.sizes["term"] == 3 + 3 + 3 + 3 + 3
    kinds = {"P": "perceptual", "T": "textual"}
    for number in range(terms.sizes["term"]):
        term = terms.isel(term=number)
        curve, left, right = (str(term[name].item()) for name in ("curve", "left", "right"))
        if curve.endswith("intra"):
            a, b = similarity.split_into_halves(side(means, left, kinds[curve[0]]), seed=0)
        else:
            a, b = side(means, left, kinds[curve[0]]), side(means, right, kinds[curve[-1]])
        np.testing.assert_allclose(term["estimate"], double_loop(a, b), atol=1e-12)


def test_same_sample_draws_are_the_double_loop_with_the_datas_share_of_matched_pairs(means):
    a, b = side(means, "image", "perceptual")[:, 0], side(means, "image", "textual")[:, 0]
    matrix, n = cosine_similarity(a, b), a.sizes["sample"]
    weights = similarity.draw_weights_with_data(n, resamples=5, seed=3)[:, np.arange(n)]
    left, right = similarity.normalize_vectors(a).values, similarity.normalize_vectors(b).values
    got = similarity.correct_shared_pair_draws(
        similarity.compute_pair_cosine_draws(weights @ left, weights @ right),
        weights_a=weights,
        weights_b=weights,
        own=similarity.compute_matched_cosines(a, b, rows_a=np.arange(n), rows_b=np.arange(n)),
        rows_a=np.arange(n),
        rows_b=np.arange(n),
    )
    for draw, row in zip(got, weights, strict=True):
        matched = unmatched = weight = 0.0
        for i in range(n):
            matched += row[i] * matrix[i, i]
            for j in range(n):
                if i != j:
                    unmatched += row[i] * row[j] * matrix[i, j]
                    weight += row[i] * row[j]
        assert draw == pytest.approx(matched / n + (1 - 1 / n) * unmatched / weight, abs=1e-12)
    assert got[0] == pytest.approx(matrix.mean(), abs=1e-12)


def test_states_are_read_in_blocks(monkeypatch):
    a, b = vectors(23, seed=5)[:, 0], vectors(23, seed=6)[:, 0]
    rng = np.random.default_rng(0)
    weights = [rng.random((4, 23)), rng.random((2, 23))]
    rows = rng.permutation(23)
    whole = similarity.compute_weighted_means(a, weights)
    paired = similarity.compute_matched_cosines(a, b, rows_a=rows, rows_b=rows[::-1])
    most = []
    scale = similarity.normalize_array

    def counted(vectors):
        most.append(len(vectors))
        return scale(vectors)

    monkeypatch.setattr(similarity, "BLOCK", 5)
    monkeypatch.setattr(similarity, "directions_of", counted)
    for got, expected in zip(similarity.compute_weighted_means(a, weights), whole, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)
    again = similarity.compute_matched_cosines(a, b, rows_a=rows, rows_b=rows[::-1])
    np.testing.assert_allclose(again, paired, atol=1e-12)
    matrix = cosine_similarity(a, b)
    np.testing.assert_allclose(paired, matrix[rows, rows[::-1]], atol=1e-12)
    assert max(most) == 5


def test_sets_that_share_some_samples_are_one_double_loop():
    """Two data sets show four contents both: a content is drawn for both at once."""
    a, b = vectors(6, seed=0)[:, 0], vectors(5, seed=1)[:, 0]
    named = {
        "a": a.assign_coords(id=("sample", list("uvwxyz"))),
        "b": b.assign_coords(id=("sample", list("zyxwk"))),
    }
    weights, owners, n = draw_dataset_weights(named, resamples=50, seed=0)
    assert n == 7
    _, left, right = np.intersect1d(owners["a"], owners["b"], return_indices=True)
    assert sorted(zip(left, right, strict=True)) == [(2, 3), (3, 2), (4, 1), (5, 0)]
    once = (weights["a"][:, left] > 0) == (weights["b"][:, right] > 0)
    assert once.all()
    ua, ub = similarity.normalize_vectors(a).values, similarity.normalize_vectors(b).values
    got = similarity.correct_shared_pair_draws(
        similarity.compute_pair_cosine_draws(weights["a"] @ ua, weights["b"] @ ub),
        weights_a=weights["a"],
        weights_b=weights["b"],
        own=similarity.compute_matched_cosines(a, b, rows_a=left, rows_b=right),
        rows_a=left,
        rows_b=right,
    )
    matrix = cosine_similarity(a, b)
    assert got[0] == pytest.approx(matrix.mean(), abs=1e-12)
    pairs = set(zip(left, right, strict=True))
    for draw, wa, wb in zip(got[1:], weights["a"][1:], weights["b"][1:], strict=True):
        matched = sum(wa[i] * matrix[i, j] for i, j in pairs) / sum(wa[i] for i, _ in pairs)
        others = [(i, j) for i in range(6) for j in range(5) if (i, j) not in pairs]
        rest = sum(wa[i] * wb[j] * matrix[i, j] for i, j in others)
        rest /= sum(wa[i] * wb[j] for i, j in others)
        assert draw == pytest.approx(4 / 30 * matched + 26 / 30 * rest, abs=1e-9)


def test_draws_scatter_as_fresh_samples_do():
    """The bootstrap's spread agrees with the spread over many data sets from the same source."""
    fresh, spreads = [], []
    for seed in range(60):
        made = dataset(40, seed=seed).assign_coords(layer=np.arange(LAYERS))
        terms = cones.compute_similarity_terms({"image": made}, resamples=200, seed=seed)
        own = terms.isel(term=terms["curve"].values == "PvsT", layer=0, drop=True).squeeze("term")
        fresh.append(float(own["estimate"]))
        spreads.append(float(own["draws"].std()))
    assert np.mean(spreads) == pytest.approx(np.std(fresh), rel=0.3)
