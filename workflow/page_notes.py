"""A Sphinx extension: each page opens with its answers, and says where its figures come from.

Pages that are executed notebooks get, when they are read, the answer to each claim in place of the
claim, links to the numbers and the vector file of each figure, and a last section on the run. All
pages get a footer. The notebooks on disk stay as they are; those that the site offers also say what
they need to run.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from headlines import list_titles
from launch import choose_theme_options, make_download, read_repository

from ima.claims.answers import find_verdict_figures, format_answer, format_image
from ima.claims.records import ClaimRecord
from ima.claims.registry import CLAIMS
from ima.figures.figure_data import CSV
from ima.figures.phone import NARROW_SVG
from ima.notebook.runner import get_commit

#: The pages, and what is written beside the book's sources, relative to the book's root.
RUNS, GENERATED = "book/runs", Path("book/_generated")
#: The page whose figure the front page shows.
FRONT_PAGE = "glance"
#: The size of the edition that is built: small, standard or full; `make book` sets it.
EDITION_VARIABLE = "IMA_EDITION"
_SVG = "image/svg+xml"
# Classes of the style sheet: which drawing of a figure a screen shows, and what scrolls on a phone.
WIDE, NARROW, SCROLLED = "wide-figure", "narrow-figure", "scrolled-figure"
# The claims of a page, each as a quotation in its first lines.
_CLAIM = re.compile(r"^> \*\*([FI][\d.]+)\*\* \{glue:text\}`\w+`(?:\n|\Z)(?:>\n)?", re.MULTILINE)
_DIGITS = 10


class Book(NamedTuple):
    """What a page says of the book that it belongs to: from ``_config.yml`` and ``make book``."""

    title: str
    author: str
    edition: str


class FigureFile(NamedTuple):
    """A figure of a page: its name, its numbers as CSV, and its drawings.

    Numbers are empty for pictures, and the narrow drawing is empty where there is none.
    """

    name: str
    alt: str
    numbers: str
    drawing: str
    narrow: str


def list_figures(notebook: Mapping[str, Any]) -> list[FigureFile]:
    """Return the figures of an executed notebook; one without a name is called by its number."""
    return [figure for _, own in _read_figures(notebook["cells"]) for figure in own]


def _read_figures(
    cells: Iterable[dict[str, Any]],
) -> Iterator[tuple[dict[str, Any], list[FigureFile]]]:
    """Yield each cell with its figures."""
    count = 0
    for cell in cells:
        settings = cell["metadata"].get("mystnb", {})
        figures = []
        for output in cell.get("outputs", []) if "figure" in settings else []:
            data = output.get("data", {})
            if _SVG in data:
                count += 1
                name = settings["figure"].get("name", f"figure-{count}")
                texts = ["".join(data.get(mime_type, "")) for mime_type in (CSV, _SVG, NARROW_SVG)]
                figures.append(FigureFile(name, settings.get("image", {}).get("alt", ""), *texts))
        yield cell, figures


def write_figure_files(pages: Mapping[str, Mapping[str, Any]], *, folder: Path) -> None:
    """Write numbers and narrow drawings of every figure, and an archive of all numbers.

    They are ``PAGE/FIGURE.csv`` and ``PAGE/FIGURE.svg``, below the folder and in the archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "figures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for page, notebook in sorted(pages.items()):
            for figure in list_figures(notebook):
                stem = folder / page / figure.name
                stem.parent.mkdir(exist_ok=True)
                if figure.narrow:
                    stem.with_suffix(".svg").write_text(figure.narrow, encoding="utf-8")
                if figure.numbers:
                    stem.with_suffix(".csv").write_text(figure.numbers, encoding="utf-8")
                    # A fixed date: the same numbers are the same bytes.
                    entry = zipfile.ZipInfo(f"{page}/{figure.name}.csv")
                    archive.writestr(entry, figure.numbers, zipfile.ZIP_DEFLATED)


def write_front_picture(notebook: Mapping[str, Any], *, folder: Path) -> None:
    """Write both drawings of the picture that the front page shows."""
    (figure,) = list_figures(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "glance-wide.svg").write_text(figure.drawing, encoding="utf-8")
    (folder / "glance-narrow.svg").write_text(figure.narrow, encoding="utf-8")


