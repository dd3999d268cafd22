"""System records: what a system costs, and what it does to the score and to alignment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ima.errors import ParameterError, UnknownNameError
from ima.files import read_records, write_json
from ima.stats.intervals import Interval
from ima.systems.registry import SYSTEMS, RelatedSystem, SystemOutcome

#: What a record measures. The first three compare the system with what its declaration names.
SystemQuantity = Literal["cost", "score", "alignment", "promised"]

#: What the cost of most systems counts. The encoder reads each medium once, with any system.
COST_QUANTITY = "operations of connector and language model up to the first word"

SYSTEM_QUANTITIES: tuple[SystemQuantity, ...] = get_args(SystemQuantity)


class MeasuredEffect(BaseModel):
    """A number with its interval, its unit and what n counts.

    Parameters
    ----------
    quantity : str
        What the number is, in words.
    value, low, high : float
        The number and its 95 % interval; the ends of a count that has no error are the value.
    n : int
        Number of independent units.
    unit : str
        What n counts, in the plural; what the interval resamples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    quantity: str = Field(min_length=1)
    value: float
    low: float
    high: float
    n: int
    unit: str = Field(min_length=1)

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        _ = self.interval
        return self

    @property
    def interval(self) -> Interval:
        """The number with its interval."""
        return Interval(self.value, self.low, self.high, n=self.n)

    @classmethod
    def of(cls, interval: Interval, *, quantity: str, unit: str) -> MeasuredEffect:
        """Make an effect of an interval."""
        return cls(quantity=quantity, unit=unit, **vars(interval))


