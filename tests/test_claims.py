"""Claims: verdicts are computed, records round-trip, the table shows every claim."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from ima import claims
from ima.errors import CacheError, ParameterError, UnknownNameError
from ima.stats.intervals import Interval

SUPPORTED = Interval(value=0.2, low=0.1, high=0.3, n=600)
NEGATIVE = Interval(value=-0.2, low=-0.3, high=-0.1, n=600)


def measured(claim="F1.1", *, interval=SUPPORTED, model="llama-mini (ST)", **given):
    return claims.make_claim_record(
        claim,
        interval=interval,
        model=model,
        dataset="mini-image-caption",
        notebook="notebooks/finding1.md",
        **given,
    )


def test_every_claim_of_the_paper_is_registered():
    expected = "F1.1 F1.2 F1.3 F1.4 F1.5 F2.1 F2.2 F3.1 F3.2 F3.3 F3.4 I1 I2 I3 I4"
    assert list(claims.CLAIMS) == expected.split()
    for key, claim in claims.CLAIMS.items():
        assert claim.id == key
        assert claim.sentence.endswith(".")
        assert claim.statistic


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


def test_unknown_claim_names_the_closest():
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
def test_an_interval_that_means_nothing_is_refused(given, message):
    with pytest.raises(ParameterError, match=message):
        Interval(**given)


def test_records_hold_the_published_fields(tmp_path):
    path = claims.write_claim_records([measured()], tmp_path / "run" / "finding1.claims.json")
    fields = "claim model dataset statistic value low high n null direction verdict notebook"
    assert list(json.loads(path.read_text())[0]) == fields.split()
    assert claims.read_claim_records(path) == [measured()]
    assert [entry.name for entry in path.parent.iterdir()] == ["finding1.claims.json"]


def test_a_typed_verdict_is_refused(tmp_path):
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


def test_collect_orders_by_the_paper_and_writes(tmp_path):
    late = claims.write_claim_records([measured("F3.1")], tmp_path / "a.claims.json")
    second = measured(statistic="a second one")
    early = claims.write_claim_records([second, measured()], tmp_path / "b.claims.json")
    out = tmp_path / "_build" / "claims.json"
    got = claims.collect_claim_records([late, early], out=out)
    assert [entry.claim for entry in got] == ["F1.1", "F1.1", "F3.1"]
    assert got[1].statistic == "a second one"
    assert claims.read_claim_records(out) == got


def test_collect_refuses_two_records_of_the_same(tmp_path):
    paths = [
        claims.write_claim_records([measured()], tmp_path / name) for name in ("a.json", "b.json")
    ]
    with pytest.raises(ParameterError, match=r"F1.1 is recorded twice.*a\.json and in .*b\.json"):
        claims.collect_claim_records(paths, out=tmp_path / "out.json")


def test_table_shows_every_claim_and_what_is_not_measured():
    records = [measured(), measured("F1.2", interval=NEGATIVE)]
    pages = {"notebooks/finding1.md": "/book/runs/default/finding1.ipynb"}
    text = claims.format_claims_table(records, models=["opt-mini (ST)"], pages=pages)
    lines = text.splitlines()
    grid, tabs = lines[: lines.index("")], lines[lines.index("::::{tab-set}") :]
    assert grid[0] == "| Claim | opt-mini (ST) | llama-mini (ST) |"
    assert len(grid) == 2 + len(claims.CLAIMS)
    assert {line.count("|") for line in grid} == {4}
    assert "✓" in grid[2]
    assert "✗" in grid[3]
    assert all("](/book/runs/default/finding1.ipynb)" in line for line in grid[2:4])
    assert [line for line in tabs if line.startswith(":::{")] == [
        ":::{tab-item} opt-mini (ST)",
        ":::{tab-item} llama-mini (ST)",
    ]
    assert any("-0.200 [-0.300, -0.100], n = 600" in line for line in tabs)
    assert "\n".join(tabs).count("not yet measured") == 2 * len(claims.CLAIMS) - 2


def test_records_that_differ_in_their_data_are_told_apart():
    twice = [measured(), measured().model_copy(update={"dataset": "other"})]
    text = claims.format_claims_table(twice)
    assert "; on mini-image-caption</small>" in text
    assert "; on other</small>" in text
    assert "; on " not in claims.format_claims_table([measured()])


def test_table_of_nothing_says_not_yet_measured_everywhere():
    assert claims.format_claims_table([]).count("not yet measured") == len(claims.CLAIMS)


def test_a_listing_names_the_data_set_where_records_would_look_alike():
    twice = [measured(), measured().model_copy(update={"dataset": "other"})]
    assert claims.show_claim_records(twice).data["data set"].tolist() == [twice[0].dataset, "other"]
    assert "data set" not in claims.show_claim_records([measured()]).data


def test_a_listing_leaves_out_what_all_records_share():
    one = claims.show_claim_records([measured(), measured(model="opt-mini (ST)")]).data
    assert list(one.columns) == ["model", "value", "low", "high", "n", "null", "verdict"]
    two = claims.show_claim_records([measured(), measured("F1.2")]).data
    assert list(two.columns[:3]) == ["model", "claim", "statistic"]
    assert len(two) == 2


def test_what_cannot_be_measured_is_listed_with_its_reason(tmp_path):
    unserved = claims.UnmeasurableLog("notebooks/finding1.md")

    def measure(value):
        if value < 0:
            message = "holds no /logit_lens.\n  Make it."
            raise CacheError(message)
        return value

    found = unserved.measure_each("F1.5", {"one": 1, "two": -1, "three": 3}, measure)
    assert found == {"one": 1, "three": 3}
    with pytest.raises(CacheError):  # the model that a page shows in full
        unserved.measure_each("F1.5", {"one": -1}, measure)
    with pytest.raises(KeyError), unserved.record_errors("F1.5", model="four"):
        raise KeyError
    path = unserved.write(tmp_path / "finding1-words.claims.json")
    assert path.name == "finding1-words.unserved.json"
    (missing,) = claims.read_unmeasurable_claims([tmp_path / "finding1-words.claims.json"])
    assert (missing.model, missing.reason) == ("two", "holds no /logit_lens. Make it.")
    text = claims.format_claims_table([measured(model="one")], missing=[missing])
    assert "| one | two |" in text.splitlines()[0]
    assert "cannot be measured" in text
    assert "holds no /logit_lens. Make it." in text
    assert unserved.show_table().data["model"].tolist() == ["two"]
    assert "None" in claims.UnmeasurableLog().show_table().data
