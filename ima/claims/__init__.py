"""Claims of the paper: what each says, the statistic that tests it, and the verdicts measured."""

# Everything imported here is for readers of claims.
# mypy: implicit-reexport
# ruff: noqa: F401
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
