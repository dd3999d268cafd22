"""The table claims × models of the front page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ima.claims.records import Record, Verdict
from ima.claims.registry import CLAIMS

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

SYMBOLS: Mapping[Verdict, str] = {"supported": "✓", "contradicted": "✗", "inconclusive": "○"}


def table(
    records: Sequence[Record],
    *,
    models: Sequence[str] = (),
    pages: Mapping[str, str] | None = None,
) -> str:
    """Write the table claims × models as MyST markdown.

    Parameters
    ----------
    records : sequence of Record
        What was measured.
    models : sequence of str
        Columns to show even where nothing was measured; models of the records follow.
    pages : mapping of str to str or None
        From a notebook's source path to the page to link to.

    Returns
    -------
    str
        One row for each claim of the paper; a cell holds verdict, value, interval and n, or
        "not yet measured".
    """
    columns = list(dict.fromkeys([*models, *(entry.model for entry in records)]))
    head = ["Claim", *(columns or ["Any model"])]
    lines = [_row(head), _row(["---"] * len(head))]
    for claim in CLAIMS.values():
        cells = [f"**{claim.id}** {claim.name}<br><small>{claim.sentence}</small>"]
        for column in head[1:]:
            own = [r for r in records if (r.claim, r.model) == (claim.id, column)]
            cells.append(
                "<br>".join(_cell(entry, pages=pages or {}) for entry in own)
                or '<span class="verdict unmeasured">not yet measured</span>'
            )
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def sentence(entry: Record) -> str:
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
    >>> from ima.measures.inference import Interval
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


def listing(records: Sequence[Record]) -> Styler:
    """Show records as a table.

    Parameters
    ----------
    records : sequence of Record
        What was measured.

    Returns
    -------
    pandas.io.formats.style.Styler
        A row per record; claim and statistic stand in it where records differ in them.
    """
    import pandas as pd

    columns = ["model", "claim", "statistic", "value", "low", "high", "n", "null", "verdict"]
    table = pd.DataFrame([entry.model_dump() for entry in records])[columns]
    same = [name for name in ("claim", "statistic") if len(set(table[name])) == 1]
    table = table.drop(columns=same)
    return table.style.hide(axis="index").format(precision=3)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(entry: Record, *, pages: Mapping[str, str]) -> str:
    word = f'<span class="verdict {entry.verdict}">{SYMBOLS[entry.verdict]} {entry.verdict}</span>'
    if entry.notebook in pages:
        word += f" ([page]({pages[entry.notebook]}))"
    detail = "" if entry.statistic == CLAIMS[entry.claim].statistic else f"{entry.statistic}: "
    return f"{word}<br><small>{detail}{entry.interval}</small>"
