"""Nearest neighbours: loops over states, planted clusters, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from madestates import MODALITIES, make_clusters, make_states
from scipy.spatial.distance import cosine
from sklearn.neighbors import NearestNeighbors

from ima.errors import ParameterError
from ima.measures import labelled_states, neighbours
from ima.stats.intervals import compute_wilson_interval


def balance(listed, seed=0):
    labels = labelled_states.get_class_labels(listed, problem="modality")
    return labelled_states.balance_classes(labels, seed=seed)


def read(means, listed, classes, layer=0):
    rows = classes.index.to_numpy()
    vectors = labelled_states.read_layer_states(means, states=listed, rows=rows, layer=layer)
    return vectors, listed.loc[rows, "content"].to_numpy()


@pytest.fixture(scope="module")
def noisy():
    """Clusters that overlap, of two data sets with a picture in both."""
    means = make_clusters(spread=1.0, n=30)
    ids = [f"content {i}" for i in range(40)]
    starts = {"picture": 0, "sound": 10}
    return {
        name: array.assign_coords(id=("sample", ids[starts[name] :][:30]))
        for name, array in means.items()
    }


@pytest.fixture(scope="module")
def noisy_states(noisy):
    return labelled_states.list_labelled_states(noisy, modalities=MODALITIES)


def test_clusters_are_found(clear, listed):
    got = neighbours.compare_nearest_neighbours(clear, states=listed)
    interval = neighbours.compute_neighbour_margin(got)
    assert interval.n == 80
    assert 0.5 < interval.low < interval.value <= 1 - got.attrs["expected"]


def test_noise_has_no_clusters():
    noise = make_clusters(spread=1, at=[])
    listed = labelled_states.list_labelled_states(noise, modalities=MODALITIES)
    interval = neighbours.compute_neighbour_margin(
        neighbours.compare_nearest_neighbours(noise, states=listed)
    )
    assert interval.low < 0 < interval.high


def test_one_layer_without_clusters_decides():
    broken = make_clusters(layers=3, at=[0, 2], spread=0.3)
    listed = labelled_states.list_labelled_states(broken, modalities=MODALITIES)
    got = neighbours.compare_nearest_neighbours(broken, states=listed)
    assert int(got["fraction"].idxmin("layer")) == 1
    assert neighbours.compute_neighbour_margin(got).low < 0.05
    assert neighbours.describe_neighbours(got).startswith("At layer 1, ")


def test_neighbours_are_those_of_scikit_learn(noisy, noisy_states):
    """With all states of a content left out, the nearest of the rest by cosine."""
    got = neighbours.compare_nearest_neighbours(noisy, states=noisy_states)
    classes = balance(noisy_states)
    for layer in (0, 1):
        x, contents = read(noisy, noisy_states, classes, layer)
        hits = []
        for i in range(len(x)):
            others = np.flatnonzero(contents != contents[i])
            search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(x[others])
            nearest = others[search.kneighbors(x[[i]], return_distance=False).item()]
            hits.append(classes.iloc[nearest] == classes.iloc[i])
        assert float(got["fraction"].sel(layer=layer)) == pytest.approx(np.mean(hits))
        for name in ("audio", "image", "text"):
            expected = np.mean(np.array(hits)[(classes == name).to_numpy()])
            assert float(got["by_class"].sel({"class": name, "layer": layer})) == pytest.approx(
                expected
            )
    assert 0.4 < float(got["fraction"].min()) < 0.95  # neither chance nor perfect


def test_another_view_of_the_same_content_is_no_neighbour():
    """Each picture is in two data sets, with the same vector: its copy would be a perfect hit."""
    rng = np.random.default_rng(0)
    array = make_states(1, spread=1, at=[], n=30)
    array = array.assign_coords(id=("sample", [str(i) for i in range(30)]))
    means = {"caption": array, "qa": array + 1e-6 * rng.normal(size=array.shape)}
    listed = labelled_states.list_labelled_states(
        means, modalities=dict.fromkeys(means, "image"), tasks={"caption": "caption", "qa": "qa"}
    )
    got = neighbours.compare_nearest_neighbours(means, states=listed)
    assert (got["fraction"] < 0.75).all()
    assert got.attrs["samples"] == 30


def test_expected_fraction_is_that_of_permuted_classes(noisy, noisy_states):
    got = neighbours.compare_nearest_neighbours(noisy, states=noisy_states)
    classes = balance(noisy_states)
    x, contents = read(noisy, noisy_states, classes)
    codes = np.unique(classes.to_numpy(), return_inverse=True)[1]
    rng = np.random.default_rng(0)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = [
        neighbours._find_neighbour_hits(unit, codes=rng.permutation(codes), contents=contents)[
            0
        ].mean()
        for _ in range(400)
    ]
    error = np.std(means) / np.sqrt(len(means))
    assert got.attrs["expected"] == pytest.approx(np.mean(means), abs=3.5 * error)
    assert error < 0.004


def test_interval_is_wilsons_at_the_jackknifes_number_of_contents(noisy, noisy_states):
    """Each content is deleted in turn, and all neighbours are found again."""
    got = neighbours.compare_nearest_neighbours(noisy, states=noisy_states)
    classes = balance(noisy_states)
    x, contents = read(noisy, noisy_states, classes)
    n = len(np.unique(contents))
    left = []
    for gone in np.unique(contents):
        rest = np.flatnonzero(contents != gone)
        hits = []
        for i in rest:
            others = rest[contents[rest] != contents[i]]
            nearest = others[np.argmin([cosine(x[i], x[j]) for j in others])]
            hits.append(classes.iloc[nearest] == classes.iloc[i])
        left.append(np.mean(hits))
    variance = (n - 1) / n * np.sum((np.array(left) - np.mean(left)) ** 2)
    fraction = got["fraction"].sel(layer=0)
    effective = min(n, float(fraction * (1 - fraction)) / variance)
    assert effective < n  # the jackknife decides here, and not the number of contents
    low, high = compute_wilson_interval(fraction, n=fraction.copy(data=effective), level=0.975)
    np.testing.assert_allclose(got[["low", "high"]].sel(layer=0).to_array(), [low, high])


def test_interval_covers_the_fraction_that_other_samples_have():
    found = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(40, 2, 1, 6))
        values[:, 0, :, 0] += 0.8
        coords = {"kind": ["perceptual", "textual"], "layer": [0]}
        means = {"a": xr.DataArray(values, coords, ("sample", "kind", "layer", "hidden"))}
        listed = labelled_states.list_labelled_states(means, modalities={"a": "image"})
        got = neighbours.compare_nearest_neighbours(means, states=listed)
        found.append([float(got[name][0]) for name in ("fraction", "low", "high")])
    fraction, low, high = np.transpose(found)
    truth = fraction.mean()
    assert 0.55 < truth < 0.8
    assert np.mean((low <= truth) & (truth <= high)) > 0.93
    # It is no wider than need be.
    assert np.mean(high - low) < 6 * fraction.std()


def test_a_perfect_score_has_an_interval():
    means = make_clusters(spread=0.01)
    listed = labelled_states.list_labelled_states(means, modalities=MODALITIES)
    got = neighbours.compare_nearest_neighbours(means, states=listed)
    interval = neighbours.compute_neighbour_margin(got)
    assert interval.value == interval.high == pytest.approx(1 - got.attrs["expected"])
    assert 0.03 < interval.value - interval.low < 0.1
    assert "of every state is of its own class" in neighbours.describe_neighbours(got)


def test_two_contents_are_too_few():
    means = make_clusters(n=1)
    listed = labelled_states.list_labelled_states(means, modalities=MODALITIES)
    with pytest.raises(ParameterError, match="need 3 contents; found 2"):
        neighbours.compare_nearest_neighbours(means, states=listed)
