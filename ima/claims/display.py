"""Show readings, verdicts and further measurements on the page of a claim."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ima.claims.families import adjust_verdicts
from ima.claims.not_measurable import UnmeasurableClaim
from ima.claims.overview import get_shown_verdict
from ima.claims.readings import Reading, Verdict, capitalise, get_style_class
from ima.claims.records import ClaimRecord
from ima.claims.registry import CLAIMS
from ima.stats.intervals import Interval

if TYPE_CHECKING:
    from IPython.display import HTML
    from pandas.io.formats.style import Styler


def show_readings(*claims: str) -> HTML:
    """Show the readings of claims as they are registered, to be opened.

    Parameters
    ----------
    *claims : str
        Ids of the claims.

    Returns
    -------
    IPython.display.HTML
        By reading: what it says, its statistic, what supports it, and the reason for its margin.

    Examples
    --------
    >>> "above 0 by more than 0.02" in show_readings("F1.1").data
    True
    """
    from IPython.display import HTML

    entries = "".join(
        f"<dt>{claim} {name}</dt><dd>{_describe_reading(reading)}</dd>"
        for claim in claims
        for name, reading in CLAIMS[claim].readings.items()
    )
    summary = f"The readings of {' and '.join(claims)}: statistic, null and margin"
    return HTML(  # type: ignore[no-untyped-call]
        f'<details class="readings"><summary>{summary}</summary><dl>{entries}</dl></details>'
    )


def _describe_reading(reading: Reading) -> str:
    statistic = html.escape(capitalise(reading.statistic))
    return (
        f"<p>{html.escape(reading.sentence)} In the paper: {html.escape(reading.figure)}.</p>"
        f"<p>Statistic: {statistic}. Supported if {reading.describe_rule()}. "
        f"Why this margin: {html.escape(reading.margin.reason)} "
        f"Resampled: {html.escape(reading.unit)}.</p>"
    )


def describe_claim_records(
    records: Sequence[ClaimRecord], *, missing: Sequence[UnmeasurableClaim] = ()
) -> list[str]:
    """Describe verdicts in words, with their numbers, a paragraph each.

    Parameters
    ----------
    records : sequence of ClaimRecord
        All measured readings of some models: the readings as tested of one model are adjusted by
        Holm's method, as on the front page.
    missing : sequence of UnmeasurableClaim
        Claims that could not be measured.

    Returns
    -------
    list of str
        In the order of the records; then the claims that could not be measured.

    Examples
    --------
    >>> from ima.claims import make_claim_record
    >>> record = make_claim_record("F3.1", "as stated", interval=Interval(-0.2, -0.3, -0.1, n=600),
    ...                            model="opt-mini (ST)", dataset="mini-image-caption",
    ...                            finding="PvsT falls from 0.40 to 0.20.")
    >>> print(*describe_claim_records([record]))
    F3.1 as stated is contradicted by opt-mini (ST). PvsT falls from 0.40 to 0.20. Measured: \
