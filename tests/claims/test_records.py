"""Claim records: verdicts are computed, files are checked, duplicates are refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from ima import claims
from ima.errors import ParameterError, UnknownNameError
from ima.stats.intervals import Interval

SUPPORTED = Interval(value=0.2, low=0.1, high=0.3, n=600)
NEGATIVE = Interval(value=-0.2, low=-0.3, high=-0.1, n=600)


@pytest.mark.parametrize(
    ("ends", "direction", "expected"),
    [
        ((0.1, 0.3), "greater", "supported"),
        ((-0.3, -0.1), "greater", "contradicted"),
        ((-0.1, 0.1), "greater", "inconclusive"),
        ((0.0, 0.1), "greater", "inconclusive"),
        ((0.1, 0.3), "less", "contradicted"),
        ((-0.3, -0.1), "less", "supported"),
    ],
)
def test_verdict_follows_from_interval_direction_and_null(ends, direction, expected):
    interval = Interval(value=sum(ends) / 2, low=ends[0], high=ends[1], n=10)
    assert claims.compute_verdict(interval, direction=direction, null=0.0) == expected


def test_verdict_moves_with_the_null():
    assert claims.compute_verdict(SUPPORTED, direction="greater", null=0.9) == "contradicted"


def test_unknown_claim_names_the_closest(measured):
    with pytest.raises(UnknownNameError, match=r"Unknown claim 'F11'. Did you mean 'F1.1'\?"):
        measured("F11")


def test_unknown_direction_is_refused():
    with pytest.raises(UnknownNameError, match="Unknown direction 'up'"):
        claims.compute_verdict(SUPPORTED, direction="up", null=0.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"value": float("nan"), "low": 0, "high": 1, "n": 3}, "finite"),
        ({"value": 0, "low": 1, "high": 0, "n": 3}, "from low to high"),
        ({"value": 0, "low": 0, "high": 1, "n": 0}, "at least one sample"),
    ],
)
def test_impossible_intervals_are_refused(given, message):
    with pytest.raises(ParameterError, match=message):
        Interval(**given)


def test_records_hold_the_published_fields(tmp_path, measured):
    path = claims.write_claim_records([measured()], tmp_path / "run" / "finding1.claims.json")
    fields = "claim model dataset statistic value low high n null direction verdict notebook"
    assert list(json.loads(path.read_text())[0]) == fields.split()
    assert claims.read_claim_records(path) == [measured()]
    assert [entry.name for entry in path.parent.iterdir()] == ["finding1.claims.json"]


def test_a_typed_verdict_is_refused(tmp_path, measured):
    path = tmp_path / "x.claims.json"
    forged = {**measured(interval=NEGATIVE).model_dump(), "verdict": "supported"}
    path.write_text(json.dumps([forged]))
    with pytest.raises(ParameterError, match=r"is 'contradicted'\. Verdicts are computed"):
        claims.read_claim_records(path)
    with pytest.raises(ValidationError):
        claims.ClaimRecord(**forged)


@pytest.mark.parametrize("text", ["{", '[{"claim": "F1.1"}]', "[1]", "1"])
def test_a_file_that_is_no_list_of_records_is_named(tmp_path, text):
    path = tmp_path / "x.claims.json"
    path.write_text(text)
    with pytest.raises(ParameterError, match=r"x\.claims\.json is not a list of claim records"):
        claims.read_claim_records(path)


def test_collect_orders_by_the_paper_and_writes(tmp_path, measured):
    late = claims.write_claim_records([measured("F3.1")], tmp_path / "a.claims.json")
    second = measured(statistic="a second one")
    early = claims.write_claim_records([second, measured()], tmp_path / "b.claims.json")
    out = tmp_path / "_build" / "claims.json"
    got = claims.collect_claim_records([late, early], out=out)
    assert [entry.claim for entry in got] == ["F1.1", "F1.1", "F3.1"]
    assert got[1].statistic == "a second one"
    assert claims.read_claim_records(out) == got


def test_collect_refuses_two_records_of_the_same(tmp_path, measured):
    paths = [
        claims.write_claim_records([measured()], tmp_path / name) for name in ("a.json", "b.json")
    ]
    with pytest.raises(ParameterError, match=r"F1.1 is recorded twice.*a\.json and in .*b\.json"):
        claims.collect_claim_records(paths, out=tmp_path / "out.json")
