"""Records: claims measured on a model, each with the verdict that its numbers give."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ima.claims.registry import CLAIMS, ClaimDirection
from ima.errors import ParameterError, UnknownNameError
from ima.stats.intervals import Interval

Verdict = Literal["supported", "contradicted", "inconclusive"]


def compute_verdict(interval: Interval, *, direction: ClaimDirection, null: float) -> Verdict:
    """Judge an interval against the null.

    Parameters
    ----------
    interval : Interval
        The measured statistic.
    direction : {"greater", "less"}
        On which side of the null the claim puts it.
    null : float
        The value at which the claim says nothing.

    Returns
    -------
    {"supported", "contradicted", "inconclusive"}
        Whether the interval excludes the null in the claimed direction, in the other, or not.

    Examples
    --------
    >>> verdict(Interval(0.2, 0.1, 0.3, n=50), direction="greater", null=0.0)
    'supported'
    >>> verdict(Interval(0.2, 0.1, 0.3, n=50), direction="less", null=0.0)
    'contradicted'
    >>> verdict(Interval(0.2, -0.1, 0.3, n=50), direction="greater", null=0.0)
    'inconclusive'
    """
    if direction not in ("greater", "less"):
        raise UnknownNameError.among(
            kind="direction", asked=direction, available=("greater", "less")
        )
    above, below = interval.low > null, interval.high < null
    if direction == "less":
        above, below = below, above
    if above:
        return "supported"
    return "contradicted" if below else "inconclusive"


class ClaimRecord(BaseModel):
    """A claim measured on one model; its verdict must be the one that its numbers give."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    claim: str
    model: str
    dataset: str
    statistic: str
    value: float
    low: float
    high: float
    n: int
    null: float
    direction: ClaimDirection
    verdict: Verdict
    notebook: str

    @model_validator(mode="after")
    def _is_computed(self) -> Self:
        if self.claim not in CLAIMS:
            raise UnknownNameError.among(kind="claim", asked=self.claim, available=CLAIMS)
        computed = compute_verdict(self.interval, direction=self.direction, null=self.null)
        if self.verdict != computed:
            message = (
                f"The record of {self.claim} for {self.model} says {self.verdict!r}, but "
                f"{self.interval} against {self.null} ({self.direction}) is {computed!r}. "
                "Verdicts are computed: write records with ima.claims.make_claim_record."
            )
            raise ParameterError(message)
        return self

    @property
    def interval(self) -> Interval:
        """The measured statistic as an interval."""
        return Interval(value=self.value, low=self.low, high=self.high, n=self.n)


def make_claim_record(
    claim: str,
    *,
    interval: Interval,
    model: str,
    dataset: str,
    notebook: str,
    statistic: str | None = None,
) -> ClaimRecord:
    """Record a measured claim with its computed verdict.

    Parameters
    ----------
    claim : str
        Id of the claim, for example ``"F1.1"``.
    interval : Interval
        The measured statistic.
    model, dataset : str
        What it was measured on.
    notebook : str
        Path of the notebook's source, relative to the repository.
    statistic : str or None
        What was measured, where it is a second statistic beside the claim's own; direction
        and null are the claim's.

    Returns
    -------
    Record
        The claim, the numbers, and the verdict.

    Raises
    ------
    UnknownNameError
        If no such claim exists.

    Examples
    --------
    >>> made = record("F1.1", interval=Interval(0.2, 0.1, 0.3, n=600), model="llama-mini (ST)",
    ...               dataset="mini-image-caption", notebook="notebooks/finding1.md")
    >>> made.verdict
    'supported'
    """
    if claim not in CLAIMS:
        raise UnknownNameError.among(kind="claim", asked=claim, available=CLAIMS)
    known = CLAIMS[claim]
    return ClaimRecord(
        claim=claim,
        model=model,
        dataset=dataset,
        statistic=statistic or known.statistic,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        null=known.null,
        direction=known.direction,
        verdict=compute_verdict(interval, direction=known.direction, null=known.null),
        notebook=notebook,
    )


def write_claim_records(records: Sequence[ClaimRecord], path: str | Path) -> Path:
    """Write records as a JSON list, all or nothing.

    Parameters
    ----------
    records : sequence of Record
        What was measured.
    path : str or Path
        Where to; missing folders are made.

    Returns
    -------
    Path
        The file written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([entry.model_dump() for entry in records], indent=1, ensure_ascii=False)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def read_claim_records(path: str | Path) -> list[ClaimRecord]:
    """Read records, checking fields and verdicts.

    Raises
    ------
    ParameterError
        If the file is not a list of records, or a verdict is not the one computed.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [ClaimRecord.model_validate(entry) for entry in entries]
    except (json.JSONDecodeError, ValidationError, TypeError) as error:
        message = (
            f"{path} is not a list of claim records: {error}. "
            "Run the notebook that writes it again, for example with `make book`."
        )
        raise ParameterError(message) from error


def collect_claim_records(paths: Iterable[str | Path], *, out: str | Path) -> list[ClaimRecord]:
    """Gather the records of all notebooks into one file.

    Parameters
    ----------
    paths : iterable of str or Path
        The ``.claims.json`` files.
    out : str or Path
        Where the list goes, usually ``_build/claims.json``.

    Returns
    -------
    list of Record
        In the paper's order, then by model and statistic.

    Raises
    ------
    ParameterError
        If two notebooks record the same statistic of the same claim, model and dataset.
    """
    found: dict[tuple[str, str, str, str], tuple[ClaimRecord, Path]] = {}
    for path in map(Path, paths):
        for entry in read_claim_records(path):
            key = (entry.claim, entry.model, entry.dataset, entry.statistic)
            if key in found:
                message = (
                    f"{entry.claim} is recorded twice for {entry.model} on {entry.dataset} "
                    f"({entry.statistic}): in {found[key][1]} and in {path}. Keep one of them."
                )
                raise ParameterError(message)
            found[key] = (entry, path)
    order = list(CLAIMS)
    records = [entry for entry, _ in found.values()]
    # A claim's own statistic comes before the second ones beside it.
    records.sort(
        key=lambda r: (
            order.index(r.claim),
            r.model,
            r.dataset,
            r.statistic != CLAIMS[r.claim].statistic,
            r.statistic,
        )
    )
    write_claim_records(records, out)
    return records
