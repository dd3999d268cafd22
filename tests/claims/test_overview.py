"""The front page shows every claim; the table of a page shows how its records differ."""

from __future__ import annotations

from ima import claims
from ima.stats.intervals import Interval

NEGATIVE = Interval(value=-0.2, low=-0.3, high=-0.1, n=600)


def test_the_table_shows_every_claim(measured):
    records = [measured(), measured("F1.2", interval=NEGATIVE)]
    pages = {"notebooks/finding1.md": "/book/runs/default/finding1.ipynb"}
    missing = [claims.UnmeasurableClaim("F1.1", "opt-mini (ST)", "notebooks/finding1.md", "why")]
    text = claims.format_claims_table(records, missing=missing, pages=pages)
    lines = text.splitlines()
    grid, tabs = lines[: lines.index("")], lines[lines.index("::::{tab-set}") :]
    assert grid[0] == "| Claim | llama-mini (ST) | opt-mini (ST) |"
    assert len(grid) == 2 + len(claims.CLAIMS)
    assert {line.count("|") for line in grid} == {4}
    assert "✓" in grid[2]
    assert "✗" in grid[3]
    assert all("](/book/runs/default/finding1.ipynb)" in line for line in grid[2:4])
    assert [line for line in tabs if line.startswith(":::{")] == [
        ":::{tab-item} llama-mini (ST)",
        ":::{tab-item} opt-mini (ST)",
    ]
    assert any("-0.200 [-0.300, -0.100], n = 600" in line for line in tabs)
    assert "\n".join(tabs).count("not yet measured") == 2 * len(claims.CLAIMS) - 3


def test_records_of_several_data_sets_name_the_data_set(measured):
    twice = [measured(), measured().model_copy(update={"dataset": "other"})]
    text = claims.format_claims_table(twice)
    assert "; on mini-image-caption</small>" in text
    assert "; on other</small>" in text
    assert "; on " not in claims.format_claims_table([measured()])


def test_an_empty_table_is_not_yet_measured_everywhere():
    assert claims.format_claims_table([]).count("not yet measured") == len(claims.CLAIMS)


def test_ambiguous_rows_name_the_data_set(measured):
    twice = [measured(), measured().model_copy(update={"dataset": "other"})]
    assert claims.show_claim_records(twice).data["data set"].tolist() == [twice[0].dataset, "other"]
    assert "data set" not in claims.show_claim_records([measured()]).data


def test_columns_that_are_constant_are_left_out(measured):
    one = claims.show_claim_records([measured(), measured(model="opt-mini (ST)")]).data
    assert list(one.columns) == ["model", "value", "low", "high", "n", "null", "verdict"]
    two = claims.show_claim_records([measured(), measured("F1.2")]).data
    assert list(two.columns[:3]) == ["model", "claim", "statistic"]
    assert len(two) == 2
