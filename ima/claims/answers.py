"""The answer to each claim, as pages open with it: what was found, and the intervals beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ima.claims.families import adjust_verdicts
from ima.claims.overview import AdjustedVerdicts, get_shown_verdict
from ima.claims.readings import Claim, ReadingName, Verdict, capitalise
from ima.claims.records import ClaimRecord
from ima.claims.registry import CLAIMS
from ima.claims.summary import OUTCOME_WORDS, count_verdicts, decide_outcome
from ima.files import replace_file

if TYPE_CHECKING:
    import pandas as pd

#: By claim and reading, the figure with its intervals.
VerdictFigures = Mapping[tuple[str, ReadingName], Path]
_TICKS = (
    "Where other training seeds were measured, the interval covers them, and upright ticks show "
    "the lowest and the highest seed."
)


def draw_verdict_figures(records: Sequence[ClaimRecord], *, folder: Path) -> VerdictFigures:
    """Draw the intervals of every measured reading, a row per model, against null and margin.

    Parameters
    ----------
    records : sequence of ClaimRecord
        The measured claims. Verdicts as tested are adjusted by Holm's method within a model.
    folder : Path
        Where the SVG files go; those of an earlier call are removed.

    Returns
    -------
    mapping
        The file of each reading that has an interval.

    Examples
    --------
    >>> draw_verdict_figures([], folder=Path("verdicts"))
    {}
    """
    from ima.figures.style import set_theme
    from ima.figures.verdicts import plot_verdicts

    set_theme()
    adjusted = adjust_verdicts(records)
    for stale in find_verdict_figures(folder).values():
        stale.unlink()
    drawn: dict[tuple[str, ReadingName], Path] = {}
    for claim in CLAIMS.values():
        for name, reading in claim.readings.items():
            table = _tabulate(records, claim, name, adjusted)
            if not table["value"].notna().any():
                continue
            path = _get_figure_path(folder, claim, name)
            figure = plot_verdicts(
                table,
                null=reading.null,
                margin=reading.margin.size,
                direction=reading.direction,
                title=f"{claim.id} {name}",
            )
            with replace_file(path) as partial:
                figure.savefig(partial, format="svg", metadata={"Date": None}, pad_inches=0.05)
            drawn[claim.id, name] = path
    return drawn


def find_verdict_figures(folder: Path) -> VerdictFigures:
    """Return the figures that :func:`draw_verdict_figures` wrote into a folder.

    Examples
    --------
    >>> find_verdict_figures(Path("nowhere"))
    {}
    """
    return {
        (claim.id, name): path
        for claim in CLAIMS.values()
        for name in claim.readings
        if (path := _get_figure_path(folder, claim, name)).is_file()
    }


def _get_figure_path(folder: Path, claim: Claim, name: ReadingName) -> Path:
    return folder / f"{claim.id}-{name.replace(' ', '-')}.svg"


def format_answer(
    claim: Claim,
    records: Sequence[ClaimRecord],
    *,
    figures: VerdictFigures,
    start: Path,
    named: bool = True,
) -> str:
    """Format the answer to a claim as MyST markdown: a box in words, then a figure per reading.

    Parameters
    ----------
    claim : Claim
        The claim.
    records : sequence of ClaimRecord
        All measured claims; those of this claim are shown.
    figures : mapping
        From :func:`draw_verdict_figures`.
    start : Path
        The folder of the page, from which its links to figures lead.
    named : bool
        Begin with the id and the name of the claim, which a heading may have said.

    Returns
    -------
    str
        The claim's sentence, its outcome over models, how many models say so in each reading, and
        the figures side by side.

    Examples
    --------
    >>> text = format_answer(CLAIMS["F1.1"], [], figures={}, start=Path())
    >>> text.splitlines()[2]
    '**F1.1 Narrow cones: not measured in this edition.**'
    """
    adjusted = adjust_verdicts(records)
    own = [record for record in records if record.claim == claim.id]
    verdicts: dict[ReadingName, list[Verdict]] = {
        name: [get_shown_verdict(record, adjusted) for record in own if record.reading == name]
        for name in claim.readings
    }
    outcome = decide_outcome(verdicts["as tested"]) if verdicts["as tested"] else None
    words = OUTCOME_WORDS[outcome] if outcome else "not measured in this edition"
    title = f"{claim.id} {capitalise(claim.name)}: {words}" if named else capitalise(words)
    counts = [
        f"{capitalise(name)}: {count_verdicts(verdicts[name])}."
        for name in ("as tested", "as stated")
        if verdicts[name]
    ]
    style = outcome.split()[0] if outcome else "unmeasured"
    lines = [f":::{{div}} answer-box answer-{style}", "", f"**{title}.**", "", claim.sentence, ""]
    lines += [" ".join(counts), ":::", ""]
    shown = [name for name in claim.readings if (claim.id, name) in figures]
    if shown:
        if any(record.spread for record in own):
            lines += [_TICKS, ""]
        lines += ["::::{div} verdict-figures", ""]
        for name in shown:
            path = os.path.relpath(figures[claim.id, name], start=start)
            lines += [*format_image(path, alt=_describe(claim, name, own)), ""]
        lines += ["::::", ""]
    return "\n".join(lines)


def format_image(path: str, *, alt: str, style: str = "") -> list[str]:
    """Format an image as lines of MyST markdown; its description may hold any character.

    Parameters
    ----------
    path : str
        From the page to the file.
    alt : str
        What the image shows, in words.
    style : str
        Its class in the style sheet; empty for none.

    Examples
    --------
    >>> format_image("a.svg", alt="A line: it rises.")
    [':::{image} a.svg', ':alt: "A line: it rises."', ':::']
    """
    quoted = json.dumps(" ".join(alt.split()), ensure_ascii=False)
    classes = [f":class: {style}"] if style else []
    return [f":::{{image}} {path}", f":alt: {quoted}", *classes, ":::"]


def _tabulate(
    records: Sequence[ClaimRecord], claim: Claim, name: ReadingName, adjusted: AdjustedVerdicts
) -> pd.DataFrame:
    """Return the intervals and shown verdicts of a reading, a row per model."""
    import pandas as pd

    rows = {
        record.model: {
            "value": record.value,
            "low": record.low,
            "high": record.high,
            "verdict": get_shown_verdict(record, adjusted),
            "lowest": record.spread.lowest if record.spread else None,
            "highest": record.spread.highest if record.spread else None,
        }
        for record in records
        if (record.claim, record.reading) == (claim.id, name)
    }
    columns = ["value", "low", "high", "verdict", "lowest", "highest"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _describe(claim: Claim, name: ReadingName, records: Sequence[ClaimRecord]) -> str:
    """Return the numbers of a figure in words, for those who cannot see it."""
    numbers = [
        f"{record.model} {record.interval}"
        + (
            f", seeds from {record.spread.lowest:.3f} to {record.spread.highest:.3f}"
            if record.spread
            else ""
        )
        for record in records
        if record.reading == name and record.interval is not None
    ]
    rule = f"supported if {claim.readings[name].describe_rule()}"
    return f"{claim.id} {name}, intervals by model, {rule}. {'; '.join(numbers)}."
