"""Claims that cannot be measured are listed with their reason."""

from __future__ import annotations

import pytest

from ima import claims
from ima.errors import CacheError


def test_what_cannot_be_measured_is_listed_with_its_reason(tmp_path, measured):
    log = claims.UnmeasurableLog()

    def measure(value):
        if value < 0:
            message = "holds no /logit_lens.\n  Make it."
            raise CacheError(message)
        return value

    results = log.measure_each("F1.5", {"one": 1, "two": -1, "three": 3}, measure)
    assert results == {"one": 1, "three": 3}
    with pytest.raises(CacheError):  # the model that a page shows in full
        log.measure_each("F1.5", {"one": -1}, measure)
    with pytest.raises(KeyError), log.record_errors("F1.5", model="four"):
        raise KeyError
    path = claims.write_claim_records([], tmp_path / "finding1-words.claims.json")
    log.write(path)
    assert (tmp_path / "finding1-words.not_measurable.json").is_file()
    (missing,) = claims.read_unmeasurable_claims([path])
    assert missing.notebook == "notebooks/finding1-words.md"
    assert (missing.model, missing.reason) == ("two", "holds no /logit_lens. Make it.")
    text = claims.format_claims_table([measured(model="one")], missing=[missing])
    assert "| one | two |" in text.splitlines()[0]
    assert "cannot be measured" in text
    beside = claims.format_comparison([], missing=[missing])
    assert "two: not measurable. holds no /logit_lens. Make it." in beside
    assert log.show_table().data["model"].tolist() == ["two"]
    assert "None" in claims.UnmeasurableLog().show_table().data
