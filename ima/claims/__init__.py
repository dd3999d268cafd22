"""Claims of the paper: what each says, the statistic that tests it, and the verdicts measured."""

from ima.claims.not_measurable import UnmeasurableClaim, UnmeasurableLog, read_unmeasurable_claims
from ima.claims.overview import (
    VERDICT_SYMBOLS,
    describe_claim_record,
    format_claims_table,
    show_claim_records,
)
from ima.claims.records import (
    ClaimRecord,
    Verdict,
    collect_claim_records,
    compute_verdict,
    make_claim_record,
    read_claim_records,
    write_claim_records,
)
from ima.claims.registry import CLAIMS, Claim, ClaimDirection

__all__ = [
    "CLAIMS",
    "VERDICT_SYMBOLS",
    "Claim",
    "ClaimDirection",
    "ClaimRecord",
    "UnmeasurableClaim",
    "UnmeasurableLog",
    "Verdict",
    "collect_claim_records",
    "compute_verdict",
    "describe_claim_record",
    "format_claims_table",
    "make_claim_record",
    "read_claim_records",
    "read_unmeasurable_claims",
    "show_claim_records",
    "write_claim_records",
]