def annotate(
    notebook: Mapping[str, Any],
    *,
    page: str,
    records: Iterable[ClaimRecord],
    figures: Mapping[Any, Path],
    book: Book,
    start: Path = Path(RUNS),
) -> dict[str, Any]:
    """Return a notebook with the answers to its claims, notes below figures, and how it was run.

    Links to the ``figures`` of verdicts lead from the folder ``start``.
    """
    annotated = copy.deepcopy(dict(notebook))
    measured = list(records)
    cells: list[dict[str, Any]] = []
    for cell, shown in list(_read_figures(annotated["cells"])):
        if cell["cell_type"] == "markdown":
            cell["source"] = _add_answers("".join(cell["source"]), measured, figures, start)
        cells.append(cell)
        for output in cell.get("outputs", []):
            # The site shows none of these by itself.
            for mime_type in (CSV, NARROW_SVG):
                output.get("data", {}).pop(mime_type, None)
        for figure in shown:
            classes = WIDE if figure.narrow else SCROLLED
            cell["metadata"]["mystnb"].setdefault("image", {})["classes"] = classes
            cells.append(_make_cell(_format_figure_note(figure, page=page), f"note-{len(cells)}"))
    cells.append(_make_cell(_format_run(annotated, page=page, book=book), "run"))
    annotated["cells"] = cells
    return annotated


