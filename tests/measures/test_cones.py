"""Narrow cones: made-up states in which the answer is known, and the loop over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from madestates import make_vectors
from scipy.spatial.distance import cosine

from ima.errors import ParameterError
from ima.measures import cones

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


def measured(sets, **given):
    return cones.average_terms_by_curve(
        cones.compute_similarity_terms(sets, resamples=200, **given)
    )


def test_two_cones_are_supported():
    got = measured({"a": states(0, 1), "b": states(0, 1, seed=1)})
    assert list(got["curve"].values) == list(cones.CONE_CURVES)
    assert list(got["layer"].values) == [1, 2, 3, 4]
    interval = cones.compute_cone_margin(got)
    assert interval.n == 80
    assert interval.low > 0.2


def test_one_cone_for_all_is_not_supported():
    got = cones.compute_cone_margin(measured({"a": states(0, 0), "b": states(0, 0, seed=1)}))
    assert got.low < 0 < got.high


def test_modalities_apart_with_text_near_perceptual_tokens_contradict():
    sets = {"a": states(0, 0), "b": states(1, 1, seed=1)}
    assert cones.compute_cone_margin(measured(sets)).high < 0


def test_one_layer_decides():
    sets = {"a": states(0, 1), "b": states(0, 1, seed=1)}
    broken = {
        name: array.where(array["layer"] != 3, array.sel(kind="textual", drop=True))
        for name, array in sets.items()
    }
    gap = cones.compute_cone_gaps(measured(broken))
    assert (gap["estimate"].min("side").idxmin("layer") == 3).all()
    assert cones.compute_cone_margin(measured(broken)).low < 0.05


def test_seed_decides_the_draws_but_not_the_estimate():
    sets = {"a": states(0, 1), "b": states(0, 1, seed=1)}
    first, again, other = (
        cones.compute_similarity_terms(sets, resamples=5, seed=seed) for seed in (1, 1, 2)
    )
    assert first.identical(again)
    apart = [not str(name).endswith("intra") for name in first["curve"].values]
    np.testing.assert_array_equal(
        first["estimate"].isel(term=apart), other["estimate"].isel(term=apart)
    )
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


def test_one_data_set_has_no_other_to_compare_with():
    with pytest.raises(ParameterError, match=r"missing: PvsP, TvsT.*at least two data sets"):
        cones.compute_cone_margin(measured({"a": states(0, 1)}))


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


def average_cosines(a, b):
    """Average the cosines of all pairs ``(layer,)``, one by one."""
    return [
        np.mean([1 - cosine(x, y) for x in a.values[:, at] for y in b.values[:, at]])
        for at in range(a.sizes["layer"])
    ]


def test_every_term_is_its_double_loop(means):
    terms = cones.compute_similarity_terms(means, resamples=3)
    assert terms.sizes["term"] == 3 + 3 + 3 + 3 + 3
    kinds = {"P": "perceptual", "T": "textual"}
    for number in range(terms.sizes["term"]):
        term = terms.isel(term=number)
        curve, left, right = (str(term[name].item()) for name in ("curve", "left", "right"))
        if curve.endswith("intra"):
            whole = side(means, left, kinds[curve[0]])
            order = np.random.default_rng(0).permutation(len(whole))
            a, b = (whole[half] for half in (order[: len(order) // 2], order[len(order) // 2 :]))
        else:
            a, b = side(means, left, kinds[curve[0]]), side(means, right, kinds[curve[-1]])
        np.testing.assert_allclose(term["estimate"], average_cosines(a, b), atol=1e-12)


def test_draws_scatter_as_fresh_samples_do():
    """The bootstrap's spread agrees with the spread over many data sets from the same source."""
    fresh, spreads = [], []
    for seed in range(60):
        made = make_matched_states(40, seed=seed).assign_coords(layer=np.arange(3))
        terms = cones.compute_similarity_terms({"image": made}, resamples=200, seed=seed)
        own = terms.isel(term=terms["curve"].values == "PvsT", layer=0, drop=True).squeeze("term")
        fresh.append(float(own["estimate"]))
        spreads.append(float(own["draws"].std()))
    assert np.mean(spreads) == pytest.approx(np.std(fresh), rel=0.3)
