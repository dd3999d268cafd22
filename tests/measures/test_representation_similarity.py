"""Representation similarity against scikit-learn, scipy's matrix root and textbook formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from ima.errors import ParameterError
from ima.measures import representation_similarity


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
    with pytest.raises(ParameterError, match="are equal"):
        representation_similarity.compute_cka(a, np.ones((10, 2)))
