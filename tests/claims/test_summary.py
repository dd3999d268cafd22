"""The front page's answer: which claims hold, fail, differ or stay undecided."""

from __future__ import annotations

import pytest

from ima import claims
from ima.claims.summary import decide_outcome, summarise_claims
from ima.stats.intervals import Interval

YES, NO, NONE = "supported", "contradicted", "no effect within the margin"
OPEN, CANNOT = "inconclusive", "not testable here"


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ([YES], "holds"),
        ([YES, YES, CANNOT], "holds"),
        ([NO, NO], "fails"),
        ([NO, NONE], "fails"),
        ([YES, NO], "differs"),
        ([YES, NONE, OPEN], "differs"),
        ([YES, OPEN], "undecided"),
        ([NO, OPEN], "undecided"),
        ([OPEN], "undecided"),
        ([CANNOT, CANNOT], "not testable"),
    ],
)
def test_an_outcome_needs_all_models_that_could_test_the_claim(verdicts, outcome):
    assert decide_outcome(verdicts) == outcome
    assert decide_outcome(verdicts[::-1]) == outcome


def record(claim, model, value, width=0.05):
    """Return a record as tested, whose verdict follows from its interval."""
    interval = Interval(value, value - width, value + width, n=60)
    return claims.make_claim_record(
        claim, "as tested", interval=interval, model=model, dataset="some"
    )


def test_the_paragraph_counts_claims_and_models_and_links_their_pages():
    made = [
        record("F1.1", "a (ST)", 0.4),
        record("F1.1", "b (MT)", 0.4),
        record("F3.1", "a (ST)", 0.4),
        record("F3.1", "b (MT)", -0.4),
    ]
    files = summarise_claims(made, pages={made[0].notebook: "runs/finding1.ipynb"})
    assert files["found.md"].startswith(
        "Of 2 claims of the paper, 1 holds and 1 differs between models. We tested 2 sets of "
        "models: a and b."
    )
    first, *others = files["outcomes.md"].splitlines()
    assert first == (
        "- **Hold** in every model that could test them: [narrow cones](runs/finding1.ipynb) "
        "(supported in 2 of 2)."
    )
    assert "alignment over depth (supported in 1, contradicted in 1 of 2)" in others[0]


def test_models_of_one_name_keep_their_setups():
    made = [record("F1.1", f"a ({setup})", 0.4) for setup in ("ST", "MT")]
    assert "We tested 2 sets of models: a (ST) and a (MT)." in summarise_claims(made)["found.md"]
    assert "We tested a." in summarise_claims(made[:1])["found.md"]


def test_only_readings_as_tested_and_adjusted_verdicts_count():
    # Two weak verdicts of one model do not survive Holm's method.
    weak = [record(claim, "a (ST)", 0.021 + 0.18, width=0.18) for claim in ("F3.1", "F3.2")]
    assert {one.verdict for one in weak} == {"supported"}
    assert (
        "alignment over depth (inconclusive in 1 of 1)" in (summarise_claims(weak)["outcomes.md"])
    )
    literal = claims.make_claim_record(
        "F1.1", "as stated", interval=Interval(0.4, 0.3, 0.5, n=60), model="a", dataset="some"
    )
    assert set(summarise_claims([literal]).values()) == {""}
