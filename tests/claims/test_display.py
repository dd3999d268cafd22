"""Pages show readings as registered, a coloured box per verdict, and the rest without verdicts."""

from __future__ import annotations

from bs4 import BeautifulSoup

from ima import claims
from ima.claims.spread import SeedSpread
from ima.stats.intervals import Interval

NEGATIVE = Interval(value=-0.2, low=-0.3, high=-0.1, n=600)


def test_readings_are_shown_as_they_are_registered():
    shown = BeautifulSoup(claims.show_readings("F1.1", "F2.2").data, "html.parser")
    names = [term.get_text() for term in shown.find_all("dt")]
    assert names == [
        f"{claim} {name}" for claim in ("F1.1", "F2.2") for name in ("as stated", "as tested")
    ]
    texts = [meaning.get_text() for meaning in shown.find_all("dd")]
    assert claims.CLAIMS["F2.2"].as_stated.statistic[1:] in texts[2]
    assert "Supported if above -0.05." in texts[3]
    for claim, text in zip(("F1.1", "F1.1", "F2.2", "F2.2"), texts, strict=True):
        assert any(
            reading.margin.reason in text for reading in claims.CLAIMS[claim].readings.values()
        )


def test_a_box_says_what_was_found_before_the_numbers(measured):
    records = [
        measured(finding="PvsT is lower by 0.20 & more."),
        measured(reading="as tested", interval=NEGATIVE),
        measured(model="opt-mini (ST)", finding="Another."),
    ]
    text = claims.show_verdicts(records).data
    assert text.count('class="verdict-box ') == 2
    assert 'class="verdict-box supported"' in text
    assert 'aria-label="F1.1 as tested: contradicted"' in text
    assert text.index("0.20 &amp; more.") < text.index("0.200 [0.100, 0.300], n = 600 contents")
    assert "Another." in claims.show_verdicts(records, model="opt-mini (ST)").data


def test_a_box_without_numbers_gives_the_reason():
    record = claims.make_untestable_record(
        "I1", "as tested", n=3, model="llama-mini (ST)", dataset="mini-image-caption"
    )
    text = claims.show_verdicts([record]).data
    assert 'class="verdict-box not"' in text
    assert "3 independent models are too few: it takes at least 5." in text


def test_a_box_gives_the_finding_and_why_it_has_no_verdict(measured):
    record = measured("I3", "as tested", finding="It keeps 0.97.", reason="The task cannot tell.")
    text = claims.show_verdicts([record]).data
    assert text.index("<p>It keeps 0.97.</p>") < text.index("<p>The task cannot tell.</p>")
    assert "<p></p>" not in claims.show_verdicts([measured()]).data


def test_columns_that_are_constant_are_left_out(measured):
    one = claims.show_claim_records([measured(), measured(model="opt-mini (ST)")]).data
    assert list(one.columns) == ["model", "reading", "value", "low", "high", "n", "unit", "verdict"]
    two = claims.show_claim_records([measured(), measured("F1.2")]).data
    assert list(two.columns[:3]) == ["model", "claim", "reading"]


def test_other_measurements_have_no_verdict(measured):
    shown = claims.show_measurements({"a number": NEGATIVE}).data
    assert list(shown.columns) == ["also measured", "value", "low", "high", "n"]


def test_the_sentence_on_seeds_follows_the_records(measured):
    one, two = measured(), measured(reading="as tested")
    assert "No interval covers other seeds" in claims.describe_seed_coverage([one, two])
    spread = SeedSpread.of(one.interval, by_part={"a": (0.2, 0.21, 0.19)}, trained_once=("b",))
    covered = [one.with_spread(spread), two]
    assert claims.describe_seed_coverage(covered) == (
        "All intervals but those of F1.1 as tested cover other seeds of the connectors. "
        "The connectors of b have one seed."
    )
    whole = SeedSpread.of(one.interval, by_part={"a": (0.2, 0.21, 0.19)})
    text = claims.describe_seed_coverage([one.with_spread(whole)])
    assert text == "The intervals cover other seeds of the connectors."
