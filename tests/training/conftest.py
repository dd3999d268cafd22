"""Tiny parts, data and settings of trainings."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
import transformers as hf
from tinycolours import make_sample, split_folder
from tinyhub import TEXT, square, tokenizer

from ima.data.folders import write_data_folder
from ima.data.samples import SampleSet
from ima.training import TrainingSettings, connector


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A tiny language model and a tiny encoder with its processor."""
    root = tmp_path_factory.mktemp("parts")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tokenizer()
        words.save_pretrained(root / "language")
        config = hf.LlamaConfig(**TEXT, vocab_size=len(words))
        hf.LlamaForCausalLM(config).save_pretrained(root / "language")
        vit = hf.ViTConfig(**sizes, num_attention_heads=2, image_size=28, patch_size=14)
        hf.ViTModel(vit).save_pretrained(root / "vit")
        hf.ViTImageProcessorPil(size=square(28), do_resize=True).save_pretrained(root / "vit")
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
