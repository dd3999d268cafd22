"""A Sphinx extension: the page *Explore* gets its scripts and its data, and no other page does.

Its notebook writes small stores of the book's caches. After a build they are copied into the site,
where the page's scripts open them, and the page is weighed with all that it loads.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ima.files import replace_folder

PAGE = "book/runs/explore"
#: Where the site holds the data; the element of the page's scripts names it too.
DATA = Path("_static/explorer/data")
STYLES = ("vendor/uPlot.min.css", "explorer/explorer.css")
SCRIPTS = (
    "vendor/uPlot.iife.min.js",
    "vendor/zarrita.min.js",
    "explorer/zarr-store.js",
    "explorer/measures.js",
    "explorer/explorer.js",
)
#: Bytes of the page with all that it can load.
LARGEST = 15_000_000
_ADDRESS = re.compile(r'\b(?:src|href)="([^"]+)"')
# Pages, and what a reader downloads on a click.
_NOT_LOADED = ("html", "ipynb", "csv", "zip", "json", "bib")


def add_scripts(app: Any, name: str, _template: str, _context: dict[str, Any], _tree: Any) -> None:
    """Load styles and scripts on the page alone."""
    if name == PAGE:
        for style in STYLES:
            app.add_css_file(style)
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def copy_data(notebook: Path, site: Path) -> None:
    """Copy what an executed notebook wrote for browsers into the site.

    Raises
    ------
    SystemExit
        If it is gone.
    """
    parameters = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["ima"]["parameters"]
    source = Path(parameters["out"])
    if not (source / "index.json").is_file():
        message = (
            f"{notebook} wrote {source}, which is gone. Run its page again: make book "
            'ARGS="--forcerun run_explore"'
        )
        raise SystemExit(message)
    with replace_folder(site / DATA) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)


def weigh_page(site: Path, *, page: str = PAGE) -> dict[str, int]:
    """Return the bytes of a page, of what it loads from the site, and of its data."""
    path = site / f"{page}.html"
    text = path.read_text(encoding="utf-8")
    files = {path}
    for address in _ADDRESS.findall(text):
        url = urlsplit(address)
        target = (path.parent / unquote(url.path)).resolve()
        if not url.netloc and target.is_file() and target.suffix[1:] not in _NOT_LOADED:
            files.add(target)
    data = [each for each in (site / DATA).rglob("*") if each.is_file()]
    return {
        "page": sum(each.stat().st_size for each in files),
        "data": sum(each.stat().st_size for each in data),
    }


def finish_page(app: Any, error: Exception | None) -> None:
    """Copy the data after a build that went well, and refuse a page that is too heavy."""
    if error is not None or app.builder.format != "html" or PAGE not in app.env.found_docs:
        return
    site = Path(app.outdir)
    copy_data(Path(app.env.doc2path(PAGE)), site)
    weight = weigh_page(site)
    if sum(weight.values()) > LARGEST:
        message = (
            f"{PAGE} weighs {sum(weight.values()):,} bytes ({weight}); at most {LARGEST:,} are "
            "allowed. Lower its parameter shown in workflow/config.yaml, or name fewer caches."
        )
        raise SystemExit(message)


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", finish_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
