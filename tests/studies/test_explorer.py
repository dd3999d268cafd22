"""Stores for a browser: the same curves, maps, words and media as the caches and the measures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from scipy.io import wavfile
from tinycaches import snapshot
from tinyexplorer import KEPT, MAPPED, SHOWN, make_caches, write_tiny_explorer

from ima.data.pictures import read_picture
from ima.errors import UnknownNameError
from ima.measures.cones import average_terms_by_curve, compute_similarity_terms
from ima.measures.embedding import compute_tsne
from ima.measures.labelled_states import list_labelled_states
from ima.studies.explorer import write_explorer


@pytest.fixture(scope="module")
def caches(tiny_zoo, tmp_path_factory):
    return make_caches(tmp_path_factory.mktemp("caches"))


@pytest.fixture(scope="module")
def explorer(caches, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer") / "data"
    cache_sets, written = write_tiny_explorer(caches, folder)
    ((name, cache_set),) = cache_sets.items()
    assert written["model"].tolist() == [name]
    return folder, cache_set, xr.open_datatree(folder / written["store"][0], engine="zarr")


def test_the_index_names_the_stores(explorer):
    folder, cache_set, store = explorer
    (entry,) = json.loads((folder / "index.json").read_text(encoding="utf-8"))["models"]
    assert entry == {"name": cache_set.name, "store": "llama-mini-st.zarr"}
    assert store.attrs["schema"] == "ima-explorer"
    assert [each["samples"] for each in store.attrs["datasets"]] == [6, 6]


def test_scalar_products_of_the_directions_are_the_measures(explorer):
    _, cache_set, store = explorer
    points = cache_set.read_hook_points()
    assert len(points) == 7
    for hook_point, means in points.items():
        terms = compute_similarity_terms(means, resamples=2)
        expected = average_terms_by_curve(terms)["estimate"]
        mean = store[f"directions/{hook_point}/mean"].astype(float)
        perceptual, textual = mean.sel(kind="perceptual"), mean.sel(kind="textual")
        found = {
            "PvsT": (perceptual * textual).sum("hidden").mean("dataset"),
            "PvsP": (perceptual[0] * perceptual[1]).sum("hidden"),
            "TvsT": (textual[0] * textual[1]).sum("hidden"),
        }
        for curve, values in found.items():
            np.testing.assert_allclose(values, expected.sel(curve=curve), atol=1e-6)


def test_maps_are_the_tsne_of_the_shown_samples(explorer):
    _, cache_set, store = explorer
    for hook_point in MAPPED:
        means = {
            name: each.isel(sample=slice(SHOWN))
            for name, each in cache_set.read_hook_points()[hook_point].items()
        }
        states = list_labelled_states(means, modalities=cache_set.modalities)
        position = store[f"map/{hook_point}/position"]
        layer = int(position["layer"][1])
        expected = compute_tsne(means, states=states, rows=states.index.to_numpy(), layers=[layer])
        np.testing.assert_allclose(position.sel(layer=layer), expected[0], rtol=1e-6)
    offset = {"mini-image-caption": 0, "mini-audio-caption": SHOWN}
    rows = [offset[name] + row for name, row in states[["dataset", "sample"]].values]
    assert store["points/sample"].values.tolist() == rows
    assert (
        store["points/kind"].values.tolist() == (states["kind"] == "textual").astype(int).tolist()
    )


def test_samples_keep_their_texts_and_media(explorer):
    folder, cache_set, store = explorer
    samples = store["samples"].to_dataset()
    assert samples["dataset"].values.tolist() == [0] * SHOWN + [1] * SHOWN
    predictions = [
        tree["samples"]["prediction"].values[:SHOWN] for tree in cache_set.trees.values()
    ]
    assert samples["prediction"].values.tolist() == np.concatenate(predictions).tolist()
    first = cache_set.open_first_samples("mini-image-caption", n=1)[0]
    assert samples["reference"].values[0] == first.references[0]
    picture = read_picture(folder / samples["media"].values[0])
    assert np.array_equal(picture, first.load())  # small enough to be kept whole
    rate, sound = wavfile.read(folder / samples["media"].values[SHOWN])
    expected = cache_set.open_first_samples("mini-audio-caption", n=1)[0].load()
    assert rate == 16_000
    np.testing.assert_allclose(sound / 32767, expected, atol=1e-4)


def test_words_belong_to_the_shown_samples(explorer):
    _, _, store = explorer
    words = store["words"].to_dataset()
    held = [*range(KEPT), *range(SHOWN, SHOWN + KEPT)]
    assert sorted(set(words["sample"].values.tolist())) == held
    spelled = words["vocabulary"].values[words["word"].values]
    assert spelled.shape == words["probability"].shape
    assert (np.diff(words["probability"].values, axis=-1) <= 0).all()


def test_the_same_caches_give_the_same_bytes(explorer, caches, tmp_path):
    folder, _, _ = explorer
    write_tiny_explorer(caches, tmp_path / "again")
    assert snapshot(tmp_path / "again") == snapshot(folder)


def test_a_map_of_no_hook_point_is_refused(explorer, tmp_path):
    _, cache_set, _ = explorer
    with pytest.raises(UnknownNameError, match=r"resid_pst.*resid_post"):
        write_explorer(
            {cache_set.name: cache_set}, folder=tmp_path / "out", words={}, shown=SHOWN,
            mapped=["resid_pst"],
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
