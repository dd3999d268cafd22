"""The front page's table of claims: a symbol per reading and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ima.claims.families import adjust_verdicts
from ima.claims.not_measurable import UnmeasurableClaim
from ima.claims.readings import Verdict, get_style_class
from ima.claims.records import ClaimRecord
from ima.claims.registry import CLAIMS

VERDICT_SYMBOLS: Mapping[Verdict, str] = {
    "supported": "✓",
    "contradicted": "✗",
    "no effect within the margin": "≈",
    "inconclusive": "○",
    "not testable here": "∅",
}
_ORDER_NOTE = (
    "The first symbol is the verdict on the claim *as stated*, by the paper's own statistic. The "
    "second is the verdict *as tested*, by the sharpest test that the claim should survive; Holm's "
    "method adjusts it within a model."
)
_SETUP_NOTE = (
    "Below each model stand the blocks × the width of its language model. ST: a connector for each "
    "task. MT: one connector for all tasks. LM: a language model alone. A claim about a set of "
    "models is listed under the language model that they share."
)
_NOT_MEASURABLE_MARK = '<span class="verdict unmeasured" title="cannot be measured">–</span>'
_NOT_MEASURED_MARK = '<span class="verdict unmeasured">·</span>'


def format_claims_table(
    records: Sequence[ClaimRecord],
    *,
    pages: Mapping[str, str] | None = None,
    missing: Sequence[UnmeasurableClaim] = (),
    sizes: Mapping[str, str] | None = None,
) -> str:
    """Format the verdicts on all claims as MyST markdown: a table of symbols.

    Parameters
    ----------
    records : sequence of ClaimRecord
        The measured claims.
    pages : mapping of str to str or None
        Links to the pages of the book, by the path of the notebook.
    missing : sequence of UnmeasurableClaim
        The claims that pages could not measure.
    sizes : mapping of str to str or None
        Blocks × width of the language models, by the name of the model; it stands below the name.

    Returns
    -------
    str
        A table with a row per claim, a column per model and a linked symbol per reading, *as
        stated* before *as tested*; below it, what the symbols mean.

    Examples
    --------
    >>> print(format_claims_table([]).splitlines()[0])
    | Claim | any model |
    """
    links = pages or {}
    adjusted = adjust_verdicts(records)
    names = [record.model for record in records] + [each.model for each in missing]
    columns = list(dict.fromkeys(names)) or ["any model"]
    known = sizes or {}
    heads = [
        f"{name}<br><small>{known[name]}</small>" if name in known else name for name in columns
    ]
    lines = [_row(["Claim", *heads]), _row(["---", *[":-:"] * len(columns)])]
    unmeasurable = {(each.claim, each.model) for each in missing}
    for claim in CLAIMS.values():
        sentence = f'<small class="claim">{claim.sentence}</small>'
        cells = [f"**{claim.id}** {claim.name}<br>{sentence}"]
        for column in columns:
            own = _select(records, claim.id, column)
            marks = [_mark(record, get_shown_verdict(record, adjusted), links) for record in own]
            if not marks and (claim.id, column) in unmeasurable:
                marks = [_NOT_MEASURABLE_MARK]
            cells.append(" ".join(marks) or _NOT_MEASURED_MARK)
        lines.append(_row(cells))
    legend = [
        f'<span class="verdict {get_style_class(verdict)}">{symbol}</span> {verdict}'
        for verdict, symbol in VERDICT_SYMBOLS.items()
    ]
    if missing:
        legend.append(f"{_NOT_MEASURABLE_MARK} cannot be measured")
    legend.append(f"{_NOT_MEASURED_MARK} not measured")
    lines += ["", f"{', '.join(legend)}. Each symbol links to its page. {_ORDER_NOTE}", ""]
    lines += [_SETUP_NOTE, ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _select(records: Sequence[ClaimRecord], claim: str, model: str) -> list[ClaimRecord]:
    return [record for record in records if (record.claim, record.model) == (claim, model)]


AdjustedVerdicts = Mapping[tuple[str, str], Verdict]


def get_shown_verdict(record: ClaimRecord, adjusted: AdjustedVerdicts) -> Verdict:
    """Return the verdict that the book shows: adjusted if the reading is as tested.

    Examples
    --------
    >>> get_shown_verdict(record, adjust_verdicts([record]))  # doctest: +SKIP
    'supported'
    """
    if record.reading == "as tested":
        return adjusted[record.claim, record.model]
    return record.verdict


def _mark(record: ClaimRecord, verdict: Verdict, links: Mapping[str, str]) -> str:
    """Return the symbol of a verdict, with a label for screen readers and a tooltip."""
    label = f"{record.claim} {record.reading}: {verdict}"
    kind = get_style_class(verdict)
    symbol = (
        f'<span class="verdict {kind}" role="img" aria-label="{label}" title="{label}">'
        f"{VERDICT_SYMBOLS[verdict]}</span>"
    )
    return f"[{symbol}]({links[record.notebook]})" if record.notebook in links else symbol
