"""Claims of the paper: what each says, its two readings, and the verdicts measured."""

# Everything imported here is for readers of claims.
# mypy: implicit-reexport
# ruff: noqa: F401
from ima.claims.associations import make_association_record
from ima.claims.comparison import format_comparison
from ima.claims.display import (
    describe_claim_records,
    describe_seed_coverage,
    show_claim_records,
    show_measurements,
    show_readings,
    show_verdicts,
)
from ima.claims.not_measurable import UnmeasurableClaim, UnmeasurableLog, read_unmeasurable_claims
from ima.claims.overview import VERDICT_SYMBOLS, format_claims_table
from ima.claims.readings import (
    Claim,
    ClaimDirection,
    Margin,
    Reading,
    ReadingName,
    Verdict,
    compute_verdict,
)
from ima.claims.records import (
    ClaimRecord,
    collect_claim_records,
    make_claim_record,
    make_untestable_record,
    read_claim_records,
    write_claim_records,
)
from ima.claims.registry import CLAIMS
from ima.claims.seeds import cover_seeds
from ima.claims.summary import summarise_claims
