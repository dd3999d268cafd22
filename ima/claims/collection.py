"""Gather the records of all runs into what the pages of the book include."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ima.claims.answers import draw_verdict_figures
from ima.claims.comparison import format_comparison
from ima.claims.not_measurable import read_unmeasurable_claims
from ima.claims.overview import format_claims_table
from ima.claims.records import ClaimRecord, collect_claim_records, read_claim_records
from ima.claims.summary import summarise_claims
from ima.files import replace_file

_RECORDS_ENDING, _PAGE_ENDING = ".claims.json", ".ipynb"


def write_claim_pages(
    files: Sequence[Path], *, out: Path, table: Path, sizes: Path | None = None
) -> list[ClaimRecord]:
    """Write all records, their table, what was found, each claim beside the paper, and figures.

    Parameters
    ----------
    files : sequence of Path
        The records of each run, ``PAGE.claims.json``; the page is ``PAGE.ipynb`` beside them.
    out : Path
        The file of all records.
    table : Path
        The table of the front page, one folder below the pages that include it. The other files
        stand beside it.
    sizes : Path or None
        JSON: the size of each model, shown below its name.

    Returns
    -------
    list of ClaimRecord
        In the order of the files.

    Raises
    ------
    ParameterError
        If a file cannot be read, or two records are of the same reading and model.

    Examples
    --------
    >>> write_claim_pages(
    ...     [Path("book/runs/finding1.claims.json")],
    ...     out=Path("claims.json"),
    ...     table=Path("book/_generated/claims.md"),
    ... )  # doctest: +SKIP
    """
    records = collect_claim_records(files, out=out)
    book = table.parent.parent
    pages = {
        record.notebook: os.path.relpath(
            path.with_name(path.name.replace(_RECORDS_ENDING, _PAGE_ENDING)), start=book
        )
        for path in files
        for record in read_claim_records(path)
    }
    missing = read_unmeasurable_claims(files)
    known = json.loads(sizes.read_text(encoding="utf-8")) if sizes else {}
    # Sphinx resolves what an included file names from the page that includes it.
    drawn = draw_verdict_figures(records, folder=table.with_name("verdicts"))
    texts = {
        table.name: format_claims_table(records, pages=pages, missing=missing, sizes=known),
        **summarise_claims(records, pages=pages),
        "beside.md": format_comparison(
            records, pages=pages, missing=missing, figures=drawn, start=book
        ),
        # The site offers the records for download.
        "claims.json": out.read_text(encoding="utf-8"),
    }
    for name, text in texts.items():
        with replace_file(table.with_name(name)) as partial:
            partial.write_text(text, encoding="utf-8")
    return records
