"""Repeated trainings: measured once, kept as curves, and read back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from ima.errors import ModelError, UnknownNameError
from ima.measures.treatments import TREATMENTS
from ima.models import zoo
from ima.studies import retrained
from ima.studies.treated_curves import TREATED_MEASURES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty zoo in which a training is a curve of its own seed."""
    monkeypatch.setattr(zoo, "get_zoo_root", lambda: tmp_path)
    trained = []
    monkeypatch.setattr("ima.training.train_connector", trained.append)
    card = tmp_path / "connectors" / retrained.RETRAINED_MODEL / zoo.CARD_FILE
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps({"recipe": retrained.make_recipe(retrained.OWN)}))

    def measure(model, dataset, samples, resamples):
        is_own = model == str(card.parent)
        seed = 5 if is_own else trained[-1].seed + trained[-1].permuted
        draws = np.random.default_rng(seed).normal(size=(resamples, len(TREATMENTS), 3))
        arrays = {
            "estimate": (("treatment", "layer"), draws.mean(axis=0)),
            "draws": (("draw", "treatment", "layer"), draws),
        }
        curve = xr.Dataset(arrays, coords={"treatment": list(TREATMENTS), "layer": range(3)})
        written = retrained._write_curve(curve)
        data = "drawings-image-caption" if is_own else trained[-1].data
        assert (dataset, samples) == (data, 8)
        by_measure = dict.fromkeys(TREATED_MEASURES, written)
        return {"curves": dict.fromkeys(retrained.CONDITIONS, by_measure)}

    monkeypatch.setattr(retrained, "_measure", measure)
    return tmp_path / retrained.RETRAINED_FOLDER, trained


def test_each_training_is_done_once_and_read_back(folder):
    path, trained = folder
    assert retrained.read_retrained() == {}
    assert retrained.retrain_connector(samples=8, resamples=5) == path
    found = [(one.data, one.seed, one.permuted) for one in trained]
    assert found[0] == ("drawings-image-caption", 0, True)
    datasets = ("drawings-image-caption", "sounds-audio-caption", "drawings-video-caption")
    assert found[1:] == [(data, seed, False) for data in datasets for seed in (1, 2)]
    retrained.retrain_connector(samples=8, resamples=5)
    assert len(trained) == len(found)
    found = retrained.read_retrained("separated")
    assert list(found) == ["seed 0", "permuted", "seed 1", "seed 2"]
    assert {one["PvsT"].attrs["samples"] for one in found.values()} == {8}
    audio = retrained.read_retrained(model="smollm2/whisper/audio-caption")
    assert list(audio) == ["audio seed 1", "audio seed 2"]
    curve = found["seed 2"]["PvsT"]
    assert curve["estimate"].dims == ("treatment", "layer")
    assert (curve["low"] <= curve["estimate"]).all()
    expected = np.random.default_rng(2).normal(size=(5, 4, 3)).mean(axis=0)
    np.testing.assert_allclose(curve["estimate"], expected, atol=1e-5)
    with pytest.raises(UnknownNameError, match="Did you mean 'seed 1'"):
        retrained.retrain_connector(only=["seed_1"])


def test_curves_of_another_recipe_are_refused(folder):
    """They would stand beside the connector as if they were its own."""
    path, _ = folder
    retrained.retrain_connector(only=["seed 1"], samples=8, resamples=5)
    assert list(retrained.read_retrained()) == ["seed 1"]
    record = json.loads((path / "seed-1.json").read_text(encoding="utf-8"))
    record["recipe"]["epochs"] += 1
    (path / "seed-1.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ModelError, match=r"another recipe .* ima zoo retrain --only 'seed 1'"):
        retrained.read_retrained()


def test_the_zoos_own_connector_is_measured_and_not_trained(folder):
    path, trained = folder
    retrained.retrain_connector(only=["seed 0"], samples=8, resamples=5)
    assert not trained
    expected = np.random.default_rng(5).normal(size=(5, 4, 3)).mean(axis=0)
    curve = retrained.read_retrained()["seed 0"]["PvsT"]
    np.testing.assert_allclose(curve["estimate"], expected, atol=1e-5)
    card = path.parent / "connectors" / retrained.RETRAINED_MODEL / zoo.CARD_FILE
    card.write_text(json.dumps({"recipe": {}}))
    (path / "seed-0.json").unlink()
    with pytest.raises(ModelError, match=r"another recipe .* ima zoo pretrained --only smollm2"):
        retrained.retrain_connector(only=["seed 0"], samples=8, resamples=5)
