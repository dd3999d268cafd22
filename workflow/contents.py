"""Add the pages of claims, and the page of a cache, to the book's table of contents."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from ima.claims.registry import list_claim_pages

TEMPLATE = Path(__file__).resolve().parent.parent / "book" / "_toc.yml"


def read_contents(
    template: Path = TEMPLATE, *, shown: str = "", without: Collection[str] = ()
) -> dict[str, Any]:
    """Return the table of contents as Jupyter Book takes it.

    The captions of parts choose the claims of the registry. A chapter of the template stands at the
    end of its part, or after the page of a claim that it names under ``after``, in the order of the
    template. Chapters that show the runs ``without`` are left out. The page of caching is that of
    the cache ``shown``.

    Raises
    ------
    SystemExit
        If a chapter names a page that no claim of its part has.
    """
    contents: dict[str, Any] = yaml.safe_load(template.read_text(encoding="utf-8"))
    for part in contents["parts"]:
        pages = list_claim_pages(part["caption"])
        chapters = [{"file": f"book/runs/{page}"} for page in pages]
        last = dict(zip(pages, chapters, strict=True))
        for chapter in part["chapters"]:
            if chapter["file"].removeprefix("book/runs/") in without:
                continue
            if shown and chapter["file"] == "book/runs/caching":
                chapter["file"] += f"-{shown}"
            page = chapter.pop("after", None)
            if page is not None and page not in pages:
                message = f"No claim of {part['caption']} has the page {page!r}: {template}"
                raise SystemExit(message)
            place = len(chapters)
            if page is not None:
                place = chapters.index(last[page]) + 1
                last[page] = chapter
            chapters.insert(place, chapter)
        part["chapters"] = chapters
    return contents


if __name__ == "__main__":
    path, shown, *left_out = sys.argv[1:]
    contents = read_contents(shown=shown, without=left_out)
    text = yaml.safe_dump(contents, sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")
