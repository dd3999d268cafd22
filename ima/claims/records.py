"""Claim records: a claim measured on a model, with the verdict computed from its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from ima.claims.readings import (
    READING_NAMES,
    ClaimDirection,
    Reading,
    ReadingName,
    Verdict,
    compute_verdict,
)
from ima.claims.registry import CLAIMS
from ima.claims.spread import SeedSpread
from ima.errors import ParameterError, UnknownNameError
from ima.files import read_records, write_json
from ima.stats.intervals import Interval


class ClaimRecord(BaseModel):
    """A reading of a claim, measured on one model.

    A record is refused if its statistic, null, margin, direction or unit are not those of the
    registered reading, or if its verdict does not follow from its numbers. Where other seeds of the
    model's connectors were measured, ``spread`` holds them, and the interval covers them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    claim: str
    reading: ReadingName
    version: str
    model: str
    dataset: str
    statistic: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    seeds: int
    null: float
    margin: float
    direction: ClaimDirection
    verdict: Verdict
    fewest: int
    finding: str
    reason: str
    notebook: str
    spread: SeedSpread | None = None

    @model_validator(mode="after")
    def _is_computed(self) -> Self:
        reading = _find_reading(self.claim, self.reading)
        where = f"The record of {self.claim} {self.reading} for {self.model}"
        if self.version != reading.version:
            raise ParameterError(
                f"{where} is of version {self.version} of the reading, which is now "
                f"{reading.version}: its statistic, null, margin or unit has changed. "
                f"Run {self.notebook} again."
            )
        for name, registered in _list_registered_fields(reading).items():
            if getattr(self, name) != registered:
                raise ParameterError(
                    f"{where} has the {name} {getattr(self, name)!r}, but the registered reading "
                    f"has {registered!r}. Readings stand in ima.claims; a number with another "
                    "statistic is shown without a verdict."
                )
        if self.spread is not None and (
            self.interval != self.spread.combine(self.n) or self.seeds != self.spread.seeds
        ):
            raise ParameterError(
                f"{where} has {self.interval} over {self.seeds} seeds, but its seeds make it "
                f"{self.spread.combine(self.n)} over {self.spread.seeds}. "
                "Intervals over seeds are computed: make them with ima.claims.cover_seeds."
            )
        computed = _compute_verdict(self.interval, reading=reading, reason=self.reason)
        if self.verdict != computed:
            raise ParameterError(
                f"{where} says {self.verdict!r}, but {self.interval} is {computed!r} "
                f"(supported if {reading.describe_rule()}). "
                "Verdicts are computed: write records with ima.claims.make_claim_record."
            )
        return self

    @property
    def interval(self) -> Interval | None:
        """The measured statistic as an interval; None if it was not measured."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return Interval(value=self.value, low=self.low, high=self.high, n=self.n)

    @property
    def measured(self) -> Interval | None:
        """The statistic of the model that the page measured; its interval covers no other seeds."""
        if self.spread is None:
            return self.interval
        return Interval(self.spread.value, self.spread.low, self.spread.high, n=self.n)

    def with_spread(self, spread: SeedSpread) -> ClaimRecord:
        """Return the record with an interval and a verdict that cover other seeds.

        Parameters
        ----------
        spread : SeedSpread
            The seeds, around the interval of this record.
        """
        combined = spread.combine(self.n)
        reading = _find_reading(self.claim, self.reading)
        fields = self.model_dump() | asdict(combined)
        fields["verdict"] = _compute_verdict(combined, reading=reading, reason=self.reason)
        return ClaimRecord.model_validate({**fields, "seeds": spread.seeds, "spread": spread})


def make_claim_record(
    claim: str,
    reading: ReadingName,
    *,
    interval: Interval,
    model: str,
    dataset: str,
    finding: str = "",
    seeds: int = 1,
    reason: str = "",
) -> ClaimRecord:
    """Make the record of a measured reading, with its computed verdict.

    Parameters
    ----------
    claim : str
        Id of the claim, for example ``"F1.1"``.
    reading : {"as stated", "as tested"}
        The reading that the statistic belongs to.
    interval : Interval
        The measured statistic.
    model, dataset : str
        Names of the model and of the data sets.
    finding : str
        What was found, in one sentence with its numbers: direction, size and where.
    seeds : int
        Number of trainings that the numbers rest on, with another seed each.
    reason : str
        Why there is no verdict although the statistic was measured; empty if there is one.

    Returns
    -------
    ClaimRecord
        The reading, the numbers, and the verdict.

    Raises
    ------
    UnknownNameError
        If the claim or the reading does not exist.

    Examples
    --------
    >>> record = make_claim_record("F1.1", "as stated", interval=Interval(0.2, 0.1, 0.3, n=600),
    ...                            model="llama-mini (ST)", dataset="mini-image-caption")
    >>> record.verdict, record.notebook
    ('supported', 'notebooks/finding1.md')
    """
    return _make_record(
        claim,
        reading,
        interval=interval,
        n=interval.n,
        given={"model": model, "dataset": dataset, "finding": finding, "seeds": seeds},
        reason=reason,
    )


def make_untestable_record(
    claim: str,
    reading: ReadingName,
    *,
    n: int,
    model: str,
    dataset: str,
    reason: str = "",
    seeds: int = 1,
) -> ClaimRecord:
    """Make the record of a reading that these models cannot test, without numbers.

    Parameters
    ----------
    claim, reading, model, dataset, seeds
        As for :func:`make_claim_record`.
    n : int
        Number of independent units that there are.
    reason : str
        Why the reading is not testable; empty if there are too few units.

    Examples
    --------
    >>> record = make_untestable_record("I1", "as tested", n=3, model="llama-mini (ST)",
    ...                                 dataset="mini-image-caption")
    >>> record.verdict, record.reason
    ('not testable here', '3 independent models are too few: it takes at least 5.')
    """
    return _make_record(
        claim,
        reading,
        interval=None,
        n=n,
        given={"model": model, "dataset": dataset, "finding": "", "seeds": seeds},
        reason=reason,
    )


def _make_record(
    claim: str,
    name: ReadingName,
    *,
    interval: Interval | None,
    n: int,
    given: Mapping[str, object],
    reason: str,
) -> ClaimRecord:
    reading = _find_reading(claim, name)
    if not reason and (interval is None or n < reading.fewest):
        reason = f"{n} {reading.unit} are too few: it takes at least {reading.fewest}."
    ends = dict.fromkeys(("value", "low", "high")) if interval is None else asdict(interval)
    fields = {
        "claim": claim,
        "reading": name,
        "version": reading.version,
        **given,
        **ends,
        "n": n,
        **_list_registered_fields(reading),
        "verdict": _compute_verdict(interval, reading=reading, reason=reason),
        "reason": reason,
        "notebook": CLAIMS[claim].notebook,
    }
    return ClaimRecord.model_validate(fields)


def _compute_verdict(interval: Interval | None, *, reading: Reading, reason: str) -> Verdict:
    if interval is None or reason:
        return "not testable here"
    return compute_verdict(interval, reading=reading)


def _find_reading(claim: str, name: ReadingName) -> Reading:
    if claim not in CLAIMS:
        raise UnknownNameError.among(kind="claim", asked=claim, available=CLAIMS)
    readings = CLAIMS[claim].readings
    if name not in readings:
        raise UnknownNameError.among(kind="reading", asked=name, available=readings)
    return readings[name]


def _list_registered_fields(reading: Reading) -> dict[str, object]:
    return {
        "statistic": reading.statistic,
        "unit": reading.unit,
        "null": reading.null,
        "margin": reading.margin.size,
        "direction": reading.direction,
        "fewest": reading.fewest,
    }


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
    return read_records(Path(path), ClaimRecord, kind="claim")


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
        In the order of the claims, then of the models in the files, then of the readings.

    Raises
    ------
    ParameterError
        If two records are of the same reading of the same claim and model.

    Examples
    --------
    >>> paths = Path("book/runs").glob("*.claims.json")
    >>> collect_claim_records(paths, out="_build/claims.json")  # doctest: +SKIP
    """
    by_key: dict[tuple[str, str, str], tuple[ClaimRecord, Path]] = {}
    for path in map(Path, paths):
        for record in read_claim_records(path):
            key = (record.claim, record.model, record.reading)
            if key in by_key:
                raise ParameterError(
                    f"{record.claim} {record.reading} is recorded twice for {record.model}: in "
                    f"{by_key[key][1]} and in {path}. A claim has one verdict for each reading and "
                    "model; keep one of them."
                )
            by_key[key] = (record, path)
    claims, readings = list(CLAIMS), list(READING_NAMES)
    records = [record for record, _ in by_key.values()]
    models = list(dict.fromkeys(record.model for record in records))
    records.sort(
        key=lambda record: (
            claims.index(record.claim),
            models.index(record.model),
            readings.index(record.reading),
        )
    )
    write_claim_records(records, out)
    return records
