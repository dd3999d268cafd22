"""The systems side by side: the map, promises beside what was found, the front page's list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ima.errors import ParameterError
from ima.files import replace_file
from ima.systems.records import (
    SYSTEM_QUANTITIES,
    MeasuredEffect,
    SystemQuantity,
    SystemRecord,
    collect_system_records,
    find_system,
    group_by_system,
)
from ima.systems.registry import SYSTEMS, WITHOUT_IT, RelatedSystem

#: By quantity of the map, the title of its panel and the unit of its axis.
MAP_PANELS: Mapping[SystemQuantity, tuple[str, str]] = {
    "cost": ("cost", "operations (fraction)"),
    "score": ("score", "change (fraction)"),
    "alignment": ("alignment", "change (cosine)"),
}
NO_RECORD = "no record in this book"
_RECORDS_ENDING = ".systems.json"


def tabulate_map(records: Sequence[SystemRecord]) -> pd.DataFrame:
    """Tabulate the map: each number of each record, as a change against what it is compared with.

    Parameters
    ----------
    records : sequence of SystemRecord
        From :func:`ima.systems.records.collect_system_records`.

    Returns
    -------
    pandas.DataFrame
        ``system``, ``where`` (model and data set), ``change`` (what the system changes), ``panel``,
        ``unit``, ``value``, ``low``, ``high``, ``n``: a row for each panel of
        :data:`MAP_PANELS`. 0 is what the system is compared with on all of them: a cost of 0.5
        stands for half as many operations more. Numbers are NaN where a record has none, and where
        a system has no record.

    Examples
    --------
    >>> table = tabulate_map([])
    >>> table["where"].unique().tolist()
    ['no record in this book']
    """
    rows = []
    for name, own in group_by_system(records).items():
        system = SYSTEMS[name]
        for record in _list_or_none(own):
            where = f"{record.model}, {record.dataset}" if record else NO_RECORD
            for quantity, (panel, unit) in MAP_PANELS.items():
                effect = getattr(record, quantity) if record else None
                row = {"system": system.name, "where": where, "change": system.change}
                rows.append(row | {"panel": panel, "unit": unit} | _list_numbers(effect, quantity))
    return pd.DataFrame(rows)


def _list_or_none(records: Sequence[SystemRecord]) -> Sequence[SystemRecord | None]:
    """Return the records of a system; one None where there is none, which has a row too."""
    return records or (None,)


def _list_numbers(effect: MeasuredEffect | None, quantity: str) -> dict[str, float]:
    if effect is None:
        return dict.fromkeys(("value", "low", "high"), float("nan")) | {"n": 0}
    without = 1.0 if quantity == "cost" else 0.0
    numbers = {name: getattr(effect, name) - without for name in ("value", "low", "high")}
    return numbers | {"n": effect.n}


def tabulate_changes() -> pd.DataFrame:
    """Tabulate what each system changes, and how.

    Returns
    -------
    pandas.DataFrame
        ``system``, ``year``, ``changes`` (one of :data:`ima.systems.registry.SYSTEM_CHANGES`),
        ``trains``, ``how`` and ``compared with``.

    Examples
    --------
    >>> tabulate_changes().set_index("system")["changes"]["VTW"]
    'tokens'
    """
    return pd.DataFrame(
        {
            "system": system.name,
            "year": system.year,
            "changes": system.change,
            "trains": "yes" if system.trained else "no",
            "how": system.how,
            "compared with": system.against,
        }
        for system in SYSTEMS.values()
    )


def compare_promises(records: Sequence[SystemRecord]) -> pd.DataFrame:
    """Compare what each system promised with what was found: a row for each record.

    Parameters
    ----------
    records : sequence of SystemRecord
        The measured systems.

    Returns
    -------
    pandas.DataFrame
        ``system``, ``promise``, ``outcome``, ``found`` (its statistic, with n), ``needed`` (what
        keeps the promise) and ``on`` (model and data set). A system without a record has a row that
        says so.

    Examples
    --------
    >>> compare_promises([])["outcome"].unique().tolist()
    ['no record in this book']
    """
    rows = []
    for name, own in group_by_system(records).items():
        system = SYSTEMS[name]
        promise = system.promise
        needed = f"above {promise.null:g}"
        for record in _list_or_none(own):
            row = {"outcome": NO_RECORD, "found": "–", "needed": needed, "on": "–"}
            if record is not None:
                number, n = _describe_quantity(record, "promised")
                row["outcome"], row["on"] = record.outcome, f"{record.model}, {record.dataset}"
                row["found"] = f"{number}, n = {n}" if n else number
            rows.append({"system": system.name, "promise": promise.sentence} | row)
    return pd.DataFrame(rows)


def describe_promise(system: str, records: Sequence[SystemRecord]) -> str:
    """Say what a system promises, what its statistic must exceed, and what was found.

    Parameters
    ----------
    system : str
        Its key in :data:`ima.systems.registry.SYSTEMS`.
    records : sequence of SystemRecord
        What a page measured; records of other systems do not count.

    Returns
    -------
    str
        The registered promise, statistic and null, and a sentence for each record.

    Raises
    ------
    UnknownNameError
        If the system is not registered.

    Examples
    --------
    >>> from ima.stats.intervals import Interval
    >>> from ima.systems.records import make_system_record
    >>> gain = MeasuredEffect.of(Interval(0.2, 0.1, 0.3, n=60), quantity="gain", unit="questions")
    >>> record = make_system_record("browse", model="m", dataset="d", setting="s", cost="Unknown.",
    ...                             score=gain, alignment="Unknown.", promised=gain)
    >>> describe_promise("browse", [record]).partition("With ")[2]
    'm we found 0.200 [0.100, 0.300], n = 60 questions: the system works.'
    """
    declared = find_system(system)
    own = [record for record in records if record.system == system]
    models = [record.model for record in own]
    found = [_describe_outcome(each, named=models.count(each.model) > 1) for each in own]
    return (
        f"The promise of {declared.name}: {declared.promise.sentence} The system works if the "
        f"whole interval of this statistic lies above {declared.promise.null:g}: "
        f"{declared.promise.statistic}. "
        f"{' '.join(found) or 'This edition has no model to measure it on.'}"
    )


def _describe_outcome(record: SystemRecord, *, named: bool) -> str:
    """Say what was found on a model, and on which data set where this has to be named."""
    where = f"With {record.model}" + (f" on {record.dataset}" if named else "")
    number, n = _describe_quantity(record, "promised")
    if record.promised is None:
        return f"{where} this was not measured: {number}"
    outcome = record.outcome if record.outcome == "undecided" else f"the system {record.outcome}"
    return f"{where} we found {number}, n = {n}: {outcome}."


def _describe_quantity(record: SystemRecord, quantity: SystemQuantity) -> tuple[str, str]:
    """Return a number of a record in words and its n, or the reason why there is none and ""."""
    effect: MeasuredEffect | None = getattr(record, quantity)
    if effect is None:
        return record.reasons[quantity], ""
    return format_effect(effect), f"{effect.n} {effect.unit}"


def tabulate_effects(records: Sequence[SystemRecord]) -> pd.DataFrame:
    """Tabulate the numbers of each record in words, with the reasons where there is none.

    Parameters
    ----------
    records : sequence of SystemRecord
        The measured systems.

    Returns
    -------
    pandas.DataFrame
        ``system``, ``setting``, ``model``, ``data set``, ``what``, ``number`` (or the reason) and
        ``n``: a row for each panel of the map and for the statistic of the promise.

    Examples
    --------
    >>> tabulate_effects([]).empty
    True
    """
    rows = []
    for record in records:
        head = {"system": SYSTEMS[record.system].name, "setting": record.setting}
        head |= {"model": record.model, "data set": record.dataset}
        for quantity in SYSTEM_QUANTITIES:
            effect: MeasuredEffect | None = getattr(record, quantity)
            what: str = quantity if effect is None else effect.quantity
            if quantity == "promised":
                what = record.statistic
            number, n = _describe_quantity(record, quantity)
            rows.append(head | {"what": what, "number": number, "n": n or "–"})
    return pd.DataFrame(rows)


def format_effect(effect: MeasuredEffect) -> str:
    """Format a number with its interval; a count without an error has none.

    Examples
    --------
    >>> one = MeasuredEffect(quantity="q", value=0.5, low=0.25, high=0.75, n=9, unit="samples")
    >>> format_effect(one)
    '0.500 [0.250, 0.750]'
    >>> format_effect(one.model_copy(update={"low": 0.5, "high": 0.5}))
    '0.500'
    """
    if effect.low == effect.high:
        return f"{effect.value:.3f}"
    return f"{effect.value:.3f} [{effect.low:.3f}, {effect.high:.3f}]"


def list_missing(records: Sequence[SystemRecord]) -> list[str]:
    """List the systems without a record, each with its page.

    Examples
    --------
    >>> list_missing([])[1]
    'VTW (page token-reduction)'
    """
    return [
        f"{SYSTEMS[name].name} (page {SYSTEMS[name].page})"
        for name, own in group_by_system(records).items()
        if not own
    ]


def count_outcomes(records: Sequence[SystemRecord]) -> str:
    """Say how many systems keep their promise, and what holds of the others.

    A system that works on one model, and is not measured on another, works wherever it was
    measured.

    Parameters
    ----------
    records : sequence of SystemRecord
        The measured systems.

    Raises
    ------
    ParameterError
        If there is no record: a map of nothing says nothing.

    Examples
    --------
    >>> from ima.systems.records import make_system_record
    >>> why = "The page did not measure it."
    >>> record = make_system_record("browse", model="m", dataset="d", setting="s", cost=why,
    ...                             score=why, alignment=why, promised=why)
    >>> for sentence in count_outcomes([record]).split(". ")[:2]:
    ...     print(sentence)
    Of 9 systems, 0 kept their promise wherever we measured it, and 0 kept it nowhere
    Not measured: 1 (Browse-and-Concentrate)
    """
    if not records:
        raise ParameterError(
            "No page has recorded a system. Run a page that does, such as "
            f"notebooks/{next(iter(SYSTEMS.values())).page}.md, and give its *{_RECORDS_ENDING}."
        )
    groups: dict[str, list[str]] = {}
    for name, own in group_by_system(records).items():
        outcomes = {each.outcome for each in own} - {"not measured"}
        if own:
            only = "not measured" if not outcomes else "different by setting"
            groups.setdefault(outcomes.pop() if len(outcomes) == 1 else only, []).append(name)
    kept, broken = groups.pop("works", []), groups.pop("does not work", [])
    refuted = [
        name
        for name in groups.get("different by setting", [])
        if any(each.outcome == "does not work" for each in group_by_system(records)[name])
    ]
    parts = [
        f"Of {len(SYSTEMS)} systems, {_count(kept)} kept their promise wherever we measured it, "
        f"and {_count(broken)} kept it nowhere."
    ]
    parts += [f"{only.capitalize()}: {_count(names)}." for only, names in groups.items()]
    if refuted:
        parts.append(f"In at least one setting these did not work: {_count(refuted)}.")
    missing = list_missing(records)
    if missing:
        parts.append(f"Without a record: {'; '.join(missing)}.")
    return " ".join(parts)


def _count(systems: Sequence[str]) -> str:
    """Count systems and name them."""
    named = f" ({', '.join(SYSTEMS[name].name for name in systems)})" if systems else ""
    return f"{len(systems)}{named}"


def format_systems_list(
    records: Sequence[SystemRecord], *, pages: Mapping[str, str] | None = None
) -> str:
    """Format the front page's list of systems as MyST markdown.

    Parameters
    ----------
    records : sequence of SystemRecord
        The measured systems.
    pages : mapping of str to str or None
        Links to the pages of the book, by the path of the notebook.

    Returns
    -------
    str
        An entry for each system: whether it works, on which models, by which statistic and null,
        with which effect; empty without records.

    Examples
    --------
    >>> format_systems_list([])
    ''
    """
    if not records:
        return ""
    lines = []
    for name, own in group_by_system(records).items():
        label = _link(SYSTEMS[name], own, pages or {})
        found = "; ".join(map(_describe_record, own)) or NO_RECORD
        lines.append(f"- {label}: {found}.")
    return "\n".join([*lines, "", _explain_list(), ""])


def _explain_list() -> str:
    """Say what decides, and with what the numbers compare each system."""
    others = ", ".join(
        f"{system.name} with {system.against}"
        for system in SYSTEMS.values()
        if system.against != WITHOUT_IT
    )
    return (
        "The first number of an entry is the statistic of the promise. The system works where the "
        "whole interval lies above the null, which follows as *promised above*. The numbers in "
        "parentheses are operations as a ratio, the score as a difference of fractions (left out "
        "where it is that statistic), and alignment as a difference of cosines. They compare a "
        f"system with {WITHOUT_IT}, but {others}."
    )


def _link(system: RelatedSystem, records: Sequence[SystemRecord], links: Mapping[str, str]) -> str:
    page = next((links[each.notebook] for each in records if each.notebook in links), None)
    return f"[{system.name}]({page})" if page else system.name


def _describe_record(record: SystemRecord) -> str:
    """Say whether a system works on a model, and what it does there."""
    effects = [
        f"{quantity} {_format_change(effect, quantity)}"
        for quantity in MAP_PANELS
        if (effect := getattr(record, quantity)) not in (None, record.promised)
    ]
    numbers = f" ({', '.join(effects)})" if effects else ""
    found = record.reasons.get("promised", "").removesuffix(".")
    if record.promised is not None:
        found = f"{_format_shortly(record.promised)}, promised above {record.null:g}"
    return f"**{record.outcome}** on {record.model}, {record.dataset}: {found}{numbers}"


def _format_change(effect: MeasuredEffect, quantity: SystemQuantity) -> str:
    return f"× {effect.value:.2f}" if quantity == "cost" else _format_shortly(effect, sign="+")


def _format_shortly(effect: MeasuredEffect, *, sign: str = "") -> str:
    # What rounds to zero has no sign of its own: without the sum, -0.0 would keep it.
    value, low, high = (
        f"{round(number, 2) + 0.0:{sign}.2f}" for number in (effect.value, effect.low, effect.high)
    )
    return value if low == high else f"{value} [{low}, {high}]"


def write_systems_list(files: Sequence[Path], *, out: Path, runs: str = "runs") -> None:
    """Write the front page's list of systems from the records of the pages.

    Parameters
    ----------
    files : sequence of Path
        The records of each run, ``PAGE.systems.json``; the page is ``PAGE.ipynb``.
    out : Path
        The file that the front page includes; empty without records.
    runs : str
        The folder of the pages, as the front page links it.

    Raises
    ------
    ParameterError
        If a file cannot be read, or a system is recorded twice.

    Examples
    --------
    >>> write_systems_list(
    ...     [Path("book/runs/browse.systems.json")], out=Path("book/_generated/systems.md")
    ... )  # doctest: +SKIP
    """
    records = collect_system_records(files)
    names = [path.name.removesuffix(_RECORDS_ENDING) for path in map(Path, files)]
    pages = {f"notebooks/{name}.md": f"{runs}/{name}.ipynb" for name in names}
    with replace_file(out) as partial:
        partial.write_text(format_systems_list(records, pages=pages), encoding="utf-8")
