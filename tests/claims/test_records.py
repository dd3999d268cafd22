"""Claim records: verdicts are computed, files are checked, duplicates are refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from ima import claims
from ima.errors import ParameterError, UnknownNameError
from ima.stats.intervals import Interval
from ima.studies.model_families import Association

NEGATIVE = Interval(value=-0.2, low=-0.3, high=-0.1, n=600)


def reading(**given):
    """Return a reading with null 0 and margin 0.02; arguments change its fields."""
    fields = {"sentence": "It is.", "statistic": "a number", "unit": "contents", "figure": "none"}
    return claims.Reading(**{**fields, "margin": claims.Margin(0.02, "Why not."), **given})


@pytest.mark.parametrize(
    ("ends", "direction", "expected"),
    [
        ((0.1, 0.3), "greater", "supported"),
        ((-0.3, -0.1), "greater", "contradicted"),
        ((-0.1, 0.1), "greater", "inconclusive"),
        ((0.02, 0.1), "greater", "inconclusive"),
        ((-0.1, -0.02), "greater", "inconclusive"),
        ((-0.02, 0.02), "greater", "no effect within the margin"),
        ((0.005, 0.015), "greater", "no effect within the margin"),
        ((0.1, 0.3), "less", "contradicted"),
        ((-0.3, -0.1), "less", "supported"),
    ],
)
def test_verdict_follows_from_interval_direction_null_and_margin(ends, direction, expected):
    interval = Interval(value=sum(ends) / 2, low=ends[0], high=ends[1], n=10)
    assert claims.compute_verdict(interval, reading=reading(direction=direction)) == expected
    moved = Interval(interval.value + 0.9, interval.low + 0.9, interval.high + 0.9, n=10)
    assert (
        claims.compute_verdict(moved, reading=reading(direction=direction, null=0.9)) == expected
        or min(abs(abs(end) - 0.02) for end in ends) < 1e-9  # on the margin, rounding decides
    )


def test_too_few_units_give_no_verdict(measured):
    few = Interval(value=0.9, low=0.8, high=1.0, n=4)
    assert claims.compute_verdict(few, reading=reading(fewest=5)) == "not testable here"
    record = measured("I1", "as tested", interval=few)
    assert record.verdict == "not testable here"
    assert record.interval == few
    assert (record.n, record.fewest, record.reason) == (
        4,
        5,
        "4 independent models are too few: it takes at least 5.",
    )


def test_a_reason_takes_the_verdict_away(measured):
    record = measured("I3", "as tested", reason="Text can be skipped too: the task cannot tell.")
    assert record.verdict == "not testable here"
    with pytest.raises(ValidationError, match="is 'not testable here'"):
        claims.ClaimRecord(**{**record.model_dump(), "verdict": "contradicted"})


def test_unknown_claim_names_the_closest(measured):
    with pytest.raises(UnknownNameError, match=r"Unknown claim 'F11'. Did you mean 'F1.1'\?"):
        measured("F11")


def test_unknown_direction_is_refused():
    with pytest.raises(UnknownNameError, match="Unknown direction 'up'"):
        reading(direction="up")


def test_unknown_reading_names_the_closest(measured):
    with pytest.raises(UnknownNameError, match=r"Unknown reading 'as test'\. Did you mean"):
        measured(reading="as test")


def test_the_version_follows_what_a_verdict_depends_on():
    one = reading()
    for change in ({"statistic": "another"}, {"null": 0.1}, {"direction": "less"}, {"fewest": 9}):
        assert reading(**change).version != one.version
    assert reading(margin=claims.Margin(0.3, "Why not.")).version != one.version
    assert reading(margin=claims.Margin(0.02, "Better words.")).version == one.version


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statistic": "a statistic of the notebook's own"}, r"has the statistic .a statistic of"),
        ({"margin": 0.0}, "has the margin 0.0, but the registered reading has 0.02"),
        ({"null": 0.5}, "has the null 0.5"),
        ({"version": "01234567"}, "is of version 01234567 .* Run notebooks/finding1.md again"),
    ],
)
def test_a_record_that_differs_from_its_registered_reading_is_refused(
    tmp_path, measured, change, message
):
    path = tmp_path / "x.claims.json"
    path.write_text(json.dumps([{**measured().model_dump(), **change}]))
    with pytest.raises(ParameterError, match=message):
        claims.read_claim_records(path)


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
    fields = (
        "claim reading version model dataset statistic value low high n unit seeds null margin "
        "direction verdict fewest finding reason notebook spread"
    )
    assert list(json.loads(path.read_text())[0]) == fields.split()
    assert claims.read_claim_records(path) == [measured()]
    assert [entry.name for entry in path.parent.iterdir()] == ["finding1.claims.json"]


def test_a_typed_verdict_is_refused(tmp_path, measured):
    path = tmp_path / "x.claims.json"
    forged = {**measured(interval=NEGATIVE).model_dump(), "verdict": "supported"}
    path.write_text(json.dumps([forged]))
    with pytest.raises(ParameterError, match=r"is 'contradicted' \(.*\)\. Verdicts are computed"):
        claims.read_claim_records(path)
    with pytest.raises(ValidationError):
        claims.ClaimRecord(**forged)


@pytest.mark.parametrize("content", [b"{", b'[{"claim": "F1.1"}]', b"[1]", b"1", b"\xff"])
def test_a_file_that_is_no_list_of_records_is_named(tmp_path, content):
    path = tmp_path / "x.claims.json"
    with pytest.raises(ParameterError, match=r"There is no file .*x\.claims\.json"):
        claims.read_claim_records(path)
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=r"x\.claims\.json is not a list of claim records"):
        claims.read_claim_records(path)


def test_collect_orders_by_the_paper_and_writes(tmp_path, measured):
    late = claims.write_claim_records([measured("F3.1")], tmp_path / "a.claims.json")
    both = [measured(reading="as tested"), measured()]
    early = claims.write_claim_records(both, tmp_path / "b.claims.json")
    out = tmp_path / "_build" / "claims.json"
    got = claims.collect_claim_records([late, early], out=out)
    assert [(entry.claim, entry.reading) for entry in got] == [
        ("F1.1", "as stated"),
        ("F1.1", "as tested"),
        ("F3.1", "as stated"),
    ]
    assert claims.read_claim_records(out) == got


def test_collect_refuses_two_verdicts_of_the_same_reading(tmp_path, measured):
    paths = [
        claims.write_claim_records([measured(dataset=name)], tmp_path / name)
        for name in ("a.json", "b.json")
    ]
    message = r"F1.1 as stated is recorded twice.*a\.json and in .*b\.json"
    with pytest.raises(ParameterError, match=message):
        claims.collect_claim_records(paths, out=tmp_path / "out.json")


def test_an_association_has_a_verdict_or_the_reason_why_not():
    measured = Association(42, "mini-image-qa", Interval(-0.9, -0.95, -0.8, n=42), "It falls.")
    record = claims.make_association_record("I1", "as stated", measured, model="lm (ST)")
    assert (record.verdict, record.finding, record.n) == ("contradicted", "It falls.", 42)
    assert (record.model, record.dataset) == ("lm (ST)", "mini-image-qa")
    few = claims.make_association_record("I2", "as stated", Association(2, "d"), model="lm (ST)")
    assert (few.verdict, few.value) == ("not testable here", None)
    assert few.reason == "2 models are too few: it takes at least 5."
    given = Association(6, "d", reason="No three are of one modality.")
    alone = claims.make_association_record("I1", "as tested", given, model="lm (ST)")
    assert (alone.n, alone.verdict) == (6, "not testable here")
    assert alone.reason == "No three are of one modality."
