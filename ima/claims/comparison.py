"""The paper beside the book: each claim, what its two readings ask, and what was found."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from ima.claims.families import adjust_verdicts
from ima.claims.not_measurable import UnmeasurableClaim
from ima.claims.overview import VERDICT_SYMBOLS, AdjustedVerdicts, get_shown_verdict
from ima.claims.readings import Claim, Reading, get_style_class
from ima.claims.records import ClaimRecord
from ima.claims.registry import CLAIMS


def format_comparison(
    records: Sequence[ClaimRecord],
    *,
    pages: Mapping[str, str] | None = None,
    missing: Sequence[UnmeasurableClaim] = (),
) -> str:
    """Format every claim with its readings and verdicts as MyST markdown, a section each.

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
        By claim: the paper's claim, where it stands in the paper, what each reading asks and how a
        verdict follows, and the verdict on each model with its numbers.

    Examples
    --------
    >>> format_comparison([]).splitlines()[0]
    '## F1.1 Narrow cones'
    """
    adjusted = adjust_verdicts(records)
    links = pages or {}
    return "\n".join(
        line
        for claim in CLAIMS.values()
        for line in _format_claim(claim, records, links, missing, adjusted)
    )


def describe_change(reading: Reading) -> str:
    """Say which interval would contradict a reading, and which would show that there is no effect.

    Examples
    --------
    >>> describe_change(CLAIMS["F3.1"].as_stated)
    'below -0.02 would contradict it; one between -0.02 and 0.02 would show no effect that counts'
    """
    size, null = reading.margin.size, reading.null
    greater = reading.direction == "greater"
    side, end = ("below", null - size) if greater else ("above", null + size)
    contradicted = f"{side} {end:g} would contradict it"
    if not size:
        return contradicted
    return (
        f"{contradicted}; one between {null - size:g} and {null + size:g} would show no effect "
        "that counts"
    )


def _format_claim(
    claim: Claim,
    records: Sequence[ClaimRecord],
    links: Mapping[str, str],
    missing: Sequence[UnmeasurableClaim],
    adjusted: AdjustedVerdicts,
) -> list[str]:
    page = links.get(claim.notebook)
    where = f" [The page of this claim]({page})." if page else ""
    # A Greek letter keeps its case: α names the subnetwork.
    first = claim.name[0]
    name = (first.upper() if first.isascii() else first) + claim.name[1:]
    lines = [f"## {claim.id} {name}", "", f"> {claim.sentence}", ""]
    lines += [f"In the paper: {claim.as_stated.figure}.{where}", ""]
    for reading_name, reading in claim.readings.items():
        own = [
            record
            for record in records
            if (record.claim, record.reading) == (claim.id, reading_name)
        ]
        lines += [
            f"**{reading_name.capitalize()}.** {reading.sentence} Measured is the "
            f"{_lower(reading.statistic)}. An interval {reading.describe_rule()} supports it; one "
            f"{describe_change(reading)}.",
            "",
            *[_format_record(record, adjusted) for record in own],
            "",
        ]
    reasons = [each for each in missing if each.claim == claim.id]
    lines += [f"- {each.model}: not measurable. {html.escape(each.reason)}" for each in reasons]
    return [*lines, ""]


def _format_record(record: ClaimRecord, adjusted: AdjustedVerdicts) -> str:
    shown = get_shown_verdict(record, adjusted)
    mark = f'<span class="verdict {get_style_class(shown)}">{VERDICT_SYMBOLS[shown]} {shown}</span>'
    texts = [html.escape(text) for text in (record.finding, record.reason) if text]
    if record.interval is not None:
        texts.append(f"{record.interval} {record.unit}.")
    return f"- {record.model}: {mark}. {' '.join(texts)}"


def _lower(text: str) -> str:
    """Return a statistic as part of a sentence: symbols and names keep their capitals."""
    first, second = text[:1], text[1:2]
    return text if second.isupper() else first.lower() + text[1:]
