"""Collect what pages found for the front page: each page's number named ``headline``."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: A page keeps its headline with ``say(headline=...)``.
NAME = "headline"
_RECORD = "application/papermill.record/text/plain"


def list_titles(notebook: Mapping[str, Any]) -> list[str]:
    """Return the titles of a notebook: its headings of the first level, in order."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    lines = [line for cell in cells for line in "".join(cell["source"]).splitlines()]
    return [line[2:] for line in lines if line.startswith("# ")]


def read_headline(notebook: Path) -> tuple[str, str] | None:
    """Return the title and the headline of an executed notebook, if it has one."""
    executed = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in executed["cells"]:
        for output in cell.get("outputs", []):
            if output.get("metadata", {}).get("scrapbook", {}).get("name") == NAME:
                return list_titles(executed)[0], str(
                    ast.literal_eval("".join(output["data"][_RECORD]))
                )
    return None


def make_section(notebooks: Sequence[Path]) -> str:
    """Return the front page's section of headlines; empty if no page has one."""
    found = {path: read_headline(path) for path in notebooks}
    lines = [f"- [{own[0]}](runs/{path.name}): {own[1]}" for path, own in found.items() if own]
    return (
        "\n".join(
            [
                "One result to remember:" if len(lines) == 1 else "Results to remember:",
                "",
                *lines,
                "",
            ]
        )
        if lines
        else ""
    )


if __name__ == "__main__":
    target, *pages = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(make_section(pages), encoding="utf-8")
