"""Divergences over the vocabulary against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import log_softmax, rel_entr

from ima.errors import ParameterError
from ima.measures import vocabulary


def logs(*shape, seed, scale=2.0):
    return log_softmax(np.random.default_rng(seed).normal(size=shape) * scale, axis=-1)


def test_divergence_is_scipys():
    p, q = logs(4, 3, 11, seed=0), logs(4, 3, 11, seed=1)
    np.testing.assert_allclose(
        vocabulary.compute_kl_divergence(p, q), rel_entr(np.exp(p), np.exp(q)).sum(-1), rtol=1e-10
    )


def test_extreme_probabilities_give_numbers():
    p = log_softmax(np.array([0.0, -300.0, -900.0]))
    q = log_softmax(np.array([-900.0, 0.0, -300.0]))
    assert vocabulary.compute_kl_divergence(p, q) == pytest.approx(900, rel=1e-6)
    assert vocabulary.compute_kl_divergence(p, p) == 0


def test_a_mixture_is_the_mean_of_probabilities():
    p = logs(6, 9, seed=2, scale=30.0)
    weights = np.random.default_rng(0).dirichlet(np.ones(6), size=4)
    np.testing.assert_allclose(
        vocabulary.SampleDistributions(p).average(weights).p, weights @ np.exp(p), rtol=1e-10
    )
    tiny = np.array([[0.0, -2000.0], [0.0, -1990.0]])
    got = vocabulary.SampleDistributions(tiny).average(np.array([[0.5, 0.5]])).log_p
    assert got[0, 1] == pytest.approx(-1990 + np.log(0.5 + 0.5 * np.exp(-10)))


def test_words_that_float32_would_lose_are_averaged_in_float64():
    weights = np.array([[0.5, 0.5], [0.0, 1.0]])
    near = vocabulary.SampleDistributions(logs(2, 5, seed=7))
    far = vocabulary.SampleDistributions(np.array([[-1.0, -1e-9], [-400.0, -1e-9]]))
    assert near.average(weights, precision=np.float32).log_p.dtype == np.float32
    rescued = far.average(weights, precision=np.float32).log_p
    np.testing.assert_array_equal(rescued, far.average(weights).log_p)
    assert rescued[1, 0] == pytest.approx(-400)


def make_log_probs(n, *, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 2, 3, 8))
    values[:, 0] += shift * np.arange(8)
    return xr.DataArray(
        log_softmax(values, axis=-1),
        dims=("sample", "kind", "layer", "vocabulary"),
        coords={"kind": ["perceptual", "textual"], "layer": [0, 1, 2]},
    )


def test_curves_compare_mean_distributions():
    sets = {"a": make_log_probs(5, seed=0, shift=0.5), "b": make_log_probs(7, seed=1)}
    terms = vocabulary.compute_divergence_terms(sets, resamples=20)
    assert list(terms["curve"].values) == [
        *["KL(P, T)"] * 2, "KL(T, T')", "KL(P, P')", *["KL(T halves)"] * 2
    ]  # fmt: skip
    mean = {
        (name, kind): np.exp(array.sel(kind=kind).to_numpy()).mean(0)
        for name, array in sets.items()
        for kind in ("perceptual", "textual")
    }
    p, t = mean["a", "perceptual"], mean["a", "textual"]
    # In both directions, as between texts: one direction alone is another quantity.
    both = (stats.entropy(p, t, axis=-1) + stats.entropy(t, p, axis=-1)) / 2
    np.testing.assert_allclose(terms["estimate"][0], both, rtol=1e-9)
    a, b = mean["a", "textual"], mean["b", "textual"]
    both = (stats.entropy(a, b, axis=-1) + stats.entropy(b, a, axis=-1)) / 2
    np.testing.assert_allclose(terms["estimate"][2], both, rtol=1e-9)
    assert terms["draws"].sizes == {"draw": 20, "term": 6, "layer": 3}
    assert terms.attrs["samples"] == 12


def test_perceptual_tokens_are_farther_from_text_than_halves_of_it():
    far = vocabulary.compute_divergence_terms(
        {"a": make_log_probs(60, seed=0, shift=1.0)}, resamples=100
    )
    assert vocabulary.compute_divergence_margin(far).low > 0
    same = make_log_probs(60, seed=1)
    same[:, 0] = same[:, 1].to_numpy()
    near = vocabulary.compute_divergence_margin(
        vocabulary.compute_divergence_terms({"a": same}, resamples=100)
    )
    assert near.value <= 0
    assert near.n == 60


def test_the_likeliest_words_are_counted_over_samples():
    values = np.full((4, 2, 1, 5), -5.0)
    for sample, word in enumerate([3, 3, 1, 3]):
        values[sample, 0, 0, word] = 0.0
    log_probs = xr.DataArray(
        values,
        dims=("sample", "kind", "layer", "vocabulary"),
        coords={"kind": ["perceptual", "textual"], "layer": [0]},
    )
    log_probs = log_probs.assign_coords(word=("vocabulary", list("abcde")))
    table = vocabulary.tabulate_likeliest_tokens({"x": log_probs}, titles={"x": "X"}, layers=[0])
    assert table["layer 0"].tolist() == ["d 0.75, b 0.25", "a 1.00"]


def test_data_sets_of_two_language_models_are_refused():
    with pytest.raises(ParameterError, match="--logit-lens"):
        vocabulary.compute_divergence_terms({})
    with pytest.raises(ParameterError, match="one language model"):
        vocabulary.compute_divergence_terms(
            {
                "a": make_log_probs(4, seed=0),
                "b": make_log_probs(4, seed=1).isel(vocabulary=slice(6)),
            }
        )


def test_the_released_form_has_one_direction_and_keeps_the_perceptual_tokens_of_the_first_layer():
    log_probs = {"a": make_log_probs(8, seed=4, shift=0.3)}
    released = vocabulary.compute_divergence_terms(log_probs, resamples=2, paper_compat=True)[
        "estimate"
    ]
    p = np.exp(log_probs["a"].sel(kind="perceptual", layer=0).to_numpy()).mean(0)
    t = np.exp(log_probs["a"].sel(kind="textual", layer=2).to_numpy()).mean(0)
    assert float(released[0, 2]) == pytest.approx(stats.entropy(p, t))
