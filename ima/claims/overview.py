"""Show claim records: the front page's table, a sentence per record, and a page's table."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ima.claims.not_measurable import UnmeasurableClaim
from ima.claims.records import ClaimRecord, Verdict
from ima.claims.registry import CLAIMS

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

VERDICT_SYMBOLS: Mapping[Verdict, str] = {
    "supported": "✓",
    "contradicted": "✗",
    "inconclusive": "○",
}
_SETUP_NOTE = (
    "ST: single-task models, each with its own connector for one task and one modality. MT: "
    "multitask models with one connector for all. A claim about a set of models is listed under "
    "the language model that they share."
)
_NOT_MEASURABLE_MARK = '<span class="verdict unmeasured" title="cannot be measured">–</span>'
_NOT_MEASURED_MARK = '<span class="verdict unmeasured">·</span>'


def format_claims_table(
    records: Sequence[ClaimRecord],
    *,
    pages: Mapping[str, str] | None = None,
    missing: Sequence[UnmeasurableClaim] = (),
) -> str:
    """Format the verdicts on all claims as MyST markdown: a table of symbols, then the numbers.

    Parameters
    ----------
    records : sequence of ClaimRecord
        The measured claims.
    pages : mapping of str to str or None
        Links to the pages of the book, by the path of the notebook.
    missing : sequence of UnmeasurableClaim
        The claims that pages could not measure.

    Returns
    -------
    str
        A table with a row per claim, a column per model and a linked symbol per record. Below it, a
        tab per model with the verdict, value, interval and n of each record, the reason if a page
        could not measure the claim, and "not yet measured" otherwise.

    Examples
    --------
    >>> print(format_claims_table([]).splitlines()[0])
    | Claim | any model |
    """
    links = pages or {}
    names = [record.model for record in records] + [each.model for each in missing]
    columns = list(dict.fromkeys(names)) or ["any model"]
    lines = [_row(["Claim", *columns]), _row(["---", *[":-:"] * len(columns)])]
    unmeasurable = {(each.claim, each.model) for each in missing}
    for claim in CLAIMS.values():
        sentence = f'<small class="claim">{claim.sentence}</small>'
        cells = [f"**{claim.id}** {claim.name}<br>{sentence}"]
        for column in columns:
            marks = [_mark(record, links) for record in _select(records, claim.id, column)]
            if not marks and (claim.id, column) in unmeasurable:
                marks = [_NOT_MEASURABLE_MARK]
            cells.append(" ".join(marks) or _NOT_MEASURED_MARK)
        lines.append(_row(cells))
    legend = [
        f'<span class="verdict {verdict}">{symbol}</span> {verdict}'
        for verdict, symbol in VERDICT_SYMBOLS.items()
    ]
    if missing:
        legend.append(f"{_NOT_MEASURABLE_MARK} cannot be measured")
    legend.append(f"{_NOT_MEASURED_MARK} not measured")
    lines += ["", f"{', '.join(legend)}. Each symbol links to its page.", "", _SETUP_NOTE, ""]
    lines += ["::::{tab-set}"]
    for column in columns:
        lines += [f":::{{tab-item}} {column}", _row(["Claim", "Verdict", "Number"])]
        lines += [_row(["---"] * 3), *_list_details(records, missing, column, links), ":::"]
    return "\n".join([*lines, "::::"]) + "\n"


def describe_claim_record(record: ClaimRecord) -> str:
    """Describe the verdict of a record in words, with its numbers.

    Parameters
    ----------
    record : ClaimRecord
        A measured claim.

    Examples
    --------
    >>> from ima.claims import make_claim_record
    >>> from ima.stats.intervals import Interval
    >>> record = make_claim_record("F1.1", interval=Interval(-0.2, -0.3, -0.1, n=600),
    ...                            model="opt-mini (ST)", dataset="mini-image-caption")
    >>> print(describe_claim_record(record))
    F1.1 is contradicted by opt-mini (ST): -0.200 [-0.300, -0.100], n = 600. The interval lies \
below 0; the claim predicts a value above 0.
    """
    sides = ("above", "below") if record.direction == "greater" else ("below", "above")
    null, predicted, opposite = f"{record.null:g}", *sides
    verdict, position = {
        "supported": ("supported by", f"lies {predicted} {null}, as the claim predicts"),
        "contradicted": ("contradicted by", f"lies {opposite} {null}"),
        "inconclusive": ("inconclusive for", f"contains {null}"),
    }[record.verdict]
    if record.verdict != "supported":
        position += f"; the claim predicts a value {predicted} {null}"
    return (
        f"{record.claim} is {verdict} {record.model}: {record.interval}. The interval {position}."
    )


def show_claim_records(records: Sequence[ClaimRecord]) -> Styler:
    """Show records as a table.

    Parameters
    ----------
    records : sequence of ClaimRecord
        The measured claims.

    Returns
    -------
    pandas.io.formats.style.Styler
        A row per record. The columns claim and statistic appear if the records differ in them, the
        column data set if the rows would otherwise be ambiguous.

    Examples
    --------
    >>> from ima.claims import read_claim_records
    >>> show_claim_records(read_claim_records("finding1.claims.json"))  # doctest: +SKIP
    """
    import pandas as pd

    columns = ["model", "claim", "statistic", "value", "low", "high", "n", "null", "verdict"]
    table = pd.DataFrame([record.model_dump() for record in records])
    if table.duplicated(columns[:3]).any():
        columns.insert(1, "dataset")
    constant = [name for name in ("claim", "statistic") if len(set(table[name])) == 1]
    table = table[columns].drop(columns=constant).rename(columns={"dataset": "data set"})
    return table.style.hide(axis="index").format(precision=3)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _select(records: Sequence[ClaimRecord], claim: str, model: str) -> list[ClaimRecord]:
    return [record for record in records if (record.claim, record.model) == (claim, model)]


def _mark(record: ClaimRecord, links: Mapping[str, str]) -> str:
    """Return the symbol of a record, with a label for screen readers and a tooltip."""
    label = f"{record.claim} {record.verdict}"
    symbol = (
        f'<span class="verdict {record.verdict}" role="img" aria-label="{label}" title="{label}">'
        f"{VERDICT_SYMBOLS[record.verdict]}</span>"
    )
    return f"[{symbol}]({links[record.notebook]})" if record.notebook in links else symbol


def _list_details(
    records: Sequence[ClaimRecord],
    missing: Sequence[UnmeasurableClaim],
    model: str,
    links: Mapping[str, str],
) -> list[str]:
    rows = []
    reasons = {each.claim: each.reason for each in missing if each.model == model}
    for claim in CLAIMS.values():
        title = f"**{claim.id}** {claim.name}"
        own = _select(records, claim.id, model)
        if not own:
            status = "cannot be measured" if claim.id in reasons else "not yet measured"
            reason = f"<small>{html.escape(reasons.get(claim.id, ''))}</small>"
            rows.append(_row([title, f'<span class="verdict unmeasured">{status}</span>', reason]))
        counts = Counter(record.statistic for record in own)
        for record in own:
            verdict = f"{_mark(record, {})} {record.verdict}"
            if record.notebook in links:
                verdict = f"[{verdict}]({links[record.notebook]})"
            statistic = record.statistic
            if counts[statistic] > 1:
                statistic += f"; on {record.dataset}"
            number = f"{record.interval}<br><small>{statistic}</small>"
            rows.append(_row([title, verdict, number]))
    return rows
