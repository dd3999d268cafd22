"""Divergences over the vocabulary against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, rel_entr

from ima.errors import ParameterError
from ima.measures import vocabulary


def logs(*shape, seed, scale=2.0):
    return log_softmax(np.random.default_rng(seed).normal(size=shape) * scale, axis=-1)


def test_divergences_are_scipys():
    p, q = logs(4, 3, 11, seed=0), logs(4, 3, 11, seed=1)
    np.testing.assert_allclose(
        vocabulary.compute_kl_divergence(p, q),
        rel_entr(np.exp(p), np.exp(q)).sum(-1) / np.log(2),
        rtol=1e-10,
    )
    np.testing.assert_allclose(
        vocabulary.compute_js_divergence(np.exp(p), np.exp(q)),
        jensenshannon(np.exp(p), np.exp(q), axis=-1, base=2) ** 2,
        rtol=1e-10,
    )


def test_extreme_probabilities_give_numbers():
    p = log_softmax(np.array([0.0, -300.0, -900.0]))
    q = log_softmax(np.array([-900.0, 0.0, -300.0]))
    assert vocabulary.compute_kl_divergence(p, q) == pytest.approx(900 / np.log(2), rel=1e-6)
    assert vocabulary.compute_kl_divergence(p, p) == 0
    for precision in (np.float32, np.float64):
        a, b = np.exp(p).astype(precision), np.exp(q).astype(precision)
        assert vocabulary.compute_js_divergence(a, b) == pytest.approx(1)
        assert vocabulary.compute_js_divergence(a, a) == 0


def make_log_probs(n, *, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 2, 3, 8))
    values[:, 0] += shift * np.arange(8)
    return xr.DataArray(
        log_softmax(values, axis=-1),
        dims=("sample", "kind", "layer", "vocabulary"),
        coords={"kind": ["perceptual", "textual"], "layer": [0, 1, 2]},
    )


def average(sets):
    return {
        (name, kind): np.exp(array.sel(kind=kind).to_numpy()).mean(0)
        for name, array in sets.items()
        for kind in ("perceptual", "textual")
    }


def test_curves_compare_mean_distributions():
    sets = {"a": make_log_probs(5, seed=0, shift=0.5), "b": make_log_probs(7, seed=1)}
    terms = vocabulary.compute_divergence_terms(sets, resamples=20)
    mean = average(sets)
    p, t = ([mean[name, kind] for name in sets] for kind in ("perceptual", "textual"))
    pairs = {"JS(P, T)": zip(p, t, strict=True), "JS(T, T')": [t], "JS(P, P')": [p]}
    expected = [
        (curve, jensenshannon(left, right, axis=-1, base=2) ** 2)
        for curve, own in pairs.items()
        for left, right in own
    ]
    assert terms["curve"].to_numpy().tolist() == [curve for curve, _ in expected]
    np.testing.assert_allclose(terms["estimate"], [values for _, values in expected], rtol=1e-9)
    assert terms["draws"].sizes == {"draw": 20, "term": 4, "layer": 3}
    assert terms.attrs["samples"] == 12


def test_each_draw_is_a_resample_of_contents_around_the_estimate():
    """Contents are drawn together: two data sets with the same texts never differ in them."""
    one = make_log_probs(9, seed=3, shift=0.4).assign_coords(id=("sample", list("abcdefghi")))
    other = one.copy()
    other[:, 0] = make_log_probs(9, seed=4)[:, 0].to_numpy()
    terms = vocabulary.compute_divergence_terms({"x": one, "y": other}, resamples=30)
    assert terms.attrs["samples"] == 9
    texts = terms["draws"].isel(term=terms["curve"].to_numpy() == "JS(T, T')")
    np.testing.assert_allclose(texts, 0, atol=1e-6)
    np.testing.assert_allclose(terms["draws"].mean("draw"), terms["estimate"], atol=1e-6)
    assert (terms["draws"].std("draw").isel(term=0) > 1e-3).all()


def test_a_difference_from_text_counts_only_beyond_that_of_two_texts():
    """Percepts between two texts that differ: far from each text, and no farther than texts are."""
    values = np.full((30, 2, 1, 4), -9.0)
    left, right = values.copy(), values.copy()
    left[:, 1, 0, 0] = right[:, 1, 0, 1] = 0  # two texts without a common word
    left[:, 0, 0, :2] = right[:, 0, 0, :2] = 0  # percepts: both words
    far = {"a": left.copy(), "b": right.copy()}
    for each in far.values():
        each[:, 0] = -9
        each[:, 0, 0, 2:] = 0  # percepts: two further words
    margins = {}
    for name, sets in (("between", {"a": left, "b": right}), ("far", far)):
        arrays = {
            key: xr.DataArray(
                log_softmax(each, axis=-1),
                dims=("sample", "kind", "layer", "vocabulary"),
                coords={"kind": ["perceptual", "textual"], "layer": [0]},
            )
            for key, each in sets.items()
        }
        terms = vocabulary.compute_divergence_terms(arrays, resamples=20)
        margins[name] = vocabulary.compute_divergence_margin(terms)
        assert float(terms["estimate"][0, 0]) > 0.2  # the old null, two halves of one text, gives 0
    # JS((1, 0), (.5, .5)) = .311 bits, against 1 bit between the texts.
    assert margins["between"].value == pytest.approx(0.311 - 1, abs=0.02)
    assert margins["far"].value == pytest.approx(0, abs=0.02)


def test_one_data_set_has_no_other_texts():
    terms = vocabulary.compute_divergence_terms({"a": make_log_probs(6, seed=0)}, resamples=2)
    with pytest.raises(ParameterError, match="at least two"):
        vocabulary.compute_divergence_margin(terms)


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
    sets = {"a": make_log_probs(8, seed=4, shift=0.3), "b": make_log_probs(6, seed=5)}
    mean = average(sets)
    p, t = (np.stack([mean[name, kind] for name in sets]) for kind in ("perceptual", "textual"))
    released = vocabulary.compute_text_divergence(sets, paper_compat=True)
    expected = stats.entropy(p[:, :1], t, axis=-1, base=2).mean(0)
    np.testing.assert_allclose(released, expected, rtol=1e-9)
    fixed = vocabulary.compute_text_divergence(sets)
    np.testing.assert_allclose(fixed, (jensenshannon(p, t, axis=-1, base=2) ** 2).mean(0))
    terms = vocabulary.compute_divergence_terms(sets, resamples=2)["estimate"]
    np.testing.assert_allclose(fixed, terms.isel(term=slice(2)).mean("term"))
