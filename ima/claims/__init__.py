"""Claims of the paper: what each says, the statistic that tests it, and the verdicts measured."""

from ima.claims.overview import SYMBOLS, listing, sentence, table
from ima.claims.records import Record, Verdict, collect, read, record, verdict, write
from ima.claims.registry import CLAIMS, Claim, Direction

__all__ = [
    "CLAIMS",
    "SYMBOLS",
    "Claim",
    "Direction",
    "Record",
    "Verdict",
    "collect",
    "listing",
    "read",
    "record",
    "sentence",
    "table",
    "verdict",
    "write",
]
