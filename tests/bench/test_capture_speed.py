from __future__ import annotations

import numpy as np
import pytest
import zarr

from ima.bench import capture_speed
from ima.bench.model_shapes import make_random_model
from ima.capture import capture_activations


@pytest.mark.parametrize("threads", [1, 2])
def test_each_step_of_capture_is_compared_with_the_forward_pass(threads):
    subject = capture_speed.CaptureSubject("tiny", shape="tiny", batch_size=2)
    records = capture_speed.benchmark_capture(subject, threads=threads, repeats=1)
    assert [(record.name, record.limit) for record in records] == [
        (capture_speed.STATISTICS_STEP, 1.05),
        (capture_speed.INPUT_NORMS_STEP, 1.10),
        (capture_speed.HOOKS_STEP, None),
        (capture_speed.HIDDEN_STATES_STEP, None),
        (capture_speed.TOKEN_STATES_STEP, 1.25),
    ]
    assert {record.subject for record in records} == {
        f"tiny, {threads} thread{'s' * (threads - 1)}"
    }
    assert min(record.ratio for record in records) > 0
    floors = {record.name: record.floor for record in records}
    assert floors[capture_speed.STATISTICS_STEP] > floors[capture_speed.HOOKS_STEP] == 1
    assert floors[capture_speed.TOKEN_STATES_STEP] >= 1


def test_streamed_states_are_those_of_the_model(tmp_path):
    model, batch = make_random_model("tiny", batch_size=2)
    path, ended = tmp_path / "states.zarr", []
    capture_speed.stream_token_states(
        model,
        [batch, batch],
        path=path,
        hook_points=["attn_out"],
        after_batch=lambda: ended.append(1),
    )
    assert len(ended) == 2
    stored = zarr.open_group(path)["tokens/attn_out/state"][:]
    states = capture_activations(model, batch, hook_points=["attn_out"])["attn_out"]
    expected = np.stack([state.flatten(0, 1).numpy() for state in states.values()], axis=1)
    np.testing.assert_array_equal(stored, np.concatenate([expected, expected]).astype("float16"))


def test_memory_is_compared_with_that_after_the_first_batches(monkeypatch):
    monkeypatch.setattr(capture_speed, "_MANY_BATCHES", 6)
    monkeypatch.setattr(capture_speed, "_WARM_BATCHES", 2)
    read = iter([100, 110, 105, 121, 115, 116])
    monkeypatch.setattr(capture_speed, "read_resident_memory", lambda: next(read))
    record = capture_speed.benchmark_capture_memory()
    assert (record.value, record.ratio, record.is_met) == (121, 1.1, False)
