"""Similarity against its definition, the loop over all pairs, and the symmetries of the cosine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from madestates import average_cosines, make_vectors
from scipy.stats import special_ortho_group
from sklearn.metrics.pairwise import cosine_similarity

from ima.measures import similarity
from ima.stats.resampling import BootstrapWeights, draw_dataset_weights, draw_resample_counts

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 12)


def test_cosine_over_pairs_is_the_loop_over_all_pairs():
    a, b = make_vectors(7, seed=0, shift=0.5), make_vectors(5, seed=1, shift=-0.2)
    np.testing.assert_allclose(
        similarity.cosine_over_pairs(a, b), average_cosines(a, b), atol=1e-12
    )


def test_cosine_over_pairs_is_the_mean_of_scikit_learns_matrix():
    a, b = make_vectors(30, seed=2), make_vectors(40, seed=3, shift=1.0)
    expected = [cosine_similarity(a.isel(layer=at), b.isel(layer=at)).mean() for at in range(3)]
    np.testing.assert_allclose(similarity.cosine_over_pairs(a, b), expected, atol=1e-12)


def test_draws_of_one_set_of_samples_keep_the_datas_ratio_of_matched_pairs():
    a = make_vectors(12, seed=0)[:, 0]
    b = a * 0.8 + make_vectors(12, seed=100)[:, 0] * 0.4 - 0.5
    matrix, n = cosine_similarity(a, b), a.sizes["sample"]
    weights = BootstrapWeights(draw_resample_counts(n, resamples=5, seed=3))[:, :]
    rows = np.arange(n)
    left, right = similarity.normalize_vectors(a).values, similarity.normalize_vectors(b).values
    got = similarity.correct_shared_pair_draws(
        similarity.compute_pair_cosine_draws(weights @ left, weights @ right),
        weights_a=weights,
        weights_b=weights,
        matched_cosines=similarity.compute_matched_cosines(a, b, rows_a=rows, rows_b=rows),
        rows_a=rows,
        rows_b=rows,
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


def test_sets_that_share_some_samples_are_one_loop():
    """Two data sets show four contents both: a content is drawn for both at once."""
    a, b = make_vectors(6, seed=0)[:, 0], make_vectors(5, seed=1)[:, 0]
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
        matched_cosines=similarity.compute_matched_cosines(a, b, rows_a=left, rows_b=right),
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


def test_states_are_read_in_blocks(monkeypatch):
    a, b = make_vectors(23, seed=5)[:, 0], make_vectors(23, seed=6)[:, 0]
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

    monkeypatch.setattr(similarity, "SAMPLE_BLOCK_SIZE", 5)
    monkeypatch.setattr(similarity, "normalize_array", counted)
    for got, expected in zip(similarity.compute_weighted_means(a, weights), whole, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)
    again = similarity.compute_matched_cosines(a, b, rows_a=rows, rows_b=rows[::-1])
    np.testing.assert_allclose(again, paired, atol=1e-12)
    matrix = cosine_similarity(a, b)
    np.testing.assert_allclose(paired, matrix[rows, rows[::-1]], atol=1e-12)
    assert max(most) == 5


def rotated(array, seed):
    turn = special_ortho_group.rvs(array.sizes["hidden"], random_state=seed % 2**31)
    return array.copy(data=array.values @ turn)


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, seeds)
def test_a_rotation_of_both_sides_changes_nothing(n, m, seed):
    a, b = make_vectors(n, seed=seed, shift=0.3), make_vectors(m, seed=seed + 1, shift=0.3)
    got = similarity.cosine_over_pairs(rotated(a, seed), rotated(b, seed))
    np.testing.assert_allclose(got, similarity.cosine_over_pairs(a, b), atol=1e-10)


@settings(deadline=None, max_examples=40)
@given(sizes, seeds, st.floats(1e-3, 1e3))
def test_positive_scaling_of_any_sample_changes_nothing(n, seed, scale):
    a, b = make_vectors(n, seed=seed, shift=0.3), make_vectors(n, seed=seed + 1, shift=0.3)
    factors = np.ones((n, 1, 1))
    factors[seed % n] = scale
    got = similarity.cosine_over_pairs(a * factors, b)
    np.testing.assert_allclose(got, similarity.cosine_over_pairs(a, b), atol=1e-10)


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, seeds)
def test_it_is_symmetric_and_a_cosine(n, m, seed):
    a, b = make_vectors(n, seed=seed, shift=0.3), make_vectors(m, seed=seed + 1, shift=0.3)
    got = similarity.cosine_over_pairs(a, b)
    np.testing.assert_allclose(got, similarity.cosine_over_pairs(b, a), atol=1e-12)
    assert (np.abs(got) <= 1 + 1e-12).all()


@settings(deadline=None, max_examples=40)
@given(sizes, sizes, seeds)
def test_turning_one_side_around_turns_the_sign(n, m, seed):
    a, b = make_vectors(n, seed=seed, shift=0.3), make_vectors(m, seed=seed + 1, shift=0.3)
    np.testing.assert_allclose(
        similarity.cosine_over_pairs(a, -b), -similarity.cosine_over_pairs(a, b), atol=1e-12
    )
