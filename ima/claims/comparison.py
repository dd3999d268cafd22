"""The paper beside the book: each claim, what its two readings ask, and what was found."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from ima.claims.answers import VerdictFigures, format_answer
from ima.claims.families import adjust_verdicts
from ima.claims.not_measurable import UnmeasurableClaim
from ima.claims.overview import VERDICT_SYMBOLS, AdjustedVerdicts, get_shown_verdict
from ima.claims.readings import Claim, Reading, capitalise, get_style_class
from ima.claims.records import ClaimRecord
from ima.claims.registry import CLAIMS


def format_comparison(
    records: Sequence[ClaimRecord],
    *,
    pages: Mapping[str, str] | None = None,
    missing: Sequence[UnmeasurableClaim] = (),
    figures: VerdictFigures | None = None,
    start: Path = Path(),
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
    figures : mapping or None
        From :func:`ima.claims.answers.draw_verdict_figures`.
    start : Path
        The folder of the page, from which its links to figures lead.

    Returns
    -------
    str
        By claim: the outcome with its figures, where it stands in the paper, what each reading asks
        and how a verdict follows, what other papers say, and, to be opened, the verdict on each
        model with its numbers.

    Examples
    --------
    >>> format_comparison([]).splitlines()[0]
    '## F1.1 Narrow cones'
    """
    adjusted = adjust_verdicts(records)
    links = pages or {}
    sections = []
    for claim in CLAIMS.values():
        answer = format_answer(claim, records, figures=figures or {}, start=start, named=False)
        details = _format_details(claim, records, missing, adjusted)
        sections.append(
            "\n".join(
                [
                    f"## {claim.id} {capitalise(claim.name)}\n",
                    answer,
                    *_format_readings(claim, links.get(claim.notebook)),
                    *details,
                ]
            )
        )
    return "\n".join(sections)


def describe_change(reading: Reading) -> str:
    """Say which interval contradicts a reading, and which shows that there is no effect.

    Examples
    --------
    >>> describe_change(CLAIMS["F3.1"].as_stated)
    'below -0.02 contradicts it, and one in between shows no effect that counts'
    """
    size, null = reading.margin.size, reading.null
    greater = reading.direction == "greater"
    side, end = ("below", null - size) if greater else ("above", null + size)
    contradicted = f"{side} {end:g} contradicts it"
    return (
        f"{contradicted}, and one in between shows no effect that counts" if size else contradicted
    )


def _format_readings(claim: Claim, page: str | None) -> list[str]:
    """Return what the readings ask, what would change them, and what other papers say."""
    where = f" [The page of this claim]({page})." if page else ""
    lines = [f"In the paper: {claim.as_stated.figure}.{where}", ""]
    for name, reading in claim.readings.items():
        lines += [
            f"**{capitalise(name)}.** {reading.sentence} An interval {reading.describe_rule()} "
            f"supports it, {'' if reading.margin.size else 'and '}one {describe_change(reading)}.",
            "",
        ]
    return [*lines, f"**Other work.** {claim.other_work}", ""] if claim.other_work else lines


def _format_details(
    claim: Claim,
    records: Sequence[ClaimRecord],
    missing: Sequence[UnmeasurableClaim],
    adjusted: AdjustedVerdicts,
) -> list[str]:
    """Return the numbers of each model, to be opened."""
    lines = []
    for name, reading in claim.readings.items():
        own = [one for one in records if (one.claim, one.reading) == (claim.id, name)]
        if own:
            lines += [f"**{capitalise(name)}**: {_lower(reading.statistic)}.", ""]
            lines += [*[_format_record(record, adjusted) for record in own], ""]
    lines += [
        f"- {each.model}: not measurable. {html.escape(each.reason)}"
        for each in missing
        if each.claim == claim.id
    ]
    if not lines:
        return []
    return [":::{dropdown} The numbers of each model", *lines, ":::", ""]


def _format_record(record: ClaimRecord, adjusted: AdjustedVerdicts) -> str:
    shown = get_shown_verdict(record, adjusted)
    mark = f'<span class="verdict {get_style_class(shown)}">{VERDICT_SYMBOLS[shown]} {shown}</span>'
    texts = [html.escape(text) for text in (record.finding, record.reason) if text]
    if shown != record.verdict:
        texts.append(f"Before Holm's method: {record.verdict}.")
    if record.interval is not None:
        texts.append(f"{record.interval} {record.unit}.")
    if record.spread is not None:
        texts.append(html.escape(record.spread.describe()))
    return f"- {record.model}: {mark}. {' '.join(texts)}"


def _lower(text: str) -> str:
    """Return a statistic as part of a sentence: symbols and names keep their capitals."""
    word = text.split(maxsplit=1)[0].strip("()")
    return text if word[1:].lower() != word[1:] else text[0].lower() + text[1:]
