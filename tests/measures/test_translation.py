"""Translation rates against loops over pairs of samples, and on planted percepts."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr
from scipy.special import log_softmax

from ima.errors import ParameterError
from ima.measures import translation
from ima.stats.intervals import Interval

NOUNS = ["bee", "cat", "dog", "owl", "fox", "cow", "hen", "ant"]
VOCABULARY = [" a", " and", *(f" {noun}" for noun in NOUNS), *(f"x{i}" for i in range(20))]


def make_texts(n, *, seed):
    """Return texts of three nouns: most pairs of texts share one."""
    rng = np.random.default_rng(seed)
    return ["a {} and a {} and a {}".format(*rng.permutation(NOUNS)[:3]) for _ in range(n)]


def make_lens(shown, *, seed=0):
    """Return a lens whose percepts show given words first, by layer and sample."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(shown[0]), 2, len(shown), len(VOCABULARY)))
    spelled = [word.strip() for word in VOCABULARY]
    for layer, by_sample in enumerate(shown):
        for sample, words in enumerate(by_sample):
            for word in words:
                logits[sample, 0, layer, spelled.index(word)] += 100
    lens = xr.DataArray(
        log_softmax(logits, axis=-1),
        dims=("sample", "kind", "layer", "vocabulary"),
        coords={"kind": ["perceptual", "textual"], "layer": range(len(shown))},
    )
    return lens.assign_coords(word=("vocabulary", VOCABULARY))


def list_nouns(texts):
    return [[word for word in text.split() if word in NOUNS] for text in texts]


