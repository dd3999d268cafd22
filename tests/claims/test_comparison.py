"""The page with the paper's claims beside the book's verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ima import claims
from ima.claims.comparison import describe_change, format_comparison
from ima.claims.not_measurable import UnmeasurableClaim
from ima.stats.intervals import Interval


def record(claim, reading="as tested", *, value=0.4, finding="It rises."):
    interval = Interval(value, value - 0.05, value + 0.05, n=60)
    return claims.make_claim_record(
        claim, reading, interval=interval, model="a (ST)", dataset="some", finding=finding
    )


def test_every_claim_has_its_sentence_and_both_readings():
    text = format_comparison([])
    for claim in claims.CLAIMS.values():
        assert claim.sentence in text
        for reading in claim.readings.values():
            assert reading.sentence in text
            assert reading.describe_rule() in text
    assert text.count("**As stated.**") == text.count("**As tested.**") == len(claims.CLAIMS)


def test_verdicts_stand_with_their_numbers_and_link_to_their_page():
    made = [record("F3.1", finding="x < y"), record("F3.1", "as stated", value=-0.4)]
    text = format_comparison(
        made,
        pages={made[0].notebook: "runs/finding3.ipynb"},
        missing=[UnmeasurableClaim("F3.2", "b (MT)", "n.md", "No checkpoints.")],
    )
    assert "[The page of this claim](runs/finding3.ipynb)" in text
    assert '- a (ST): <span class="verdict supported">✓ supported</span>. x &lt; y 0.400' in text
    assert "✗ contradicted</span>" in text
    assert "**As stated**: PvsT at the last layer" in text
    assert "- b (MT): not measurable. No checkpoints." in text


@pytest.mark.parametrize(
    ("direction", "null", "size", "expected"),
    [
        ("greater", 0.0, 0.02, "below -0.02 contradicts it, and one in between"),
        ("less", 0.0, 0.02, "above 0.02 contradicts it, and one in between"),
        ("greater", 0.9, 0.0, "below 0.9 contradicts it"),
    ],
)
def test_what_would_change_a_verdict_follows_from_its_rule(direction, null, size, expected):
    reading = claims.CLAIMS["F3.1"].as_stated
    changed = replace(reading, direction=direction, null=null, margin=claims.Margin(size, "why"))
    assert describe_change(changed).startswith(expected)
    # The rule that compute_verdict applies.
    low, high = (null - size - 0.2, null - size - 0.1)
    if direction == "less":
        low, high = null + size + 0.1, null + size + 0.2
    interval = Interval((low + high) / 2, low, high, n=9)
    assert claims.compute_verdict(interval, reading=changed) == "contradicted"
