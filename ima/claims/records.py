"""Claim records: a claim measured on a model, with the verdict computed from its numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ima.claims.registry import CLAIMS, ClaimDirection
from ima.errors import ParameterError, UnknownNameError
from ima.files import write_json
from ima.stats.intervals import Interval

Verdict = Literal["supported", "contradicted", "inconclusive"]


def compute_verdict(interval: Interval, *, direction: ClaimDirection, null: float) -> Verdict:
    """Compare an interval with the null value of a claim.

    Parameters
    ----------
    interval : Interval
        The measured statistic.
    direction : {"greater", "less"}
        The side of the null on which the claim expects the statistic.
    null : float
        The value that neither supports nor contradicts the claim.

    Returns
    -------
    {"supported", "contradicted", "inconclusive"}
        Supported if the interval lies on the expected side of the null, contradicted if it lies on
        the other side, inconclusive if it contains the null.

    Raises
    ------
    UnknownNameError
        If the direction does not exist.

    Examples
    --------
    >>> compute_verdict(Interval(0.2, 0.1, 0.3, n=50), direction="greater", null=0.0)
    'supported'
    >>> compute_verdict(Interval(0.2, 0.1, 0.3, n=50), direction="less", null=0.0)
    'contradicted'
    >>> compute_verdict(Interval(0.2, -0.1, 0.3, n=50), direction="greater", null=0.0)
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
    """A claim measured on one model. A verdict that does not follow from the numbers is refused."""

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
            raise ParameterError(
                f"The record of {self.claim} for {self.model} says {self.verdict!r}, but "
                f"{self.interval} against {self.null} ({self.direction}) is {computed!r}. "
                "Verdicts are computed: write records with ima.claims.make_claim_record."
            )
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
    statistic: str | None = None,
) -> ClaimRecord:
    """Make the record of a measured claim, with its computed verdict.

    Parameters
    ----------
    claim : str
        Id of the claim, for example ``"F1.1"``.
    interval : Interval
        The measured statistic.
    model, dataset : str
        Names of the model and of the data sets.
    statistic : str or None
        Description of a statistic other than the claim's own, with the same direction and null.

    Returns
    -------
    ClaimRecord
        The claim, the numbers, and the verdict.

    Raises
    ------
    UnknownNameError
        If the claim does not exist.

    Examples
    --------
    >>> record = make_claim_record("F1.1", interval=Interval(0.2, 0.1, 0.3, n=600),
    ...                            model="llama-mini (ST)", dataset="mini-image-caption")
    >>> record.verdict, record.notebook
    ('supported', 'notebooks/finding1.md')
    """
    if claim not in CLAIMS:
        raise UnknownNameError.among(kind="claim", asked=claim, available=CLAIMS)
    declared = CLAIMS[claim]
    return ClaimRecord(
        claim=claim,
        model=model,
        dataset=dataset,
        statistic=statistic or declared.statistic,
        **asdict(interval),
        null=declared.null,
        direction=declared.direction,
        verdict=compute_verdict(interval, direction=declared.direction, null=declared.null),
        notebook=declared.notebook,
    )


def write_claim_records(records: Sequence[ClaimRecord], path: str | Path) -> Path:
    """Write the records of a page as a JSON list.

    Parameters
    ----------
    records : sequence of ClaimRecord
        The measured claims.
    path : str or Path
        The file, usually ``*.claims.json``. It appears when it is complete.

    Returns
    -------
    Path
        The file of the records.

    Examples
    --------
    >>> write_claim_records(records, "finding1.claims.json")  # doctest: +SKIP
    PosixPath('finding1.claims.json')
    """
    path = Path(path)
    write_json(path, [record.model_dump() for record in records])
    return path


def read_claim_records(path: str | Path) -> list[ClaimRecord]:
    """Read claim records and check their fields and verdicts.

    Parameters
    ----------
    path : str or Path
        From :func:`write_claim_records`.

    Raises
    ------
    ParameterError
        If the file is not a list of records, or a verdict does not follow from its numbers.

    Examples
    --------
    >>> read_claim_records("book/runs/finding1.claims.json")[0].verdict  # doctest: +SKIP
    'supported'
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [ClaimRecord.model_validate(entry) for entry in entries]
    except (json.JSONDecodeError, ValidationError, TypeError) as error:
        raise ParameterError(
            f"{path} is not a list of claim records: {error}. "
            "Run the notebook that writes it, for example with `make book`."
        ) from error


def collect_claim_records(paths: Iterable[str | Path], *, out: str | Path) -> list[ClaimRecord]:
    """Collect the records of all notebooks in one file.

    Parameters
    ----------
    paths : iterable of str or Path
        The ``.claims.json`` files.
    out : str or Path
        The file to write, usually ``_build/claims.json``.

    Returns
    -------
    list of ClaimRecord
        In the order of the claims, then of the models in the files, then by data set and statistic.

    Raises
    ------
    ParameterError
        If two notebooks record the same statistic of the same claim, model and data set.

    Examples
    --------
    >>> paths = Path("book/runs").glob("*.claims.json")
    >>> collect_claim_records(paths, out="_build/claims.json")  # doctest: +SKIP
    """
    by_key: dict[tuple[str, str, str, str], tuple[ClaimRecord, Path]] = {}
    for path in map(Path, paths):
        for record in read_claim_records(path):
            key = (record.claim, record.model, record.dataset, record.statistic)
            if key in by_key:
                raise ParameterError(
                    f"{record.claim} is recorded twice for {record.model} on {record.dataset} "
                    f"({record.statistic}): in {by_key[key][1]} and in {path}. Keep one of them."
                )
            by_key[key] = (record, path)
    order = list(CLAIMS)
    records = [record for record, _ in by_key.values()]
    models = list(dict.fromkeys(record.model for record in records))
    # The claim's own statistic comes before other statistics.
    records.sort(
        key=lambda r: (
            order.index(r.claim),
            models.index(r.model),
            r.dataset,
            r.statistic != CLAIMS[r.claim].statistic,
            r.statistic,
        )
    )
    write_claim_records(records, out)
    return records
