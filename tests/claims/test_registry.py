"""The registry of claims: complete, and the only place that names a claim's page."""

from __future__ import annotations

from pathlib import Path

import plan
import pytest
import yaml
from contents import TEMPLATE, read_contents

from ima import claims
from ima.claims.registry import CLAIMS, Claim, list_claim_pages
from ima.stats.intervals import Interval

ROOT = Path(__file__).parents[2]


def test_every_claim_of_the_paper_is_registered():
    expected = "F1.1 F1.2 F1.3 F1.4 F1.5 F2.1 F2.2 F3.1 F3.2 F3.3 F3.4 I1 I2 I3 I4"
    assert set(expected.split()) <= set(CLAIMS)
    for key, claim in CLAIMS.items():
        assert claim.id == key
        assert claim.sentence.endswith(".")
        for reading in claim.readings.values():
            assert reading.sentence.endswith(".")
            assert reading.margin.reason.endswith(".")
            assert reading.margin.size >= 0
            assert reading.statistic
            assert reading.unit
            assert reading.figure
        assert claim.as_stated.statistic != claim.as_tested.statistic
        assert (ROOT / claim.notebook).is_file()


def configure():
    return yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text(encoding="utf-8"))


def list_part(title):
    (part,) = [part for part in read_contents()["parts"] if part["caption"] == title]
    return [chapter["file"].removeprefix("book/runs/") for chapter in part["chapters"]]


def test_runs_that_record_claims_are_the_pages_of_claims():
    runs = plan.complete(configure())["runs"]
    assert [name for name in runs if runs[name].get("claims")] == list_claim_pages()
    for page in list_claim_pages():
        text = (ROOT / "notebooks" / f"{page}.md").read_text(encoding="utf-8")
        assert "\nclaims: str" in text
        for claim in CLAIMS.values():
            assert (claim.page == page) == (f'"{claim.id}"' in text), (claim.id, page)


def test_the_pages_of_claims_stand_in_their_part_of_the_book():
    for title in ("Findings", "Implications"):
        pages = list_claim_pages(title)
        assert [page for page in list_part(title) if page in pages] == pages
    listed = TEMPLATE.read_text(encoding="utf-8").split()
    assert not {f"book/runs/{page}" for page in list_claim_pages()} & set(listed)


def test_a_new_claim_needs_only_its_declaration_and_its_notebook(monkeypatch):
    one = CLAIMS["F1.1"]
    claim = Claim("F4.1", "toy", "A toy claim.", "finding4", one.as_stated, one.as_tested)
    monkeypatch.setitem(CLAIMS, claim.id, claim)
    config = {**plan.complete(configure()), "size": "small"}
    assert plan.parameters(config, "finding4")["claims"] == "book/runs/finding4.claims.json"
    assert plan.chosen(config, "finding4") == plan.chosen(config, "finding1")
    assert list_part("Findings")[-2:] == ["finding4", "fixes"]
    made = claims.make_claim_record(
        "F4.1", "as stated", interval=Interval(0.2, 0.1, 0.3, n=9), model="m", dataset="d"
    )
    assert made.notebook == "notebooks/finding4.md"
    table = claims.format_claims_table([made], pages={made.notebook: "runs/finding4.ipynb"})
    assert "✓</span>](runs/finding4.ipynb)" in table


def test_a_chapter_follows_only_a_page_of_its_part(tmp_path):
    template = tmp_path / "_toc.yml"
    chapter = {"file": "book/runs/fixes", "after": "implication1"}
    template.write_text(yaml.safe_dump({"parts": [{"caption": "Findings", "chapters": [chapter]}]}))
    with pytest.raises(SystemExit, match="No claim of Findings has the page 'implication1'"):
        read_contents(template)
