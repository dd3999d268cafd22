"""Narrow cones: made-up states in which the answer is known, and the loop over all pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from madestates import average_cosines, make_vectors
from scipy.spatial.distance import cosine

from ima.errors import ParameterError
from ima.measures import cones
from ima.stats.resampling import draw_dataset_weights, draw_resample_counts

LAYERS, HIDDEN = 4, 16


def states(perceptual, textual, *, n=40, seed=0, noise=0.3):
    """Scatter the two kinds around a direction each, the same at all layers."""
    rng = np.random.default_rng(seed)
    centre = np.zeros((2, HIDDEN))
    centre[0, perceptual] = centre[1, textual] = 1
    values = centre[None, :, None] + noise * rng.normal(size=(n, 2, LAYERS, HIDDEN))
    return xr.DataArray(
        values,
        dims=("sample", "kind", "layer", "hidden"),
        coords={"kind": ["perceptual", "textual"], "layer": np.arange(1, LAYERS + 1)},
    )


def test_seed_decides_the_draws_but_not_the_estimate():
    sets = {"a": states(0, 1), "b": states(0, 1, seed=1)}
    first, again, other = (
        cones.compute_similarity_terms(sets, resamples=5, seed=seed) for seed in (1, 1, 2)
    )
    assert first.identical(again)
    np.testing.assert_array_equal(first["estimate"], other["estimate"])
    assert not first["draws"].equals(other["draws"])


def test_draws_centre_on_the_estimate_even_where_matched_pairs_are_close():
    array = states(0, 1, noise=1.0, n=20)
    array = array.where(array["kind"] == "perceptual", array.sel(kind="perceptual", drop=True) * 2)
    terms = cones.compute_similarity_terms({"a": array}, resamples=4000)
    own = terms.isel(term=terms["curve"].values == "PvsT").squeeze("term")
    # Resampling pairs without correction would shift the mean draw by about (1 - PvsT)/20.
    np.testing.assert_allclose(own["draws"].mean("draw"), own["estimate"], atol=0.01)
    assert (1 - own["estimate"]).min() / 20 > 0.03


def test_paper_compat_averages_matched_pairs():
    sets = {"a": states(0, 1), "b": states(0, 1, n=30, seed=1)}
    terms = cones.compute_similarity_terms(sets, resamples=5, paper_compat=True)
    index = (terms["curve"].values == "PvsP").nonzero()[0][0]
    a, b = (side(sets, name, "perceptual").isel(sample=slice(30)) for name in sets)
    expected = [
        np.mean([1 - cosine(x, y) for x, y in zip(a[:, at], b[:, at], strict=True)])
        for at in range(LAYERS)
    ]
    np.testing.assert_allclose(terms["estimate"].isel(term=index), expected)
    assert set(terms["curve"].values) == {"PvsT", "PvsP", "TvsT"}


def test_text_only_sets_count_for_text_alone():
    text = states(0, 1, seed=2)
    text = text.where(text["kind"] == "textual")
    terms = cones.compute_similarity_terms(
        {"a": states(0, 1), "b": states(0, 1, seed=1), "t": text}
    )
    listed = list(zip(*(terms[name].values for name in ("curve", "left", "right")), strict=True))
    assert ("TvsT", "a", "t") in listed
    assert ("T intra", "t", "t") in listed
    assert not [entry for entry in listed if "t" in entry[1:] and entry[0].startswith("P")]


def test_data_sets_of_different_models_are_refused():
    other = states(0, 1).isel(layer=slice(2))
    with pytest.raises(ParameterError, match="not from one language model"):
        cones.compute_similarity_terms({"a": states(0, 1), "b": other})


def test_a_sample_without_tokens_is_refused():
    array = states(0, 1)
    array[3, 0] = np.nan
    with pytest.raises(ParameterError, match="1 of 40 vectors are zero or not finite"):
        cones.compute_similarity_terms({"a": array})


@pytest.mark.parametrize("sets", [{}, {"a": states(0, 1, n=3)}])
def test_too_little_is_refused(sets):
    with pytest.raises(ParameterError, match="at least"):
        cones.compute_similarity_terms(sets)


def make_matched_states(n, *, seed):
    """Make perceptual and textual means with distinct directions and matched pairs closer."""
    own = make_vectors(n, seed=seed)
    kinds = [own + 1.0, own * 0.8 + make_vectors(n, seed=seed + 100) * 0.4 - 0.5]
    return xr.concat(kinds, dim=xr.DataArray(["perceptual", "textual"], dims="kind", name="kind"))


@pytest.fixture(scope="module")
def means():
    sizes = {"image": 12, "video": 9, "audio": 10}
    layer = {"layer": np.arange(3)}
    return {
        name: make_matched_states(n, seed=number).assign_coords(layer)
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
            own = side(means, left, kinds[curve[0]])
            expected = average_over_halves(own)
        else:
            a, b = side(means, left, kinds[curve[0]]), side(means, right, kinds[curve[-1]])
            expected = average_cosines(a, b)
        np.testing.assert_allclose(term["estimate"], expected, atol=1e-12)


def average_over_halves(vectors):
    """Average the cosines between two halves over all ways to split the vectors ``(layer,)``.

    Each pair of different vectors is apart in equally many splits, as a test of four checks.
    """
    pairs = list(combinations(range(len(vectors)), 2))
    return [
        np.mean([1 - cosine(vectors.values[i, at], vectors.values[j, at]) for i, j in pairs])
        for at in range(vectors.sizes["layer"])
    ]


def test_within_a_data_set_is_the_mean_over_all_splits_into_halves():
    array = states(0, 1, n=4)
    terms = cones.compute_similarity_terms({"a": array}, resamples=200)
    own = side({"a": array}, "a", "textual")
    splits = [({0, i}, {1, 2, 3} - {i}) for i in (1, 2, 3)]
    halves = [average_cosines(own[sorted(a)], own[sorted(b)]) for a, b in splits]
    got = terms["estimate"].isel(term=(terms["curve"] == "T intra").values).squeeze("term")
    np.testing.assert_allclose(got, np.mean(halves, axis=0))
    np.testing.assert_allclose(got, average_over_halves(own))


def test_a_resample_of_one_sample_has_no_pair_and_is_left_out():
    array = states(0, 1, n=4)
    counts = draw_resample_counts(4, resamples=400, seed=(0, 0))
    several = int(((counts[1:] > 0).sum(1) > 1).sum())
    terms = cones.compute_similarity_terms({"a": array}, resamples=400)
    assert terms.sizes["draw"] == several < 400


def test_curves_within_and_across_kinds_share_their_draws():
    """Both kinds are the same vectors, so PvsT moves with the similarity within each kind."""
    array = states(0, 0, noise=0.6)
    array[:, 1] = array[:, 0]
    terms = cones.compute_similarity_terms({"a": array}, resamples=400)
    draws = cones.average_terms_by_curve(terms)["draws"].sel(layer=1)
    gap = draws.sel(curve="P intra") - draws.sel(curve="PvsT")
    # Halves that are drawn on their own would scatter more than either curve.
    assert gap.std() < 0.1 * draws.sel(curve="P intra").std()
    np.testing.assert_allclose(draws.sel(curve="T intra"), draws.sel(curve="P intra"))


@pytest.fixture(scope="module")
def grouped(means):
    """Groups of some samples of two data sets, and of the third one only one group."""
    parts = {"image": [[0, 3, 5, 9], [1, 2], [4, 6, 10]], "video": [[8, 1, 0], [2, 3]]}
    parts["audio"] = [[1, 4, 7]]
    return {name: [np.array(rows) for rows in own] for name, own in parts.items()}


def test_every_term_of_groups_is_its_double_loop(means, grouped):
    terms = cones.compute_group_terms(means, groups=grouped, resamples=30)
    assert terms.sizes["term"] == 3 * 3 + 3 * 2  # a single group has no pair of two groups
    assert terms.attrs["samples"] == 9 + 5 + 3
    kept = {name: means[name].isel(sample=np.concatenate(own)) for name, own in grouped.items()}
    weights, _, _ = draw_dataset_weights(kept, resamples=30, seed=0)
    keys = zip(*(terms[key].values for key in ("left", "pairs", "curve")), strict=True)
    loops = np.stack([loop_over_groups(means, grouped, weights, *key) for key in keys], axis=1)
    # A resample counts only if each term has a pair in it.
    complete = np.isfinite(loops).all(axis=1)
    assert 15 < terms.sizes["draw"] == complete.sum() - 1 < 30
    np.testing.assert_allclose(terms["estimate"].values[:, 1], loops[0])
    np.testing.assert_allclose(terms["draws"].values[:, :, 1], loops[complete][1:])


def loop_over_groups(means, groups, weights, name, pairs, curve):
    """Average over pairs, one by one, at layer 1, with the weights of each resample."""
    letters = {"PvsT": "PT", "P intra": "PP", "T intra": "TT"}[curve]
    kinds = {"P": "perceptual", "T": "textual"}
    a, b = (side(means, name, kinds[letter]).values[:, 1] for letter in letters)
    rows = [(number, row) for number, own in enumerate(groups[name]) for row in own]
    drawn, total, weight = weights[name][:, :], 0.0, 0.0
    for at, (group_i, i) in enumerate(rows):
        for other, (group_j, j) in enumerate(rows):
            if i == j or (group_i == group_j) != (pairs == "same"):
                continue
            share = 1 / (len(groups[name][group_i]) - 1) if pairs == "same" else 1
            both = share * drawn[:, at] * drawn[:, other]
            total, weight = total + both * (1 - cosine(a[i], b[j])), weight + both
    with np.errstate(invalid="ignore"):
        return total / weight


def test_one_group_of_all_samples_is_the_whole_data_set(means):
    groups = {name: [np.arange(array.sizes["sample"])] for name, array in means.items()}
    terms = cones.compute_group_terms(means, groups=groups, resamples=20)
    whole = cones.compute_similarity_terms(means, resamples=20)
    for curve in ("P intra", "T intra"):
        a, b = (part.isel(term=(part["curve"] == curve).values) for part in (terms, whole))
        np.testing.assert_allclose(a["estimate"], b["estimate"])
        np.testing.assert_allclose(a["draws"], b["draws"])


@pytest.mark.parametrize("groups", [{}, {"image": []}, {"image": [np.array([0])]}])
def test_groups_without_pairs_are_refused(means, groups):
    with pytest.raises(ParameterError, match="groups of at least two samples"):
        cones.compute_group_terms(means, groups=groups)


def test_draws_scatter_as_fresh_samples_do():
    """The bootstrap's spread agrees with the spread over many data sets from the same source."""
    fresh, spreads = [], []
    for seed in range(60):
        made = make_matched_states(40, seed=seed).assign_coords(layer=np.arange(3))
        terms = cones.compute_similarity_terms({"image": made}, resamples=200, seed=seed)
        own = cones.average_terms_by_curve(terms.isel(layer=0, drop=True))
        gap = own.sel(curve=["P intra", "T intra"]) - own.sel(curve="PvsT", drop=True)
        both = xr.concat([own.sel(curve=["PvsT"]), gap], dim="curve")
        fresh.append(both["estimate"].values)
        spreads.append(both["draws"].std("draw").values)
    np.testing.assert_allclose(np.mean(spreads, axis=0), np.std(fresh, axis=0), rtol=0.3)
