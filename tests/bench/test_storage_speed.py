from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ima.bench import storage_speed
from ima.cache.reader import open_cache


def test_storage_is_compared_with_plain_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_speed, "_LAYERS", 3)
    monkeypatch.setattr(storage_speed, "_HIDDEN", 64)
    monkeypatch.setattr(storage_speed, "_OPENED_SAMPLES", 50)
    records = storage_speed.benchmark_storage(repeats=1, samples=4)
    limits = {record.name: record.limit for record in records if record.limit}
    assert limits == {
        storage_speed.WRITE_MEANS_STEP: 2.0,
        storage_speed.WRITE_STATES_STEP: 1.5,
        storage_speed.READ_LAYER_STEP: 2.0,
        storage_speed.READ_SAMPLE_STEP: 2.0,
        storage_speed.OPEN_STEP: 1.0,
    }
    assert min(record.value for record in records) > 0
    beside = {record.name for record in records if record.limit is None}
    assert {f"{storage_speed.READ_LAYER_STEP}, Zarr", storage_speed.READ_OWN_BYTES_STEP} <= beside


def test_plain_files_hold_what_a_cache_holds(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(storage_speed, "_LAYERS", 3)
    monkeypatch.setattr(storage_speed, "_HIDDEN", 64)
    storage_speed._time_reading(tmp_path, samples=70, repeats=1)
    means = open_cache(tmp_path / "read.zarr")["means/resid_post/mean"].to_numpy()
    unit = storage_speed.choose_unit_size(70, layers=3, hidden=64)
    files = [tmp_path / "raw" / str(start) for start in range(0, 70, unit)]
    layer = storage_speed._read_raw_layer(files, layer=2, samples=70, unit=unit)
    np.testing.assert_array_equal(layer, means[:, :, 2])
    sample = storage_speed._read_raw_sample(files[1], row=3, unit=unit)
    np.testing.assert_array_equal(sample.swapaxes(0, 1), means[unit + 3])
