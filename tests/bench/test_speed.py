"""Timings of the way from samples to a cache, written and read."""

from __future__ import annotations

import pytest

from ima.bench import speed
from ima.errors import ParameterError


def test_each_step_is_timed_relative_to_its_reference(tiny_zoo):
    timings = speed.benchmark_caching(
        "llama-mini/vit/image-caption", dataset="mini-image-caption", samples=2, repeats=1
    )
    seconds = {timing.step: timing.seconds for timing in timings}
    assert min(seconds.values()) > 0
    for timing in timings:
        if timing.against:
            assert timing.ratio == seconds[timing.step] / seconds[timing.against]
    table = speed.tabulate_pairwise_cost(timings)
    assert table.groupby("way")["samples"].apply(list).to_dict() == {
        "product of means": [50, 100, 200],
        "pair by pair": [50, 100, 200],
    }


def test_timings_are_written_with_their_machine(tmp_path):
    timings = [speed.StepTiming("a", 1.0, 2), speed.StepTiming("b", 2.0, 2, 2.0, "a")]
    path = tmp_path / "here.json"
    assert speed.write_timings(path, timings, title="some", device="cpu") == path
    table = speed.read_timings(tmp_path)
    assert table["step"].tolist() == ["a", "b"]
    assert set(table["what"]) == {"some"}
    assert set(table["device"]) == {speed.describe_machine()["device"]} != {""}
    assert speed.read_timings(tmp_path / "none").empty
    path.write_text("{}")
    with pytest.raises(ParameterError, match=r"here\.json is not what `ima bench --out` writes"):
        speed.read_timings(tmp_path)
