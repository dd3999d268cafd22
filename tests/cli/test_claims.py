"""`ima claims show`: what runs found, in words."""

from __future__ import annotations

import json

from ima import claims
from ima.stats.intervals import Interval


def test_claims_show_says_each_verdict_with_its_numbers(run_ima, tmp_path):
    sure, close = (
        claims.make_claim_record(
            claim, "as tested", interval=Interval(0.2, low, 0.4, n=60), model="llava (MT)",
            dataset="mine", finding="It rises.",
        )
        for claim, low in (("F3.1", 0.1), ("F3.2", 0.021))
    )  # fmt: skip
    third = claims.make_claim_record(
        "F3.3", "as tested", interval=Interval(0.2, 0.022, 0.4, n=60), model="llava (MT)",
        dataset="mine",
    )  # fmt: skip
    files = [tmp_path / "a.claims.json", tmp_path / "b.claims.json"]
    claims.write_claim_records([sure, close], files[0])
    claims.write_claim_records([third], files[1])
    missing = {"claim": "F1.1", "model": "llava (MT)", "notebook": "n.md", "reason": "No tokens."}
    (tmp_path / "a.not_measurable.json").write_text(json.dumps([missing]), encoding="utf-8")
    code, out, _ = run_ima("claims", "show", *files)
    assert code == 0
    paragraphs = out.strip().split("\n\n")
    assert paragraphs[0].startswith("F3.1 as tested is supported by llava (MT). It rises. Measured")
    assert "0.200 [0.100, 0.400], n = 60" in paragraphs[0]
    # Readings of one model are adjusted together, as on the front page.
    assert paragraphs[1].startswith("F3.2 as tested is inconclusive for llava (MT).")
    assert paragraphs[-1] == "F1.1 cannot be measured on llava (MT): No tokens."
    code, out, _ = run_ima("claims", "show", *files, "--json")
    assert [each["claim"] for each in json.loads(out)] == ["F3.1", "F3.2", "F3.3"]
    # The list of claims that could not be measured lies beside the records.
    assert len(paragraphs) == 4


def test_claims_show_names_a_file_that_is_no_list_of_records(run_ima, tmp_path):
    code, _, err = run_ima("claims", "show", tmp_path / "none.claims.json")
    assert code == 1
    assert "There is no file" in err
    assert "ima notebook run NOTEBOOK OUT -p claims " in " ".join(err.split())
    path = tmp_path / "x.claims.json"
    for text, message in {
        "{}": "is not a list of claim records: it holds dict",
        "[]": "no records",
    }.items():
        path.write_text(text, encoding="utf-8")
        code, _, err = run_ima("claims", "show", path)
        assert code == 1
        assert message in " ".join(err.split())
