"""What the front page says of the claims: a table claims × models, and the numbers behind it."""

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
#: What the names of models say of their setup.
_SETUP_NOTE = (
    "ST: single-task models, each with a connector of its own for one task and modality. MT: "
    "multitask models, one connector for all. Where a claim is about many models, it stands under "
    "the language model that they share."
)
_NOT_MEASURABLE_MARK = '<span class="verdict unmeasured" title="cannot be measured">–</span>'
_NOT_MEASURED_MARK = '<span class="verdict unmeasured">·</span>'


def format_claims_table(
    records: Sequence[ClaimRecord],
    *,
    models: Sequence[str] = (),
    pages: Mapping[str, str] | None = None,
    missing: Sequence[UnmeasurableClaim] = (),
) -> str:
    """Write what became of the claims as MyST markdown: a table of symbols, then the numbers.

    Parameters
    ----------
    records : sequence of Record
        What was measured.
    models : sequence of str
        Columns to show even where nothing was measured; models of the records follow.
    pages : mapping of str to str or None
        From a notebook's source path to the page to link to.
    missing : sequence of Missing
        What notebooks could not measure.

    Returns
    -------
    str
        A table with a row for each claim of the paper and a column for each model, of a symbol per
        record that links to its page; and a set of tabs, one per model, with verdict, value,
        interval and n of each record, the reason where a notebook could not measure it, and "not
        yet measured" elsewhere.
    """
    known = [*models, *(entry.model for entry in records), *(one.model for one in missing)]
    columns = list(dict.fromkeys(known)) or ["any model"]
    head = ["Claim", *columns]
    lines = [_row(head), _row(["---", *[":-:"] * len(columns)])]
    for claim in CLAIMS.values():
        said = f'<small class="claim">{claim.sentence}</small>'
        cells = [f"**{claim.id}** {claim.name}<br>{said}"]
        for column in columns:
            marks = [_mark(entry, pages=pages or {}) for entry in _own(records, claim.id, column)]
            if not marks and any((m.claim, m.model) == (claim.id, column) for m in missing):
                marks = [_NOT_MEASURABLE_MARK]
            cells.append(" ".join(marks) or _NOT_MEASURED_MARK)
        lines.append(_row(cells))
    key = ", ".join(
        f'<span class="verdict {verdict}">{symbol}</span> {verdict}'
        for verdict, symbol in VERDICT_SYMBOLS.items()
    )
    unserved = f", {_NOT_MEASURABLE_MARK} cannot be measured" if missing else ""
    lines += [
        "",
        f"{key}{unserved}, {_NOT_MEASURED_MARK} not measured. A symbol leads to its page.",
        "",
    ]
    lines += [_SETUP_NOTE, ""]
    lines += ["::::{tab-set}"]
    for column in columns:
        lines += [f":::{{tab-item}} {column}", _row(["Claim", "Verdict", "Number"])]
        lines += [_row(["---"] * 3), *_details(records, missing, column, pages=pages or {}), ":::"]
    return "\n".join([*lines, "::::"]) + "\n"


def describe_claim_record(entry: ClaimRecord) -> str:
    """Say in words what a record found, whichever way it came out.

    Parameters
    ----------
    entry : Record
        A measured claim.

    Returns
    -------
    str
        The verdict, the numbers and where the interval lies.

    Examples
    --------
    >>> from ima.claims import record
    >>> from ima.stats.intervals import Interval
    >>> print(sentence(record("F1.1", interval=Interval(-0.2, -0.3, -0.1, n=600), model="m",
    ...                       dataset="d", notebook="notebooks/finding1.md")))
    F1.1 is contradicted by m: -0.200 [-0.300, -0.100], n = 600; the interval lies below the \
null of 0, and the claim puts it above.
    """
    side = "above" if entry.direction == "greater" else "below"
    if entry.verdict == "inconclusive":
        text, where = f"{entry.claim} is inconclusive for", "holds"
    elif entry.verdict == "supported":
        text, where = f"{entry.claim} is supported by", f"lies {side}"
    else:
        other = "below" if side == "above" else "above"
        text, where = f"{entry.claim} is contradicted by", f"lies {other}"
    return (
        f"{text} {entry.model}: {entry.interval}; the interval {where} the null of "
        f"{entry.null:g}, and the claim puts it {side}."
    )


def show_claim_records(records: Sequence[ClaimRecord]) -> Styler:
    """Show records as a table.

    Parameters
    ----------
    records : sequence of Record
        What was measured.

    Returns
    -------
    pandas.io.formats.style.Styler
        A row per record; claim and statistic stand in it where records differ in them, the data
        set where they would not differ otherwise.
    """
    import pandas as pd

    columns = ["model", "claim", "statistic", "value", "low", "high", "n", "null", "verdict"]
    table = pd.DataFrame([entry.model_dump() for entry in records])
    if table.duplicated(columns[:3]).any():
        columns.insert(1, "dataset")
    same = [name for name in ("claim", "statistic") if len(set(table[name])) == 1]
    table = table[columns].drop(columns=same).rename(columns={"dataset": "data set"})
    return table.style.hide(axis="index").format(precision=3)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _own(records: Sequence[ClaimRecord], claim: str, model: str) -> list[ClaimRecord]:
    return [entry for entry in records if (entry.claim, entry.model) == (claim, model)]


def _mark(entry: ClaimRecord, *, pages: Mapping[str, str]) -> str:
    """Return a record's symbol, which says what it means to who points at it or hears it read."""
    said = f"{entry.claim} {entry.verdict}"
    symbol = (
        f'<span class="verdict {entry.verdict}" role="img" aria-label="{said}" title="{said}">'
        f"{VERDICT_SYMBOLS[entry.verdict]}</span>"
    )
    return f"[{symbol}]({pages[entry.notebook]})" if entry.notebook in pages else symbol


def _details(
    records: Sequence[ClaimRecord],
    missing: Sequence[UnmeasurableClaim],
    model: str,
    *,
    pages: Mapping[str, str],
) -> list[str]:
    rows = []
    reasons = {one.claim: one.reason for one in missing if one.model == model}
    for claim in CLAIMS.values():
        name = f"**{claim.id}** {claim.name}"
        own = _own(records, claim.id, model)
        if not own:
            word = "cannot be measured" if claim.id in reasons else "not yet measured"
            text = f"<small>{html.escape(reasons.get(claim.id, ''))}</small>"
            rows.append(_row([name, f'<span class="verdict unmeasured">{word}</span>', text]))
        said = Counter(entry.statistic for entry in own)
        for entry in own:
            word = f"{_mark(entry, pages={})} {entry.verdict}"
            if entry.notebook in pages:
                word = f"[{word}]({pages[entry.notebook]})"
            what = entry.statistic
            if said[what] > 1:
                what += f"; on {entry.dataset}"
            shown = f"{entry.interval}<br><small>{what}</small>"
            rows.append(_row([name, word, shown]))
    return rows