def _make_cell(text: str, name: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": f"page-{name}", "metadata": {}, "source": text}


def _add_answers(
    text: str, records: list[ClaimRecord], figures: Mapping[Any, Path], start: Path
) -> str:
    """Put the answer in the place of each claim that a page quotes at its top."""
    return _CLAIM.sub(
        lambda match: format_answer(CLAIMS[match[1]], records, figures=figures, start=start),
        text,
    )


def _format_figure_note(figure: FigureFile, *, page: str) -> str:
    """Return the line below a figure: its numbers, its vector file, and the caches behind it."""
    files = f"../_generated/figures/{page}/{figure.name}"
    # Sphinx names a picture by the digest of its bytes.
    drawing = os.linesep.join(figure.drawing.splitlines()).encode()
    address = f"../../_images/{hashlib.sha256(drawing).hexdigest()}.svg"
    links = [
        f'<a href="{address}" download="{figure.name}.svg">Vector file (SVG)</a>',
        f"{{ref}}`Caches and run <run-{page}>`",
    ]
    if figure.numbers:
        rows = sum(1 for _ in csv.reader(io.StringIO(figure.numbers))) - 1
        links.insert(0, f"{{download}}`Data of this figure (CSV, {rows} rows) <{files}.csv>`")
    lines = ["::::{div} figure-note", " · ".join(links), ""]
    if figure.narrow:
        lines += format_image(f"{files}.svg", alt=figure.alt, style=NARROW)
    return "\n".join([*lines, "::::"])


def _format_run(notebook: Mapping[str, Any], *, page: str, book: Book) -> str:
    """Return the section at the end of a page: when and from what it was made, how to cite it."""
    metadata = notebook["metadata"]
    run, own = metadata.get("papermill", {}), metadata.get("ima", {})
    title = list_titles(notebook)[0]
    started = str(run.get("start_time") or "")[:10]
    day = datetime.fromisoformat(started).strftime("%-d %B %Y") if started else "an unknown day"
    commit, packages = own.get("commit") or "unknown", own.get("packages", {})
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    seconds = f"{run['duration']:.0f} s" if run.get("duration") else "an unknown time"
    source = own.get("source", f"notebooks/{page}.md")
    lines = [
        f"(run-{page})=",
        "## How this page was made",
        "",
        f"`{source}` ran on {day} in {seconds}, at commit `{commit}`, for the {book.edition} "
        f'edition. <a href="../../_sources/{RUNS}/{page}.ipynb" download>The executed notebook</a> '
        "holds all its code, parameters and outputs. It runs in Jupyter: its first cell is the one "
        "line for pip. In a clone of the repository, after `make book`, this runs the page again:",
        "",
        "```sh",
        f"ima notebook run {source} {page}.ipynb",
        "```",
        "",
    ]
    caches = own.get("caches") or []
    if caches:
        lines += [
            f":::{{dropdown}} The {len(caches)} caches that it read",
            "| cache | samples | digest |",
            "|---|---|---|",
            *[
                f"| `{Path(each['path']).name}` | {each['samples']} | "
                f"`{str(each['sha256'] or 'none')[:_DIGITS]}` |"
                for each in caches
            ],
            ":::",
            "",
        ]
    lines += [
        ":::{dropdown} Cite this page",
        f"{book.author}. *{title}*. In: {book.title}. {book.edition.capitalize()} edition, "
        f"commit `{commit}`, {day}. {{doc}}`More formats <../downloads>`.",
        ":::",
        "",
        f"Python {own.get('python', 'of unknown version')}, {versions}." if versions else "",
    ]
    return "\n".join(lines)


def _get_edition() -> str:
    return os.environ.get(EDITION_VARIABLE) or "unnamed"


def _describe_book(config: Any) -> Book:
    return Book(title=config.html_title, author=config.author, edition=_get_edition())


def choose_buttons(app: Any, config: Any) -> None:
    """Offer Binder and Colab where an address of the repository is configured."""
    options = config.html_theme_options
    app.ima_address = read_repository(options.get("repository_url"))
    config.html_theme_options = choose_theme_options(options, address=app.ima_address)


def write_downloads(app: Any, error: Exception | None) -> None:
    """Put notebooks that readers can run where the pages offer their own."""
    if error is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_sources" / RUNS
    for page, notebook in app.ima_pages.items():
        made = make_download(notebook, page=page, address=app.ima_address, edition=_get_edition())
        text = json.dumps(made, ensure_ascii=False, indent=1) + "\n"
        (folder / f"{page}.ipynb").write_text(text, encoding="utf-8")


def read_pages(app: Any, env: Any, _names: list[str]) -> None:
    """Read the executed notebooks of the book, and write the numbers of their figures."""
    root = Path(app.srcdir)
    app.ima_pages = {
        Path(name).name: json.loads(Path(env.doc2path(name)).read_text(encoding="utf-8"))
        for name in env.found_docs
        if name.startswith(f"{RUNS}/")
    }
    write_figure_files(app.ima_pages, folder=root / GENERATED / "figures")
    if FRONT_PAGE in app.ima_pages:
        write_front_picture(app.ima_pages[FRONT_PAGE], folder=root / GENERATED)
    claims = root / GENERATED / "claims.json"
    entries = json.loads(claims.read_text(encoding="utf-8")) if claims.is_file() else []
    app.ima_records = [ClaimRecord.model_validate(entry) for entry in entries]
    app.ima_figures = find_verdict_figures(root / GENERATED / "verdicts")


def annotate_page(app: Any, name: str, source: list[str]) -> None:
    """Add to a page that is an executed notebook what it says of itself."""
    folder, _, page = name.rpartition("/")
    if folder == RUNS:
        notebook = annotate(
            app.ima_pages[page],
            page=page,
            records=app.ima_records,
            figures=app.ima_figures,
            book=_describe_book(app.config),
            start=Path(app.srcdir) / RUNS,
        )
        source[0] = json.dumps(notebook)


def place_narrow_figures(_app: Any, tree: Any, _name: str) -> None:
    """Move the narrow drawing of each figure to the wide one, above the caption."""
    wide: Any = None
    for image in list(tree.findall(nodes.image)):
        if WIDE in image["classes"]:
            wide = image
        elif NARROW in image["classes"] and wide is not None:
            image.parent.remove(image)
            wide.parent.insert(wide.parent.index(wide) + 1, image)


def add_footer(app: Any, _name: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Say at the foot of every page which edition and commit it belongs to."""
    day = datetime.now().astimezone().strftime("%-d %B %Y")
    context["theme_extra_footer"] = (
        f"{_get_edition().capitalize()} edition, built on {day} from commit {app.ima_commit}. "
        "Apache License 2.0."
    )


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.ima_commit = get_commit(Path(app.srcdir)) or "unknown"
    app.connect("config-inited", choose_buttons)
    app.connect("env-before-read-docs", read_pages)
    app.connect("source-read", annotate_page)
    app.connect("doctree-resolved", place_narrow_figures)
    app.connect("html-page-context", add_footer)
    app.connect("build-finished", write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
