"""Treated means of controls are those that a cache of the same run would give."""

from __future__ import annotations

import numpy as np
import pytest
from tinysamples import image_set

from ima.cache.cache_set import open_cache_set
from ima.capture.writer import create_cache
from ima.errors import ParameterError
from ima.interventions.controls import replace_tokens_with_noise, run_cache_set_controls
from ima.interventions.treated_states import (
    capture_treated_means,
    run_separated,
    run_treated_controls,
)
from ima.measures.treatments import TREATMENTS
from ima.models import load_model
from ima.studies.treated_curves import read_treated_sets


@pytest.fixture
def model(tiny_zoo):
    return load_model("llama-mini/vit/image-caption")


def test_treated_means_are_those_of_a_cache(model, tmp_path):
    samples = image_set(6)
    settings = {"samples": 6, "batch_size": 3, "unit": 3, "keep_tokens": 0, "progress": False}
    create_cache(model, dataset=samples, path=tmp_path / "one.zarr", **settings)
    cache_set = open_cache_set([tmp_path / "one.zarr"])
    batches = model.encode_batches(list(samples), batch_size=3)
    treated = capture_treated_means(model, batches)
    (expected,) = read_treated_sets(cache_set).values()
    for name in TREATMENTS:
        np.testing.assert_allclose(treated[name], expected[name], rtol=1e-4, atol=1e-4)
        assert treated[name]["id"].to_numpy().tolist() == [sample.id for sample in samples]


def test_models_run_again_with_the_weights_that_made_the_cache(model, tmp_path, monkeypatch):
    settings = {"samples": 12, "unit": 12, "keep_tokens": 0, "progress": False}
    paths = []
    for precision in ("float32", "bfloat16"):
        own = load_model("llama-mini/vit/image-caption", dtype=precision)
        path = tmp_path / f"{precision}.zarr"
        create_cache(own, dataset="mini-image-caption", path=path, **settings)
        paths.append(path)
    found = {}
    for path in paths:
        cache_set = open_cache_set([path])
        (name,) = cache_set.members.index
        assert cache_set.members["dtype"][name] == path.stem
        found[path.stem] = run_separated(cache_set, samples=12)["without sinks"][name]
        states = run_cache_set_controls(cache_set, samples=12, draws=1, drawn_samples=0).states
        np.testing.assert_allclose(
            states["as it is"][name], cache_set.means[name], rtol=1e-4, atol=1e-4
        )
    # Rounded weights give other states.
    assert float(abs(found["float32"] - found["bfloat16"]).max()) > 1e-3


def test_too_few_separated_samples_are_refused_before_a_model_runs():
    with pytest.raises(ParameterError, match="at least 10 samples of each data set; got 9"):
        run_separated(None, samples=9)
    assert run_separated(None, samples=0) == {}


def test_noise_changes_percepts_and_random_blocks_keep_the_input(model):
    samples = list(image_set(5))
    plain = capture_treated_means(model, model.encode_batches(samples, batch_size=5))["raw"]
    controls = {name: own["raw"] for name, own in run_treated_controls(model, samples).items()}
    first = plain.isel(layer=0)
    np.testing.assert_allclose(controls["random blocks"].isel(layer=0), first, atol=1e-6)
    assert not np.allclose(controls["random blocks"].isel(layer=1), plain.isel(layer=1))
    text = {"kind": "textual"}
    np.testing.assert_allclose(
        controls["noise"].isel(layer=0).sel(text), first.sel(text), atol=1e-6
    )
    assert not np.allclose(controls["noise"].isel(layer=0, kind=0), first.isel(kind=0))


def test_separated_texts_are_the_same_after_any_percepts(model):
    samples = list(image_set(5))
    batches = model.encode_batches(samples, batch_size=5)
    noisy = [replace_tokens_with_noise(batch, seed=3) for batch in batches]
    separated = run_treated_controls(model, samples)["separated"]["raw"]
    after_noise = capture_treated_means(model, noisy, separated=True)["raw"]
    text, percepts = {"kind": "textual"}, {"kind": "perceptual"}
    np.testing.assert_allclose(separated.sel(text), after_noise.sel(text), atol=1e-5)
    assert not np.allclose(separated.sel(percepts), after_noise.sel(percepts), atol=1e-2)
    plain = capture_treated_means(model, batches)["raw"]
    np.testing.assert_allclose(separated.sel(percepts), plain.sel(percepts), atol=1e-5)
    assert not np.allclose(separated.sel(text), plain.sel(text), atol=1e-4)
