"""Timings of the way from samples to a cache, written and read."""

from __future__ import annotations

from ima.bench import speed


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
