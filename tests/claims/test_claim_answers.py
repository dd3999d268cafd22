"""What pages open with: the outcome of a claim in words, and the intervals of its readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from ima import claims
from ima.claims.answers import draw_verdict_figures, find_verdict_figures, format_answer
from ima.claims.overview import get_shown_verdict
from ima.stats.intervals import Interval


def record(model, value, reading="as tested", width=0.05):
    interval = Interval(value, value - width, value + width, n=60)
    return claims.make_claim_record(
        "F3.1", reading, interval=interval, model=model, dataset="some", finding="It rises."
    )


MADE = [record("a (ST)", 0.4), record("b (MT)", -0.4), record("a (ST)", 0.4, "as stated")]


def test_the_box_says_the_outcome_and_counts_both_readings():
    text = format_answer(claims.CLAIMS["F3.1"], MADE, figures={}, start=Path())
    assert text.startswith(":::{div} answer-box answer-differs\n")
    assert "**F3.1 Alignment over depth: differs between models.**" in text
    assert "As tested: supported in 1, contradicted in 1 of 2. As stated: supported in 1 of 1." in (
        text
    )
    unnamed = format_answer(claims.CLAIMS["F3.1"], MADE, figures={}, start=Path(), named=False)
    assert "**Differs between models.**" in unnamed


def test_each_measured_reading_has_a_figure_that_says_its_numbers_in_words(tmp_path):
    drawn = draw_verdict_figures(MADE, folder=tmp_path / "verdicts")
    assert set(drawn) == {("F3.1", "as stated"), ("F3.1", "as tested")}
    assert drawn == find_verdict_figures(tmp_path / "verdicts")
    text = format_answer(claims.CLAIMS["F3.1"], MADE, figures=drawn, start=tmp_path / "runs")
    assert ":::{image} ../verdicts/F3.1-as-tested.svg" in text
    assert "b (MT) -0.400 [-0.450, -0.350], n = 60" in text


def test_a_reading_that_is_no_longer_measured_loses_its_figure(tmp_path):
    draw_verdict_figures(MADE, folder=tmp_path)
    draw_verdict_figures(MADE[:2], folder=tmp_path)
    assert set(find_verdict_figures(tmp_path)) == {("F3.1", "as tested")}


def test_the_same_records_are_the_same_bytes(tmp_path):
    first = draw_verdict_figures(MADE, folder=tmp_path / "one")
    second = draw_verdict_figures(MADE, folder=tmp_path / "two")
    for key, path in first.items():
        assert path.read_bytes() == second[key].read_bytes()


def test_a_figure_shows_the_verdict_that_survives_holm(tmp_path, monkeypatch):
    """One of many weak readings of a model is no verdict, in words or in colour."""
    adjusted = claims.families.adjust_verdicts
    monkeypatch.setattr(
        "ima.claims.answers.adjust_verdicts",
        lambda records: dict.fromkeys(adjusted(records), "inconclusive"),
    )
    shown = []
    monkeypatch.setattr(
        "ima.figures.verdicts.plot_verdicts",
        lambda table, **_: shown.append(list(table["verdict"])) or Canvas(),
    )
    draw_verdict_figures(MADE, folder=tmp_path)
    assert shown == [["supported"], ["inconclusive", "inconclusive"]]


class Canvas:
    """A figure that writes nothing."""

    def savefig(self, path, **_):
        Path(path).touch()


@pytest.mark.parametrize("reading", ["as stated", "as tested"])
def test_what_could_not_be_measured_has_no_figure(tmp_path, reading):
    one = claims.make_untestable_record(
        "F3.1", reading, reason="Too few.", n=1, model="a (ST)", dataset="some"
    )
    assert draw_verdict_figures([one], folder=tmp_path) == {}
    assert get_shown_verdict(one, claims.families.adjust_verdicts([one])) == "not testable here"
    if reading == "as tested":
        text = format_answer(claims.CLAIMS["F3.1"], [one], figures={}, start=tmp_path)
        assert "not testable on these models" in text
        assert "As tested: no model could test it." in text
