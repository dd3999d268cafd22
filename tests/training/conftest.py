"""Tiny parts, data and settings of trainings."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from tinycolours import make_sample, split_folder
from tinyhub import save_parts

from ima.data.folders import write_data_folder
from ima.data.samples import SampleSet
from ima.training import TrainingSettings, connector


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A tiny language model and a tiny encoder with its processor."""
    root = tmp_path_factory.mktemp("parts")
    save_parts(root, encoder_layers=2)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "colours"
    samples = tuple(make_sample(index) for index in range(24))
    write_data_folder(SampleSet("colours", "test", samples), path)
    split_folder(path)
    return path


@pytest.fixture
def settings(parts, data, tmp_path):
    def make(**changes):
        return TrainingSettings.from_values(
            {
                "language": str(parts / "language"),
                "encoder": str(parts / "vit"),
                "data": str(data),
                "out": str(tmp_path / "model"),
                "epochs": 8,
                "batch_size": 4,
                "learning_rate": 3e-3,
                "warmup": 2,
                "width": 16,
                "feed_forward": 16,
                "layers": 1,
                "checkpoints": 2,
                "save_every": 10,
                "device": "cpu",
                **changes,
            }
        )

    return make


@pytest.fixture
def stopped_at(monkeypatch):
    """Return a context maker in which trainings are interrupted at the n-th step that they take."""

    @contextmanager
    def stop(n):
        take_step, calls = connector._ConnectorRun._take_step, []

        def take_or_stop(self, step):
            calls.append(step)
            if len(calls) == n:
                raise KeyboardInterrupt
            return take_step(self, step)

        with monkeypatch.context() as patch:
            patch.setattr(connector._ConnectorRun, "_take_step", take_or_stop)
            yield

    return stop