-0.200 [-0.300, -0.100], n = 600 contents; supported if above 0 by more than 0.02.
    """
    adjusted = adjust_verdicts(records)
    described = []
    for record in records:
        verdict = get_shown_verdict(record, adjusted)
        words = f"{record.claim} {record.reading} is {_join_verdict(record, verdict)}"
        described.append(f"{words} {record.model}. {_describe_numbers(record)}")
    described += [f"{one.claim} cannot be measured on {one.model}: {one.reason}" for one in missing]
    return described


def show_verdicts(records: Sequence[ClaimRecord], *, model: str | None = None) -> HTML:
    """Show a box for each reading of one model: the verdict, what was found, and the numbers.

    Parameters
    ----------
    records : sequence of ClaimRecord
        The measured readings.
    model : str or None
        The model whose records are shown; None shows the first record's model.

    Returns
    -------
    IPython.display.HTML
        A box per record, coloured by verdict.

    Examples
    --------
    >>> from ima.claims import read_claim_records
    >>> show_verdicts(read_claim_records("finding1.claims.json"))  # doctest: +SKIP
    """
    from IPython.display import HTML

    shown = [record for record in records if record.model == (model or records[0].model)]
    boxes = "".join(_format_box(record) for record in shown)
    return HTML(f'<div class="verdict-boxes">{boxes}</div>')  # type: ignore[no-untyped-call]


def show_claim_records(records: Sequence[ClaimRecord]) -> Styler:
    """Show records as a table.

    Parameters
    ----------
    records : sequence of ClaimRecord
        The measured readings.

    Returns
    -------
    pandas.io.formats.style.Styler
        A row per record. The column claim appears if the records differ in it, and the column
        between seeds, with the lowest and the highest seed, if other seeds were measured.

    Examples
    --------
    >>> from ima.claims import read_claim_records
    >>> show_claim_records(read_claim_records("finding1.claims.json"))  # doctest: +SKIP
    """
    import pandas as pd

    columns = ["model", "claim", "reading", "value", "low", "high", "n", "unit", "verdict"]
    table = pd.DataFrame([record.model_dump() for record in records])[columns]
    if any(record.spread for record in records):
        spreads = [one.spread for one in records]
        ends = [f"{one.lowest:.3f} to {one.highest:.3f}" if one else "one seed" for one in spreads]
        table.insert(columns.index("n"), "between seeds", ends)
    if len(set(table["claim"])) == 1:
        table = table.drop(columns="claim")
    return table.style.hide(axis="index").format(precision=3, na_rep="–", escape="html")


def show_measurements(measured: Mapping[str, Interval]) -> Styler:
    """Show what else a page measured: numbers that have no verdict.

    Parameters
    ----------
    measured : mapping of str to Interval
        Statistics in words, and their intervals.

    Examples
    --------
    >>> show_measurements({"IMA score": Interval(0.3, 0.2, 0.4, n=50)}).data["value"].tolist()
    [0.3]
    """
    import pandas as pd

    rows = [
        {"also measured": text, "value": one.value, "low": one.low, "high": one.high, "n": one.n}
        for text, one in measured.items()
    ]
    return pd.DataFrame(rows).style.hide(axis="index").format(precision=3, escape="html")


def describe_seed_coverage(records: Sequence[ClaimRecord]) -> str:
    """Say whether the intervals of records cover other seeds of the connectors.

    Parameters
    ----------
    records : sequence of ClaimRecord
        After :func:`ima.claims.seeds.cover_seeds`; those without an interval are left out.

    Examples
    --------
    >>> describe_seed_coverage([])
    'No interval covers other seeds of the connectors, so the verdicts hold for these connectors \
only.'
    """
    measured = [record for record in records if record.interval is not None]
    covered = [record for record in measured if record.spread is not None]
    if not covered:
        return (
            "No interval covers other seeds of the connectors, so the verdicts hold for these "
            "connectors only."
        )
    once = dict.fromkeys(
        name for record in covered if record.spread for name in record.spread.trained_once
    )
    if len(covered) < len(measured):
        names = [f"{one.claim} {one.reading}" for one in measured if one.spread is None]
        found = f"All intervals but those of {', '.join(dict.fromkeys(names))} cover other seeds"
    else:
        found = "The intervals cover other seeds"
    rest = f" The connectors of {', '.join(once)} have one seed." if once else ""
    return f"{found} of the connectors.{rest}"


def _join_verdict(record: ClaimRecord, verdict: Verdict) -> str:
    """Return the verdict with its preposition."""
    prepositions = {"supported": "by", "contradicted": "by", "not testable here": "on"}
    if verdict == "no effect within the margin":
        return f"without effect beyond the margin of {record.margin:g} in"
    return f"{verdict} {prepositions.get(verdict, 'for')}"


def _describe_numbers(record: ClaimRecord) -> str:
    """Return what was found, the numbers, and what would support the reading."""
    rule = f"supported if {CLAIMS[record.claim].readings[record.reading].describe_rule()}"
    if record.interval is None:
        return record.reason
    numbers = f"Measured: {record.interval} {record.unit}; {rule}."
    seeds = record.spread.describe() if record.spread else ""
    return " ".join(part for part in (record.finding, record.reason, numbers, seeds) if part)


def _format_box(record: ClaimRecord) -> str:
    """Return the box of a record."""
    reading = CLAIMS[record.claim].readings[record.reading]
    kind = get_style_class(record.verdict)
    title = f"{record.verdict.capitalize()}, {record.reading}"
    lines = [
        f'<p class="verdict-title">{record.claim}: {title}</p>',
        *(f"<p>{html.escape(text)}</p>" for text in (record.finding, record.reason) if text),
        f"<p><small>The reading: {html.escape(reading.sentence)} "
        f"{html.escape(_describe_statistic(record, reading))}</small></p>",
    ]
    if record.spread is not None:
        lines.append(f"<p><small>{html.escape(record.spread.describe())}</small></p>")
    label = f"{record.claim} {record.reading}: {record.verdict}"
    return (
        f'<div class="verdict-box {kind}" role="note" aria-label="{label}">{"".join(lines)}</div>'
    )


def _describe_statistic(record: ClaimRecord, reading: Reading) -> str:
    """Return the statistic with its numbers, in one sentence."""
    statistic = capitalise(record.statistic)
    if record.interval is None:
        return f"Statistic: {statistic}."
    rule = reading.describe_rule()
    return f"{statistic}: {record.interval} {record.unit}; supported if {rule}."
