from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ima.bench import suite
from ima.bench.worker_speed import (
    ClusterConstants,
    compute_large_bytes,
    describe_cluster_size,
    estimate_cluster_run,
    make_large_layout,
    measure_cluster_constants,
)

ROOT = Path(__file__).parents[2]
CONSTANTS = ClusterConstants(flops=1e13, written=1e9, tasks=1000, marks=500)


def test_twice_the_workers_take_half_of_the_time_and_twice_the_requests_a_second():
    layout = make_large_layout(100_000)
    few, many = (estimate_cluster_run(layout, workers=n, constants=CONSTANTS) for n in (200, 400))
    assert few.seconds - few.loading == pytest.approx(2 * (many.seconds - many.loading))
    assert many.loading == pytest.approx(2 * few.loading)
    assert (few.nbytes, few.requests) == (many.nbytes, many.requests)
    demand = [run.limits.set_index("part")["demand"] for run in (few, many)]
    assert (demand[1] / demand[0]).round(9).eq(2).all()
    # How many workers a part serves does not depend on how many there are.
    assert few.limits["workers"].tolist() == pytest.approx(many.limits["workers"].tolist(), abs=1)


def test_what_breaks_first_stands_on_top():
    layout = make_large_layout(100_000)
    slow = ClusterConstants(flops=1e13, written=1e9, tasks=1, marks=500, requests=1e9)
    run = estimate_cluster_run(layout, workers=1000, constants=slow)
    assert run.limits["part"][0] == "tasks of the scheduler"
    assert run.limits["workers"].is_monotonic_increasing
    top = run.limits.iloc[0]
    assert top["workers"] == int(1000 * top["capacity"] / top["demand"])


def test_the_readme_says_what_a_large_model_takes():
    size = compute_large_bytes()
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"takes {2 * size.weights / 1e9:.0f} GB in `float32`" in text
    assert f"{size.means / 1e6:.0f} MB a sample and {size.states / 1e9:.1f} GB more" in text
    config = yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text(encoding="utf-8"))
    kept = {name: entry["findings"]["keep_tokens"] for name, entry in config["sizes"].items()}
    assert f"(the first {kept['standard']}, with `SMALL=1` {kept['small']})" in text


def test_beyond_the_first_limit_more_workers_only_load_longer():
    layout = make_large_layout(100_000)
    enough = int(estimate_cluster_run(layout, workers=1, constants=CONSTANTS).limits["workers"][0])
    runs = [
        estimate_cluster_run(layout, workers=n, constants=CONSTANTS)
        for n in (enough, 2 * enough, 4 * enough)
    ]
    # The store takes so many files in a second, whoever writes them.
    waiting = runs[1].requests / CONSTANTS.requests
    assert [run.seconds - run.loading for run in runs[1:]] == pytest.approx([waiting, waiting])
    assert runs[0].seconds - runs[0].loading == pytest.approx(waiting, rel=0.01)
    assert runs[0].loading < runs[1].loading < runs[2].loading


@pytest.mark.parametrize(
    ("workers", "sentence"),
    [
        (10, "10 cores take 2.4 hours. No more than 739 can use the requests of the store."),
        (
            2000,
            "739 cores take 19 minutes: no more of them can use the requests of the store. More "
            "only load longer: 2,000 take 47 minutes, of which the weights take 45 minutes.",
        ),
    ],
)
def test_the_sentence_says_how_many_workers_are_enough(workers, sentence):
    layout = make_large_layout(100_000)
    given = {"workers": workers, "constants": CONSTANTS}
    assert describe_cluster_size(layout, **given, called="cores") == sentence


def test_every_file_is_a_request():
    layout = make_large_layout(16)
    run = estimate_cluster_run(layout, workers=1, constants=CONSTANTS)
    counted = sum(len(list(a.list_file_indices())) for a in layout.arrays() if a.values is None)
    assert run.requests == counted


def test_constants_are_measured():
    constants = measure_cluster_constants()
    assert constants.flops > 1e7
    assert constants.written > 1e5
    assert constants.tasks > 1
    assert constants.marks > 1


def test_workers_are_a_benchmark():
    assert "workers" in suite.list_benchmarks()