def test_rates_are_the_loop_over_pairs():
    texts = make_texts(12, seed=0)
    rng = np.random.default_rng(1)
    shown = [[list(rng.permutation(NOUNS)[:2]) for _ in texts] for _ in range(3)]
    lens = make_lens(shown).assign_coords(id=("sample", [str(i // 2) for i in range(12)]))
    rates = translation.compute_translation_rates(
        {"x": lens}, references={"x": texts}, words=5, resamples=10
    )
    assert rates.attrs["samples"] == 6
    assert rates["draws"].sizes == {"draw": 10, "text": 2, "dataset": 1, "layer": 3}
    # Nouns are in at most half of these texts, "a" and "and" in all.
    own_words = [set(nouns) for nouns in list_nouns(texts)]
    assert max(sum(noun in own for own in own_words) for noun in NOUNS) <= 6
    for layer in range(3):
        hits = []
        for i, own in enumerate(own_words):
            order = np.argsort(-lens[i, 0, layer].to_numpy())[:5]
            likeliest = {VOCABULARY[at].strip() for at in order}
            for j, other in enumerate(own_words):
                if i // 2 != j // 2 and own - other and other - own:
                    hits.append((bool(likeliest & (own - other)), bool(likeliest & (other - own))))
        np.testing.assert_allclose(rates["estimate"][:, 0, layer], np.mean(hits, axis=0))


def test_a_translated_percept_scores_1_although_texts_share_words():
    texts = make_texts(20, seed=2)
    shown = [[[] for _ in texts], list_nouns(texts)]
    rates = translation.compute_translation_rates(
        {"x": make_lens(shown)}, references={"x": texts}, words=3, resamples=50
    )
    # A word of another text is among those of nearly every translated percept.
    shared = [set(a) & set(b) for a in shown[1] for b in shown[1]]
    assert np.mean([bool(words) for words in shared]) > 0.7
    rate = translation.compute_translation_rate(rates)
    assert (rate.value, rate.low, rate.high, rate.n) == (1, 1, 1, 20)
    assert "image caption, at layer 1" in translation.describe_translation_rate(
        rates, titles={"x": "image caption"}
    )


def test_the_sentence_on_rates_says_which_intervals_reach_zero():
    above, near = Interval(0.5, 0.3, 0.7, n=8), Interval(0.1, 0.0, 0.3, n=8)
    assert "reaches zero" not in translation.describe_dataset_rates({"image": above})
    text = translation.describe_dataset_rates({"image": near, "audio": near})
    assert "For image, audio, the interval reaches zero" in text
    assert "the lens reads" not in text


def test_words_that_every_percept_shows_score_0():
    """Such words would be called a translation of each text that has them."""
    texts = make_texts(20, seed=3)
    shown = [[["bee", "cat", "dog"] for _ in texts]]
    lens = make_lens(shown)
    lens[:] = lens[:1].to_numpy()
    rates = translation.compute_translation_rates(
        {"x": lens}, references={"x": texts}, resamples=50
    )
    own, other = rates["estimate"][:, 0, 0].to_numpy()
    assert own == pytest.approx(other)
    assert own > 0.4
    assert translation.compute_translation_rate(rates).value == pytest.approx(0)


def test_the_interval_of_the_largest_rate_allows_for_its_choice():
    """Percepts that show random words: the largest of many rates is above 0, its interval not."""
    outside = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        texts = make_texts(20, seed=seed)
        shown = [[[rng.choice(NOUNS)] for _ in texts] for _ in range(10)]
        rates = translation.compute_translation_rates(
            {"x": make_lens(shown, seed=seed)}, references={"x": texts}, words=1, resamples=200
        )
        rate = translation.compute_translation_rate(rates)
        assert rate.value > 0.05
        difference = translation.subtract_other_texts(rates)
        best = difference["draws"].isel(dataset=0).sel(layer=difference["estimate"][0].idxmax())
        outside.append((rate.low > 0, float(best.quantile(0.025)) > 0))
    simultaneous, pointwise = np.sum(outside, axis=0)
    assert simultaneous <= 2
    assert pointwise > simultaneous


def test_content_words_are_those_that_tell_texts_apart():
    texts = ["The koto, then the sitar.", "the KOTO plays", "the sitar plays", "the violin's bow"]
    vocabulary = ["the", " The", " ko", " k", "to", " sitar", "pla", " violin", "s", " b", "bo"]
    found = translation.list_content_words(texts, vocabulary=vocabulary)
    # "then" is shown by the entry "the", which begins it and which all texts have.
    assert found == [{"ko", "sitar"}, {"ko", "pla"}, {"sitar", "pla"}, {"violin", "s", "bo"}]
    spaced = translation.list_content_words(["a b", "c d"], vocabulary=["", " ", "b", "C "])
    assert spaced == [{"b"}, {"c"}]


def test_the_rate_of_a_data_set_rests_on_its_own_contents():
    texts = {"x": make_texts(8, seed=5), "y": make_texts(6, seed=6)}
    lenses = {
        "x": make_lens([list_nouns(texts["x"])]).assign_coords(id=("sample", list("abcdefgh"))),
        "y": make_lens([[[]] * 6]).assign_coords(id=("sample", list("abcdex"))),
    }
    rates = translation.compute_translation_rates(lenses, references=texts, words=3, resamples=9)
    both = translation.compute_translation_rate(rates)
    own = translation.compute_dataset_rates(rates)
    assert (both.value, both.n) == (1, 9)
    assert (own["x"].value, own["x"].n) == (1, 8)
    assert own["y"].value < 0.5
    assert own["y"].n == 6


def test_data_sets_whose_texts_do_not_differ_are_left_out():
    texts = make_texts(8, seed=4)
    given = {"x": make_lens([list_nouns(texts)]), "y": make_lens([[["bee"]] * 8])}
    references = {"x": texts, "y": ["a bee"] * 8}
    rates = translation.compute_translation_rates(given, references=references, resamples=5)
    assert rates["dataset"].to_numpy().tolist() == ["x"]
    with pytest.raises(ParameterError, match=re.escape("No two texts of y each have")):
        translation.compute_translation_rates({"y": given["y"]}, references=references, resamples=5)


def test_resamples_without_a_pair_take_each_sample_once():
    texts = ["a bee", "a cat"]
    rates = translation.compute_translation_rates(
        {"x": make_lens([list_nouns(texts)])}, references={"x": texts}, words=1, resamples=20
    )
    assert np.isfinite(rates["draws"]).all()
    assert translation.compute_translation_rate(rates).value == 1


def test_samples_without_perceptual_tokens_are_refused():
    texts = ["a bee", "a cat"]
    lens = make_lens([list_nouns(texts)])
    lens[1, 0] = np.nan
    with pytest.raises(ParameterError, match="x has samples without perceptual tokens"):
        translation.compute_translation_rates({"x": lens}, references={"x": texts}, resamples=2)
