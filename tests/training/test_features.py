"""Encoder tokens on disk: filled once, resumed after an interruption, kept apart by their key."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ima.data.samples import Sample
from ima.training import features
from ima.training.features import EncoderTokenStore


def make_samples(task="caption"):
    return [
        Sample(str(i), "image", task, "prompt", ("x",), media=lambda i=i: np.full((2, 2, 3), i))
        for i in range(40)
    ]


SAMPLES = make_samples()


def encode(batch):
    numbers = torch.tensor([float(sample.id) for sample in batch])
    return numbers[:, None, None].expand(-1, 3, 2)


def test_tokens_come_back_in_the_order_asked(tmp_path):
    store = EncoderTokenStore(tmp_path, SAMPLES, encode, key="a")
    tokens = store.read([39, 0, 17])
    assert tokens.dtype == torch.float32
    assert tokens[:, 0, 0].tolist() == [39, 0, 17]


def test_an_interrupted_computation_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_RECORD_EVERY", 1)
    calls = []

    def stop_at_the_last_batch(batch):
        calls.append(len(batch))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(batch)

    with pytest.raises(KeyboardInterrupt):
        EncoderTokenStore(tmp_path, SAMPLES, stop_at_the_last_batch, key="a")
    calls.clear()
    store = EncoderTokenStore(
        tmp_path, SAMPLES, lambda batch: calls.append(len(batch)) or encode(batch), key="a"
    )
    assert calls == [8]
    assert store.read(range(40))[:, 0, 0].tolist() == list(range(40))


def test_another_key_has_its_own_tokens(tmp_path):
    EncoderTokenStore(tmp_path, SAMPLES, encode, key="a")
    other = EncoderTokenStore(tmp_path, SAMPLES, lambda batch: encode(batch) + 1, key="b")
    assert other.read([0])[0, 0, 0] == 1
    assert len(list(tmp_path.glob("*.tokens"))) == 2


def test_data_sets_share_the_tokens_of_a_medium(tmp_path):
    EncoderTokenStore(tmp_path, SAMPLES[:30], encode, key="a")
    calls = []
    questions = EncoderTokenStore(
        tmp_path,
        make_samples("qa")[5:],
        lambda batch: calls.extend(sample.id for sample in batch) or encode(batch),
        key="a",
    )
    assert calls == [str(i) for i in range(30, 40)]
    assert questions.read([0, 30])[:, 0, 0].tolist() == [5, 35]
