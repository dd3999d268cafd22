"""The front page shows every claim with the verdicts of its readings."""

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
    grid = lines[: lines.index("")]
    assert grid[0] == "| Claim | llama-mini (ST) | opt-mini (ST) |"
    assert len(grid) == 2 + len(claims.CLAIMS)
    assert {line.count("|") for line in grid} == {4}
    assert "✓" in grid[2]
    assert "✗" in grid[3]
    assert all("](/book/runs/default/finding1.ipynb)" in line for line in grid[2:4])
    sized = claims.format_claims_table(records, sizes={"llama-mini (ST)": "12 × 128"})
    assert "| llama-mini (ST)<br><small>12 × 128</small> |" in sized.splitlines()[0]


def test_a_cell_shows_both_readings_in_their_order(measured):
    both = [measured(), measured(reading="as tested", interval=NEGATIVE, finding="At layer 2.")]
    text = claims.format_claims_table(both)
    first = text.splitlines()[2]
    assert first.index("F1.1 as stated: supported") < first.index("F1.1 as tested: contradicted")


def test_an_empty_table_is_measured_nowhere():
    rows = claims.format_claims_table([]).splitlines()[2 : 2 + len(claims.CLAIMS)]
    assert all('<span class="verdict unmeasured">·</span>' in row for row in rows)


def test_a_verdict_that_holms_method_takes_away_is_shown_as_inconclusive(measured):
    close = Interval(value=0.2, low=0.022, high=0.4, n=600)
    records = [measured(claim, "as tested", interval=close) for claim in ("F1.1", "F3.1")]
    assert {record.verdict for record in records} == {"supported"}
    text = claims.format_claims_table(records)
    beside = claims.format_comparison(records)
    assert beside.count("Before Holm's method: supported.") == 2
    assert "F3.1 as tested: inconclusive" in text.splitlines()[9]
    alone = claims.format_claims_table(records[:1])
    assert "F1.1 as tested: supported" in alone.splitlines()[2]
