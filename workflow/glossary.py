"""A Sphinx extension: pages link the first mention of each term, and show what it means there."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from docutils import nodes

GLOSSARY = "book/glossary"
# Words of the glossary that also have their everyday meaning are linked by hand only.
_EVERYDAY = {"cache", "content", "edition", "encoder", "margin", "mask", "null", "reading"}
# Code, math, roles, links, tags, headings, quotations, tables and directives are not prose.
_NOT_PROSE = re.compile(
    r"^(?:`{3,}|~{3,}).*?^(?:`{3,}|~{3,})"
    r"|\$\$.*?\$\$|\$[^$\n]*\$"
    r"|\{[\w:-]+\}`[^`]*`|`[^`]*`"
    r"|!?\[[^\]]*\]\([^)]*\)|https?://\S+|<[^>\n]*>"
    r"|^(?:\#|>|\||:::|:[\w-]+:|\(\w[^\n]*\)=)[^\n]*$",
    flags=re.DOTALL | re.MULTILINE,
)


def read_terms(text: str) -> list[str]:
    """Return the terms of the glossary's source: the lines of its directive without indentation."""
    _, _, inside = text.partition("```{glossary}\n")
    return re.findall(r"^(\w[^\n]*)$", inside.partition("\n```")[0], flags=re.MULTILINE)


def link_terms(text: str, terms: Iterable[str], *, linked: set[str]) -> str:
    """Link the first mention of each term in the prose of a page.

    Terms that are ``linked`` already stay as they are; those that are found are added to it.
    """
    pieces, last = [], 0
    wanted = sorted(set(terms) - _EVERYDAY, key=len, reverse=True)
    for protected in [*_NOT_PROSE.finditer(text), None]:
        end = len(text) if protected is None else protected.start()
        pieces.append(_link_piece(text[last:end], wanted, linked))
        if protected is not None:
            pieces.append(protected[0])
            last = protected.end()
    return "".join(pieces)


def _link_piece(text: str, terms: Collection[str], linked: set[str]) -> str:
    open_terms = [term for term in terms if term not in linked]
    if not open_terms or not text:
        return text
    words = "|".join(re.escape(term).replace(r"\ ", r"\s+") for term in open_terms)
    pattern = re.compile(rf"(?<![\w-])(?:{words})s?(?![\w-])", flags=re.IGNORECASE)
    names = {term.lower(): term for term in open_terms}

    def link(match: re.Match[str]) -> str:
        shown = " ".join(match[0].split())
        term = names.get(shown.lower()) or names.get(shown.lower().removesuffix("s"))
        if term is None or term in linked:
            return match[0]
        linked.add(term)
        return f"{{term}}`{shown} <{term}>`"

    return pattern.sub(link, text)


def link_page(app: Any, name: str, source: list[str]) -> None:
    """Link the terms of a page; the glossary and the pages made from docstrings are left alone."""
    if name == GLOSSARY or "_generated" in name:
        return
    if not hasattr(app, "ima_glossary"):
        path = Path(app.srcdir) / f"{GLOSSARY}.md"
        app.ima_glossary = read_terms(path.read_text(encoding="utf-8"))
    linked: set[str] = set()
    if not str(app.env.doc2path(name)).endswith(".ipynb"):
        source[0] = link_terms(source[0], app.ima_glossary, linked=linked)
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = link_terms("".join(cell["source"]), app.ima_glossary, linked=linked)
    source[0] = json.dumps(notebook)


def explain_terms(app: Any, tree: Any, _name: str) -> None:
    """Show the definition of a term of the glossary where a page links to it."""
    links = [
        reference
        for reference in tree.findall(nodes.reference)
        if any("std-term" in inline["classes"] for inline in reference.findall(nodes.inline))
    ]
    if not links:
        return
    if not hasattr(app, "ima_meanings"):
        app.ima_meanings = {
            anchor: " ".join(part.astext() for part in item.findall(nodes.definition))
            for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item)
            for term in item.findall(nodes.term)
            for anchor in term["ids"]
        }
    for reference in links:
        anchor = reference.get("refid") or reference["refuri"].partition("#")[2]
        reference["reftitle"] = app.ima_meanings[anchor]


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.connect("source-read", link_page)
    app.connect("doctree-resolved", explain_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
