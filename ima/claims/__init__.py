"""Claims of the paper: what each says, the statistic that tests it, and the verdicts measured."""

from ima.claims.not_measurable import Missing, Unserved, read_missing
from ima.claims.overview import SYMBOLS, listing, sentence, table
from ima.claims.records import Record, Verdict, collect, read, record, verdict, write
from ima.claims.registry import CLAIMS, Claim, Direction

__all__ = [
    "CLAIMS",
    "SYMBOLS",
    "Claim",
    "Direction",
    "Missing",
    "Record",
    "Unserved",
    "Verdict",
    "collect",
    "listing",
    "read",
    "read_missing",
    "record",
    "sentence",
    "table",
    "verdict",
    "write",
]
