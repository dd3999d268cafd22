"""Encoder tokens on disk: filled once, resumed after an interruption, kept apart by their key."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ima.data.samples import Sample
from ima.errors import SampleError
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


def test_tokens_of_a_lost_file_are_computed_again(tmp_path, caplog):
    EncoderTokenStore(tmp_path, SAMPLES, encode, key="a")
    (kept,) = tmp_path.glob("*.tokens")
    whole = kept.read_bytes()
    for left in (b"", whole[:-3], None):
        kept.unlink() if left is None else kept.write_bytes(left)
        again = EncoderTokenStore(tmp_path, SAMPLES, encode, key="a")
        assert again.read([39, 0])[:, 0, 0].tolist() == [39, 0]
        assert kept.read_bytes() == whole
    assert caplog.text.count("are encoded again") == 3


def test_tokens_too_large_for_float16_are_refused(tmp_path):
    for factor in (1e5, float("nan")):
        with pytest.raises(SampleError, match=r"sample '2' is .*at most 65504"):
            EncoderTokenStore(
                tmp_path,
                SAMPLES[:4],
                lambda batch, by=factor: torch.where(encode(batch) == 2, by, 1.0),
                key="large",
            )


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
