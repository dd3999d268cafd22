from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ima.bench import measure_growth
from ima.cache.cache_set import CacheSet, open_cache_set


def test_each_measure_has_a_record_of_its_time_and_of_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure_growth, "_SIZES", (10, 20, 40))
    monkeypatch.setattr(measure_growth, "_HIDDEN", 8)
    few = measure_growth.list_measures(resamples=4)
    monkeypatch.setattr(measure_growth, "list_measures", lambda: few)
    measure, means = measure_growth.measure_cost, {}

    def cost_a_square(run: Any, cache_set: CacheSet) -> measure_growth.MeasureCost:
        """Run the measure; the time is the square of the number of samples, in milliseconds."""
        assert measure(run, cache_set).seconds > 0
        (n,) = {each.sizes["sample"] for each in cache_set.means.values()}
        means[n] = sum(each.nbytes for each in cache_set.means.values())
        return measure_growth.MeasureCost(n**2 / 1000, n * 2**20)

    monkeypatch.setattr(measure_growth, "measure_cost", cost_a_square)
    records = measure_growth.benchmark_measure_growth()
    names = list(measure_growth.list_measures())
    assert [record.subject for record in records] == [name for name in names for _ in range(2)]
    unlimited = {record.subject for record in records if record.limit is None}
    assert unlimited == set(measure_growth._OVER_PAIRS) < set(names)
    timed = [each for each in records if each.name == measure_growth.TIME_RECORD]
    assert {(each.value, each.ratio) for each in timed} == {(1.6, 1.6 / (2 * 0.4))}
    assert {each.against for each in timed} == {"2 times that of 20 samples"}
    held = [each for each in records if each.name == measure_growth.MEMORY_RECORD]
    grown = 20 * 2**20 / (means[40] - means[20])
    assert {(each.value, each.ratio) for each in held} == {(40, grown)}


def test_memory_that_a_measure_holds_for_a_moment_is_counted(tmp_path: Path) -> None:
    (path, other) = measure_growth._write_caches(tmp_path, samples=4)
    cache_set = open_cache_set([path, other])
    cost = measure_growth.measure_cost(lambda _: np.ones(2**24).cumsum().sum(), cache_set)
    # Two arrays of 128 MiB.
    assert 200 * 2**20 < cost.peak < 400 * 2**20
    assert cost.seconds > 0


def test_a_measure_after_another_takes_as_much(tmp_path: Path) -> None:
    cache_set = open_cache_set(measure_growth._write_caches(tmp_path, samples=4))
    # The allocator keeps what lies below an array that stays.
    kept = []

    def fill(_: object) -> None:
        arrays = [np.ones(2**13) for _ in range(2000)]
        # Memory is looked at in intervals, which are longer on a machine that does other things.
        time.sleep(20 * measure_growth._INTERVAL_SECONDS)
        kept.append(arrays[-1])

    peaks = [measure_growth.measure_cost(fill, cache_set).peak / 2**20 for _ in range(2)]
    # The first may find memory that is kept of tests before; the second none of the first.
    assert all(60 < peak < 200 for peak in peaks), peaks
    assert peaks[1] > 0.8 * peaks[0], peaks
