from __future__ import annotations

from ima.bench import storage_speed


def test_storage_is_compared_with_plain_files(monkeypatch):
    monkeypatch.setattr(storage_speed, "_LAYERS", 3)
    monkeypatch.setattr(storage_speed, "_HIDDEN", 64)
    records = storage_speed.benchmark_storage(repeats=1, samples=4)
    limits = {record.name: record.limit for record in records}
    assert limits == {
        storage_speed.WRITE_MEANS_STEP: 2.0,
        storage_speed.WRITE_STATES_STEP: 1.5,
        storage_speed.READ_LAYER_STEP: 2.0,
        storage_speed.READ_SAMPLE_STEP: 2.0,
        storage_speed.OPEN_STEP: 1.0,
    }
    assert min(record.value for record in records) > 0