class SystemRecord(BaseModel):
    """What one system does on one model and data set, against what its declaration names.

    Every quantity has a number or a reason why there is none. A record is refused if its statistic
    or null are no longer those of the registered promise, or if its outcome does not follow from
    them and the number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    model: str
    dataset: str
    setting: str
    cost: MeasuredEffect | None = None
    score: MeasuredEffect | None = None
    alignment: MeasuredEffect | None = None
    promised: MeasuredEffect | None = None
    reasons: dict[SystemQuantity, str] = Field(default_factory=dict)
    statistic: str
    null: float
    outcome: SystemOutcome
    notebook: str

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        system = find_system(self.system)
        where = f"The record of {self.system!r} for {self.model}"
        for name in SYSTEM_QUANTITIES:
            has_number, has_reason = getattr(self, name) is not None, bool(self.reasons.get(name))
            if has_number == has_reason:
                found = "both a number and a reason" if has_number else "neither"
                raise ParameterError(
                    f"{where} has {found} for {name!r}. Give a number, or the reason why there is "
                    "none."
                )
        promise = system.promise
        if (self.statistic, self.null) != (promise.statistic, promise.null):
            raise ParameterError(
                f"{where} is about {self.statistic!r} above {self.null:g}; the promise is now "
                f"about {promise.statistic!r} above {promise.null:g}. Run {self.notebook} again."
            )
        outcome = promise.decide_outcome(self.promised.interval if self.promised else None)
        if self.outcome != outcome:
            raise ParameterError(
                f"{where} says {self.outcome!r}, but its numbers say {outcome!r}. Outcomes are "
                "computed: make records with ima.systems.records.make_system_record."
            )
        return self


def find_system(name: str) -> RelatedSystem:
    """Return the declaration of a system.

    Raises
    ------
    UnknownNameError
        If there is none of this name.

    Examples
    --------
    >>> find_system("vtw").change
    'tokens'
    """
    if name not in SYSTEMS:
        raise UnknownNameError.among(kind="system", asked=name, available=SYSTEMS)
    return SYSTEMS[name]


def make_system_record(
    system: str,
    *,
    model: str,
    dataset: str,
    setting: str,
    cost: MeasuredEffect | str,
    score: MeasuredEffect | str,
    alignment: MeasuredEffect | str,
    promised: MeasuredEffect | str,
) -> SystemRecord:
    """Make the record of a system on one model and data set.

    Parameters
    ----------
    system : str
        Its key in :data:`ima.systems.registry.SYSTEMS`.
    model, dataset : str
        What was measured.
    setting : str
        With which settings, in words.
    cost : MeasuredEffect or str
        Ratio to the operations without the system; 1 costs nothing.
    score, alignment : MeasuredEffect or str
        Change of the score, a fraction, and of the alignment: matched minus all pairs, mean over
        layers, a cosine.
    promised : MeasuredEffect or str
        The statistic of the system's promise.

        In place of each of the four, a text says why it was not measured.

    Returns
    -------
    SystemRecord
        With the computed outcome.

    Raises
    ------
    UnknownNameError
        If the system is not registered.

    Examples
    --------
    >>> gain = MeasuredEffect.of(Interval(0.2, 0.1, 0.3, n=60), quantity="gain", unit="questions")
    >>> why = "The page did not measure it."
    >>> record = make_system_record("browse", model="m", dataset="d", setting="as trained",
    ...                             cost=why, score=gain, alignment=why, promised=gain)
    >>> record.outcome, record.notebook
    ('works', 'notebooks/browse.md')
    """
    given = {"cost": cost, "score": score, "alignment": alignment, "promised": promised}
    numbers = {name: own for name, own in given.items() if isinstance(own, MeasuredEffect)}
    declared = find_system(system)
    statistic = numbers.get("promised")
    return SystemRecord.model_validate(
        {
            "system": system,
            "model": model,
            "dataset": dataset,
            "setting": setting,
            **numbers,
            "reasons": {name: own for name, own in given.items() if name not in numbers},
            "statistic": declared.promise.statistic,
            "null": declared.promise.null,
            "outcome": declared.promise.decide_outcome(statistic.interval if statistic else None),
            "notebook": f"notebooks/{declared.page}.md",
        }
    )


def compute_cost_ratio(
    with_system: float, without: float, *, n: int, quantity: str, unit: str
) -> MeasuredEffect:
    """Return the cost of a system as a ratio to the cost without it: counted, so without error.

    Parameters
    ----------
    with_system, without : float
        The two costs, in the same unit.
    n : int
        Number of samples that were counted.
    quantity, unit : str
        As in :class:`MeasuredEffect`.

    Raises
    ------
    ParameterError
        If the cost without the system is not above 0.

    Examples
    --------
    >>> compute_cost_ratio(3.0, 2.0, n=8, quantity="operations", unit="prompts").value
    1.5
    """
    if not without > 0:
        raise ParameterError(
            f"A ratio of costs needs a cost above 0 without the system; got {without:g}."
        )
    ratio = float(with_system / without)
    return MeasuredEffect(quantity=quantity, value=ratio, low=ratio, high=ratio, n=n, unit=unit)


def write_system_records(records: Sequence[SystemRecord], path: str | Path) -> Path:
    """Write the records of a page as a JSON list.

    Parameters
    ----------
    records : sequence of SystemRecord
        What the page measured.
    path : str or Path
        The file, usually ``*.systems.json``. It appears when it is complete.

    Examples
    --------
    >>> write_system_records(records, "browse.systems.json")  # doctest: +SKIP
    PosixPath('browse.systems.json')
    """
    path = Path(path)
    write_json(path, [record.model_dump(exclude_none=True) for record in records])
    return path


def read_system_records(path: str | Path) -> list[SystemRecord]:
    """Read the records of a page and check their outcomes.

    Raises
    ------
    ParameterError
        If the file is not a list of records, or an outcome does not follow from its numbers.

    Examples
    --------
    >>> read_system_records("book/runs/browse.systems.json")[0].outcome  # doctest: +SKIP
    'works'
    """
    return read_records(Path(path), SystemRecord, kind="system")


def collect_system_records(paths: Iterable[str | Path]) -> list[SystemRecord]:
    """Collect the records of all pages, in the order of the systems.

    Parameters
    ----------
    paths : iterable of str or Path
        From :func:`write_system_records`.

    Raises
    ------
    ParameterError
        If a file cannot be read, or a system is recorded twice on one model and data set.

    Examples
    --------
    >>> collect_system_records(Path("book/runs").glob("*.systems.json"))  # doctest: +SKIP
    """
    found: dict[tuple[str, ...], tuple[SystemRecord, Path]] = {}
    for path in map(Path, paths):
        for record in read_system_records(path):
            key = (record.system, record.model, record.dataset)
            if key in found:
                raise ParameterError(
                    f"{record.system!r} is recorded twice on {record.model}, {record.dataset}: in "
                    f"{found[key][1]} and in {path}. The map has one place for it. "
                    "Keep one setting."
                )
            found[key] = (record, path)
    order = list(SYSTEMS)
    return sorted((own for own, _ in found.values()), key=lambda own: order.index(own.system))


def group_by_system(records: Iterable[SystemRecord]) -> Mapping[str, list[SystemRecord]]:
    """Return the records of each registered system; systems without a record have none.

    Examples
    --------
    >>> group_by_system([])["vtw"]
    []
    """
    groups: dict[str, list[SystemRecord]] = {name: [] for name in SYSTEMS}
    for record in records:
        groups[record.system].append(record)
    return groups
