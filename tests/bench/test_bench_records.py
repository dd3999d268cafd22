from __future__ import annotations

from dataclasses import replace

import pytest

from ima.bench.records import BenchRecord, TimedStep, read_records, time_against, write_records
from ima.errors import ParameterError

RECORD = BenchRecord("write", "a store", 0.2, "s", 1.5, 2.0, 7, "cpu", against="plain files")


def test_a_ratio_is_taken_within_each_round(monkeypatch):
    # Seconds of the reference and of a step in two rounds, after one that does not count.
    clock = iter([0, 1, 0, 9, 0, 1, 0, 2, 0, 10, 0, 40])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    steps = [TimedStep("slow", lambda: None, limit=2.9)]
    (record,) = time_against(TimedStep("base", lambda: None), steps, subject="x", repeats=2)
    assert (record.value, record.ratio, record.n) == (21, 3, 2)
    assert not record.is_met


def test_a_step_may_be_compared_with_another_step(monkeypatch):
    # Seconds of the reference and of two steps, after a round that does not count.
    clock = iter([0, 1, 0, 9, 0, 9, 0, 2, 0, 10, 0, 40])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    steps = [TimedStep("slow", lambda: None), TimedStep("own", lambda: None, against="slow")]
    records = time_against(TimedStep("base", lambda: None), steps, subject="x", repeats=1)
    assert [(each.ratio, each.against) for each in records] == [(5, "base"), (4, "slow")]


@pytest.mark.parametrize(("overlaps", "floor"), [(False, 4), (True, 3)])
def test_the_floor_adds_what_any_code_must_do(monkeypatch, overlaps, floor):
    # Seconds of the reference, a step and its extra work, after a round that does not count.
    clock = iter([0, 1, 0, 9, 0, 9, 0, 2, 0, 10, 0, 6])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    steps = [TimedStep("slow", lambda: None, extra=lambda: None, overlaps=overlaps)]
    (record,) = time_against(TimedStep("base", lambda: None), steps, subject="x", repeats=1)
    assert (record.ratio, record.floor) == (5, floor)


def test_preparation_precedes_every_run_and_does_not_count(monkeypatch):
    order = []
    monkeypatch.setattr("time.perf_counter", lambda: order.append("clock") or len(order))
    steps = [TimedStep("b", lambda: order.append("b"))]
    time_against(
        TimedStep("a", lambda: order.append("a")),
        steps,
        subject="x",
        repeats=1,
        prepare=lambda: order.append("prepare"),
    )
    assert order == ["prepare", "clock", "a", "clock", "prepare", "clock", "b", "clock"] * 2


@pytest.mark.parametrize(
    ("ratio", "limit", "met"), [(2.0, 2.0, True), (2.01, 2.0, False), (9.0, None, True)]
)
def test_a_limit_is_met_up_to_its_value(ratio, limit, met):
    assert replace(RECORD, ratio=ratio, limit=limit).is_met is met


def test_records_are_read_with_their_machine(tmp_path):
    machine = {"device": "a processor", "cores": 2, "date": "2026-11-30"}
    path = write_records(tmp_path / "bench.json", [RECORD], machine=machine)
    (row,) = read_records([path]).to_dict("records")
    assert row["device"] == "a processor"
    assert (row["name"], row["ratio"], row["met"], row["date"]) == (
        "write", 1.5, True, "2026-11-30",
    )  # fmt: skip
    path.write_text("{}")
    with pytest.raises(ParameterError, match=r"bench\.json is not what `ima bench` writes"):
        read_records([path])
