"""Records of made-up measurements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ima.claims import ClaimRecord, ReadingName, make_claim_record
from ima.stats.intervals import Interval


@pytest.fixture
def measured() -> Callable[..., ClaimRecord]:
    """Make a record of F1.1 that supports it; arguments change its fields."""

    def make(claim: str = "F1.1", reading: ReadingName = "as stated", **given: Any) -> ClaimRecord:
        fields = {
            "interval": Interval(value=0.2, low=0.1, high=0.3, n=600),
            "model": "llama-mini (ST)",
            "dataset": "mini-image-caption",
        }
        return make_claim_record(claim, reading, **{**fields, **given})

    return make
