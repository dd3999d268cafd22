"""Narrow cones: made-up states in which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ima.errors import ParameterError
from ima.measures import cones, similarity

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
    assert list(got["terms"].values) == [2, 1, 1, 2, 2]
    assert list(got["layer"].values) == [1, 2, 3, 4]
    interval = cones.compute_cone_margin(got)
    assert interval.n == 80
    assert interval.low > 0.2


def test_one_cone_for_all_is_not_supported():
    got = cones.compute_cone_margin(measured({"a": states(0, 0), "b": states(0, 0, seed=1)}))
    assert got.low < 0 < got.high


def test_modalities_apart_while_text_meets_percepts_is_contradicted():
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
    assert terms.attrs["pairs"] == "matched"
    index = (terms["curve"].values == "PvsP").nonzero()[0][0]
    expected = similarity.cosine_over_pairs(
        sets["a"].sel(kind="perceptual"), sets["b"].sel(kind="perceptual"), paper_compat=True
    )
    np.testing.assert_allclose(terms["estimate"].isel(term=index), expected)


def test_text_only_sets_count_among_text_alone():
    text = states(0, 1, seed=2)
    text = text.where(text["kind"] == "textual")
    terms = cones.compute_similarity_terms(
        {"a": states(0, 1), "b": states(0, 1, seed=1), "t": text}
    )
    found = list(zip(*(terms[name].values for name in ("curve", "left", "right")), strict=True))
    assert ("TvsT", "a", "t") in found
    assert ("T intra", "t", "t") in found
    assert not [entry for entry in found if "t" in entry[1:] and entry[0].startswith("P")]


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
