"""Separability agrees with scikit-learn and finds clusters only where there are some."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from madestates import MODALITIES, make_clusters, make_states
from sklearn.metrics import balanced_accuracy_score, silhouette_samples, silhouette_score

from ima.errors import ParameterError, UnknownNameError
from ima.measures import labelled_states, separability
from ima.stats.intervals import compute_simultaneous_band
from ima.stats.resampling import draw_joint_counts


def test_probe_finds_clear_clusters(clear, listed):
    got = separability.evaluate_linear_probe(clear, states=listed)
    assert (got["accuracy"] > 0.95).all()
    assert got.attrs["chance"] == pytest.approx(1 / 3)
    assert got.attrs["classes"] == ["audio", "image", "text"]
    assert got.attrs["test_samples"] + got.attrs["train_samples"] <= 80
    assert separability.compute_probe_margin(got).low > 0.3


def test_probe_on_noise_stays_at_chance():
    noise = make_clusters(spread=1, at=[])
    listed = labelled_states.list_labelled_states(noise, modalities=MODALITIES)
    got = separability.evaluate_linear_probe(noise, states=listed)
    interval = separability.compute_probe_margin(got)
    assert interval.low < 0 < interval.high


def test_one_layer_without_clusters_decides():
    broken = make_clusters(layers=3, at=[0, 2], spread=0.5)
    listed = labelled_states.list_labelled_states(broken, modalities=MODALITIES)
    got = separability.evaluate_linear_probe(broken, states=listed)
    assert int(got["accuracy"].idxmin("layer")) == 1
    assert separability.compute_probe_margin(got).low < 0.1


def test_a_sample_is_never_on_both_sides(listed):
    classes = labelled_states.get_class_labels(listed, problem="modality")
    folds = separability._draw_folds(listed, classes=classes, split="sample", seed=0)
    for train, test in folds:
        assert set(listed.loc[train.index, "content"]).isdisjoint(listed.loc[test.index, "content"])
        assert set(train.value_counts()) == {28}
        assert set(test.value_counts()) == {12}


def test_accuracy_is_scikit_learns_balanced_accuracy(clear, listed):
    classes = labelled_states.get_class_labels(listed, problem="modality")
    ((train, test),) = separability._draw_folds(listed, classes=classes, split="sample", seed=0)
    noisy = {name: array + 0.7 * make_states(5, seed=9) for name, array in clear.items()}
    x, x_test = (
        labelled_states.read_layer_states(noisy, states=listed, rows=side.index.to_numpy(), layer=0)
        for side in (train, test)
    )
    guess = separability._fit_probe(x, train.to_numpy()).predict(x_test)
    got = separability.evaluate_linear_probe(noisy, states=listed)
    expected = balanced_accuracy_score(test, guess)
    assert float(got["accuracy"][0]) == pytest.approx(expected)


def test_split_by_task_needs_what_tasks_have_in_common():
    """Each task places its modalities elsewhere: separable within tasks, not across them."""
    means = {
        f"{m}-{t}": make_states(d, seed=d)
        for d, (m, t) in enumerate(
            [("image", "caption"), ("audio", "caption"), ("audio", "qa"), ("image", "qa")], start=1
        )
    }
    modalities = {name: name.split("-")[0] for name in means}
    tasks = {name: name.split("-")[1] for name in means}
    listed = labelled_states.list_labelled_states(means, modalities=modalities, tasks=tasks)
    within = separability.evaluate_linear_probe(means, states=listed)
    across = separability.evaluate_linear_probe(means, states=listed, split="task")
    assert (within["accuracy"] > 0.9).all()
    assert (across["accuracy"] < 0.7).all()
    assert across.attrs["test_samples"] == 48


def test_one_picture_in_two_data_sets_is_one_sample():
    ids = [f"picture {i}" for i in range(40)]
    means = {
        name: make_states(d, seed=d).assign_coords(id=("sample", ids))
        for d, name in enumerate(["caption", "qa"], start=1)
    }
    means["sound"] = make_states(3, seed=3)
    modalities = {"caption": "image", "qa": "image", "sound": "audio"}
    tasks = {"caption": "caption", "qa": "qa", "sound": "caption"}
    listed = labelled_states.list_labelled_states(means, modalities=modalities, tasks=tasks)
    assert len(listed) == 240
    assert listed["content"].nunique() == 80
    assert listed["stratum"].nunique() == 2
    classes = labelled_states.get_class_labels(listed, problem="modality")
    folds = separability._draw_folds(listed, classes=classes, split="sample", seed=0)
    for train, test in folds:
        assert set(listed.loc[train.index, "content"]).isdisjoint(listed.loc[test.index, "content"])
    scored = separability.compute_silhouette(means, states=listed, resamples=2)
    assert scored.attrs["samples"] <= 80


def test_split_by_task_of_one_task_is_refused(clear, listed):
    with pytest.raises(ParameterError, match="needs two tasks"):
        separability.evaluate_linear_probe(clear, states=listed, split="task")


def test_unknown_splits_are_refused(clear, listed):
    with pytest.raises(UnknownNameError, match="Did you mean 'sample'"):
        separability.evaluate_linear_probe(clear, states=listed, split="samples")


def test_silhouette_is_scikit_learns(clear, listed):
    got = separability.compute_silhouette(clear, states=listed, resamples=3)
    drawn = labelled_states.balance_classes(
        labelled_states.get_class_labels(listed, problem="modality"), seed=0
    )
    for layer in (0, 1):
        x = labelled_states.read_layer_states(
            clear, states=listed, rows=drawn.index.to_numpy(), layer=layer
        )
        expected = silhouette_score(x, drawn.to_numpy(), metric="cosine")
        # Classes of one size, together, are the mean of the classes.
        own = got["estimate"].sel(layer=layer).mean()
        assert float(own) == pytest.approx(expected, abs=1e-9)
        each = silhouette_samples(x, drawn.to_numpy(), metric="cosine")
        for name in ("audio", "image", "text"):
            expected = each[(drawn == name).to_numpy()].mean()
            assert float(got["estimate"].sel({"class": name, "layer": layer})) == pytest.approx(
                expected, abs=1e-9
            )


def test_a_resample_is_scikit_learns_silhouette_without_a_points_own_copies():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 5)) + np.repeat(np.eye(3, 5), 4, axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    codes = np.repeat([0, 1, 2], 4)
    weights = rng.multinomial(12, np.full(12, 1 / 12)).astype(float)
    members = [codes == code for code in range(3)]
    got = separability._compute_silhouettes(
        x,
        codes=codes,
        weights=weights[None],
        sums=[weights[None, own] @ x[own] for own in members],
        sizes=np.array([[weights[own].sum() for own in members]]),
    )[0]
    far = 1 - x @ x.T
    for i in range(12):
        a = weights[codes == codes[i]] @ far[i, codes == codes[i]]
        inside = weights[codes == codes[i]].sum() - weights[i]
        others = [
            weights[codes == c] @ far[i, codes == c] / weights[codes == c].sum()
            for c in range(3)
            if c != codes[i] and weights[codes == c].sum()
        ]
        expected = 0 if inside <= 0 else (min(others) - a / inside) / max(min(others), a / inside)
        assert got[i] == pytest.approx(expected, abs=1e-9)


def test_silhouettes_do_not_depend_on_how_many_samples_are_read_at_once(clear, listed, monkeypatch):
    whole = separability.compute_silhouette(clear, states=listed, resamples=5)
    monkeypatch.setattr(labelled_states, "_READ_AT_ONCE", 7)
    monkeypatch.setattr(separability, "_BLOCK_DISTANCES", 40)
    blocks = separability.compute_silhouette(clear, states=listed, resamples=5)
    xr.testing.assert_allclose(blocks, whole, rtol=1e-12)


def test_silhouette_interval_covers_and_repeats(clear, listed):
    got = separability.compute_silhouette(clear, states=listed, resamples=200)
    again = separability.compute_silhouette(clear, states=listed, resamples=200)
    assert got.identical(again)
    interval = separability.compute_silhouette_margin(got)
    assert interval.n == 80
    assert 0 < interval.low < interval.value < interval.high
    assert interval.value == got["estimate"].min()
    assert got["draws"].sizes == {"draw": 200, "class": 3, "layer": got.sizes["layer"]}
    shift = got["draws"].mean("draw") - got["estimate"]
    assert (np.abs(shift) < 2 * got["draws"].std("draw")).all()


def test_lowest_class_of_many_points_is_covered():
    """Twelve layers and three classes from few draws: the band holds the whole of most curves."""
    made = [make_clusters(n=16, layers=12, spread=0.8, seed=seed) for seed in range(0, 60, 2)]
    scored = []
    for seed, means in enumerate(made):
        listed = labelled_states.list_labelled_states(means, modalities=MODALITIES)
        scored.append(
            separability.compute_silhouette(means, states=listed, resamples=60, seed=seed)
        )
    truth = sum(one["estimate"] for one in scored) / len(scored)
    held = 0
    for one in scored:
        low, high = compute_simultaneous_band(one["draws"], estimate=one["estimate"])
        held += bool(((low <= truth) & (truth <= high)).all())
    # Percentiles of 36 points from 60 draws would hold few of the curves.
    assert held / len(scored) > 0.85


def test_descriptions_name_the_lowest_class(clear, listed):
    got = separability.compute_silhouette(clear, states=listed, resamples=2)
    assert "Each class is closest to itself at 2 of 2 layers" in separability.describe_silhouette(
        got
    )
    got["estimate"].loc[{"class": "audio", "layer": 1}] = -0.25
    assert separability.describe_silhouette(got) == (
        "At layer 1, audio states are closer to another class than to their own (mean silhouette "
        "-0.25); each class is closest to itself at 1 of 2 layers."
    )


def test_resamples_without_a_state_of_some_class_are_left_out():
    """Two of eight contents have sounds as well."""
    ids = [str(i) for i in range(8)]
    means = {
        name: make_states(d, n=n).assign_coords(id=("sample", ids[:n]))
        for name, d, n in (("picture", 1, 8), ("sound", 2, 2))
    }
    listed = labelled_states.list_labelled_states(means, modalities=MODALITIES)
    drawn = labelled_states.balance_classes(
        labelled_states.get_class_labels(listed, problem="modality"), seed=0
    )
    counts, _ = draw_joint_counts(listed.loc[drawn.index], resamples=300, seed=0)
    present = [counts[1:, (drawn == name).to_numpy()].any(axis=1) for name in set(drawn)]
    expected = int(np.all(present, axis=0).sum())
    got = separability.compute_silhouette(means, states=listed, resamples=300)
    assert got.sizes["draw"] == expected < 300
    assert np.isfinite(got["draws"]).all()
