"""Baselines of the IMA score stand between their nulls and one."""

from __future__ import annotations

import numpy as np
import pytest
from madestates import make_aligned_states

from ima.errors import ParameterError
from ima.measures import baselines, representation_similarity
from ima.stats.jackknife import compute_jackknife_interval


def test_baselines_lie_between_their_nulls_and_one():
    means = make_aligned_states(60, seed=7)
    curves = baselines.compute_baseline_curves(means, n_neighbors=5, permutations=10, resamples=100)
    assert (curves["low"] <= curves["estimate"] + 1e-9).all()
    assert (curves["high"] >= curves["estimate"] - 1e-9).all()
    last = curves.isel(layer=-1)
    for name in baselines.ALIGNMENT_BASELINES[:3]:
        own = last.sel(baseline=name)
        assert own["low"] > own["null"]
    first = curves.isel(layer=0)
    for name in baselines.ALIGNMENT_BASELINES[:3]:
        own = first.sel(baseline=name)
        assert own["low"] < own["null"] + 0.05
    assert curves["null"].sel(baseline="retrieval@1").mean() == pytest.approx(1 / 60, abs=0.02)
    assert curves["null"].sel(baseline="mutual k-NN").mean() == pytest.approx(5 / 59, abs=0.02)
    layer = means.isel(layer=2)
    a, b = (layer.sel(kind=kind).to_numpy() for kind in ("perceptual", "textual"))
    assert curves["estimate"].sel(baseline="linear CKA", layer=2) == pytest.approx(
        representation_similarity.compute_cka(a, b)
    )
    with pytest.raises(ParameterError, match="at least 10"):
        baselines.compute_baseline_curves(make_aligned_states(9, seed=0))


def test_retrieval_over_data_sets_is_that_of_each_with_contents_resampled():
    means = {
        name: make_aligned_states(n, seed=at) for at, (name, n) in enumerate([("a", 60), ("b", 30)])
    }
    curve = baselines.compute_retrieval_curve(means, resamples=300)
    for name, array in means.items():
        own = baselines.compute_baseline_curves(array, n_neighbors=5, permutations=50, resamples=20)
        own = own.sel(baseline="retrieval@1")
        np.testing.assert_allclose(curve["estimate"].sel(dataset=name), own["estimate"])
        assert curve["null"].sel(dataset=name) == pytest.approx(float(own["null"].mean()), abs=0.01)
        assert curve["null"].sel(dataset=name) == 1 / array.sizes["sample"]
    rate = curve["estimate"].sel(dataset="a", layer=2)
    spread = float(curve["draws"].sel(dataset="a", layer=2).std())
    assert 0 < rate < 1
    assert spread == pytest.approx(float(np.sqrt(rate * (1 - rate) / 60)), rel=0.3)
    assert curve.attrs["samples"] == 90
    last = baselines.compute_retrieval_at_layer(curve, position=-1)
    assert last.value == pytest.approx(float(curve["estimate"][:, -1].mean()))
    with pytest.raises(ParameterError, match="at least 2"):
        baselines.compute_retrieval_curve({"a": make_aligned_states(1, seed=0)})


def test_estimates_alone_are_those_of_the_curves():
    means = make_aligned_states(40, seed=3)
    curves = baselines.compute_baseline_curves(means, permutations=1, resamples=1)
    assert baselines.compute_baseline_estimates(means).identical(curves["estimate"].rename(None))
    with pytest.raises(ParameterError, match="at least 10"):
        baselines.compute_baseline_estimates(make_aligned_states(9, seed=0))


def test_ten_samples_are_enough():
    curves = baselines.compute_baseline_curves(make_aligned_states(10, seed=0), resamples=20)
    assert np.isfinite(curves["estimate"]).all()
    assert (curves["low"] <= curves["estimate"]).all()
    assert (curves["estimate"] <= curves["high"]).all()
    by_name = baselines.compute_mean_baselines(make_aligned_states(10, seed=0))
    assert all(own.low <= own.value <= own.high for own in by_name.values())


def test_groups_of_the_jackknife_are_as_few_as_they_are():
    """Ten groups leave nine degrees of freedom: the normal quantile would be an eighth short."""
    means = make_aligned_states(10, seed=0)
    curves = baselines.compute_baseline_curves(means, permutations=1, resamples=1)
    for baseline, measure in (
        ("linear CKA", representation_similarity.compute_cka),
        ("Fréchet distance", representation_similarity.compute_frechet_distance),
    ):
        a, b = (means.isel(layer=2).sel(kind=k).to_numpy() for k in ("perceptual", "textual"))
        rest = [np.delete(np.arange(10), at) for at in range(10)]
        without = [measure(a[rows], b[rows]) for rows in rest]
        expected = compute_jackknife_interval(measure(a, b), [without], n=10)
        own = curves.sel(baseline=baseline, layer=2)
        assert float(own["low"]) == pytest.approx(expected.low)
        assert float(own["high"]) == pytest.approx(expected.high)
    mean = baselines.compute_mean_baselines(means.isel(layer=[2, 3]))["linear CKA"]
    first = curves.sel(baseline="linear CKA", layer=2)
    assert (mean.low, mean.high) == pytest.approx((float(first["low"]), float(first["high"])))


def test_samples_of_one_content_are_one_unit():
    """Whole contents are left out and resampled: five times the rows make nothing surer."""
    once = make_aligned_states(40, seed=1)
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(40), 5)
    means = once.isel(sample=rows) + 0.01 * rng.normal(size=(200, *once.shape[1:]))
    named = means.assign_coords(id=("sample", [f"picture {row}" for row in rows]))
    settings = {"permutations": 2, "resamples": 200}
    apart, together = (
        baselines.compute_baseline_curves(each, **settings).isel(layer=2) for each in (means, named)
    )
    assert (apart.attrs["samples"], together.attrs["samples"]) == (200, 40)
    assert together["estimate"].equals(apart["estimate"])
    wider = (together["high"] - together["low"]) / (apart["high"] - apart["low"])
    # Which of five nearly equal texts is found is chance, and not the content.
    assert (wider.drop_sel(baseline="retrieval@1") > 1.4).all()
    # The two halves of the null show other contents.
    nulls = [each["null"].sel(baseline="Fréchet distance") for each in (apart, together)]
    assert nulls[1] > 1.5 * nulls[0]
    first, second = (baselines.compute_mean_baselines(each) for each in (means, named))
    assert {own.n for own in first.values()} == {200}
    assert {own.n for own in second.values()} == {40}
    widths = [own["linear CKA"].high - own["linear CKA"].low for own in (first, second)]
    assert widths[1] > 1.4 * widths[0]
    with pytest.raises(ParameterError, match=r"a tenth of the contents.*got 8"):
        baselines.compute_baseline_curves(named.isel(sample=slice(40)))


def test_estimates_alone_compute_each_measure_once_a_layer(monkeypatch):
    means = make_aligned_states(40, seed=3)
    calls = []

    def count(a, b):
        calls.append(len(a))
        return 0.5

    monkeypatch.setattr(baselines, "compute_cka", count)
    baselines.compute_baseline_estimates(means)
    assert calls == [40] * means.sizes["layer"]
