"""Print the built book as one PDF, with numbered chapters, contents and page numbers.

The pages become one document, whose links lead to its own chapters, and Chromium prints it. Figures
stay vectors. Code that a page hides, and what a page tells about its own files, is left out.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup
from bs4.element import Tag

SITE = Path("_build/html")
CONTENTS = Path("book/_generated/_toc.yml")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# The API and what only a screen can use.
_LEFT_OUT = ("book/api", "book/_generated/", "book/runs/caching-")
_SCREEN_ONLY = (
    "details.hide, #explorer, .figure-note, .headerlink, .copybtn, .narrow-figure, script, "
    ".prev-next-footer, .tag_hide-input > .cell_input, details.sd-dropdown, audio, video, button"
)
_MARGIN = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
_STYLE = """
html { font-size: 10pt; } body { background: #fff; color: #000; }
main { max-width: none; margin: 0; padding: 0; }
section.chapter, nav.contents { break-before: page; } h1 { font-size: 1.9rem; }
img { max-width: 100%; height: auto; } figure, table, .answer-box { break-inside: avoid; }
h2, h3 { break-after: avoid; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
nav.contents li { margin: 0.15rem 0; } table { font-size: 0.85em; width: auto; }
"""


def list_chapters(contents: Path) -> list[tuple[str, list[str]]]:
    """Return the parts of the book with their pages, in order; the first part has no name."""
    toc = yaml.safe_load(contents.read_text(encoding="utf-8"))
    parts = [("", [toc["root"]])]
    for part in toc["parts"]:
        pages = [chapter["file"] for chapter in part["chapters"]]
        parts.append((part["caption"], [page for page in pages if not page.startswith(_LEFT_OUT)]))
    return parts


def join_pages(site: Path, parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return one HTML document with all pages: numbered chapters after their contents.

    Parameters
    ----------
    site : Path
        The built site.
    parts : sequence
        Names of parts, and their pages relative to the site, without suffix.

    Raises
    ------
    SystemExit
        If a page was not built.
    """
    pages = [page for _, own in parts for page in own]
    numbers = {page: number for number, page in enumerate(pages)}
    heads, chapters, titles = "", [], {}
    for page in pages:
        path = site / f"{page}.html"
        if not path.is_file():
            message = f"No page {path}: the book is not built. Build it first: make book"
            raise SystemExit(message)
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        if not heads:
            heads = "".join(str(tag) for tag in _list_heads(soup, path.parent, site))
        article = soup.find("article")
        chapter = _make_chapter(article, path=path, site=site, numbers=numbers)
        title = chapter.find("h1")
        if numbers[page]:
            title.insert(0, f"{numbers[page]}  ")
        titles[page] = title.get_text().strip()
        chapters.append(f'<section class="chapter" id="{_anchor(page)}">{chapter}</section>')
    contents = "".join(_format_part(name, own, titles) for name, own in parts if name)
    return (
        f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">{heads}'
        f"<style>{_STYLE}</style></head><body><main>{chapters[0]}"
        f'<nav class="contents"><h1>Contents</h1>{contents}</nav>'
        f"{''.join(chapters[1:])}</main></body></html>"
    )


def _list_heads(soup: BeautifulSoup, folder: Path, site: Path) -> Iterator[Tag]:
    """Yield style sheets and the scripts of formulas, with addresses from the site's root."""
    for tag in soup.select('link[rel="stylesheet"], script[src*="mathjax"]'):
        name = "href" if tag.name == "link" else "src"
        tag[name] = _resolve(tag[name], folder, site)
        yield tag
    yield from (tag for tag in soup.find_all("script") if "MathJax" in (tag.string or ""))


def _make_chapter(article: Tag, *, path: Path, site: Path, numbers: dict[str, int]) -> Tag:
    page = path.relative_to(site).with_suffix("").as_posix()
    for tag in article.select(_SCREEN_ONLY):
        tag.decompose()
    for heading in article.find_all("h2"):
        if heading.get_text().startswith("How this page was made"):
            heading.find_parent("section").decompose()
    for tag in article.find_all(id=True):
        tag["id"] = f"{_anchor(page)}--{tag['id']}"
    for image in article.find_all("img", src=True):
        image["src"] = _resolve(image["src"], path.parent, site)
        image.attrs.pop("loading", None)
    for link in article.find_all("a", href=True):
        link["href"] = _redirect(link["href"], path, site, numbers)
    return article


def _redirect(address: str, path: Path, site: Path, numbers: dict[str, int]) -> str:
    """Return where a link leads within the document; links elsewhere stay as they are."""
    url = urlsplit(address)
    if url.scheme or url.netloc:
        return address
    target = (path.parent / unquote(url.path)).resolve() if url.path else path.resolve()
    try:
        page = target.relative_to(site.resolve()).with_suffix("").as_posix()
    except ValueError:
        return "#"
    if page not in numbers:
        return "#"
    return f"#{_anchor(page)}--{url.fragment}" if url.fragment else f"#{_anchor(page)}"


def _resolve(address: str, folder: Path, site: Path) -> str:
    url = urlsplit(address)
    if url.scheme or url.netloc:
        return address
    return (folder / unquote(url.path)).resolve().relative_to(site.resolve()).as_posix()


def _anchor(page: str) -> str:
    return page.replace("/", "-")


def _format_part(name: str, pages: Sequence[str], titles: dict[str, str]) -> str:
    items = "".join(f'<li><a href="#{_anchor(page)}">{titles[page]}</a></li>' for page in pages)
    return f'<h2>{name}</h2><ul style="list-style: none">{items}</ul>'


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Yield the address at which a folder can be read by a browser of this machine."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def print_pdf(site: Path, document: str, *, out: Path) -> None:
    """Print a document that lies in the site's folder with Chromium.

    Raises
    ------
    SystemExit
        If there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser_path is None:
        message = (
            f"No browser found, looked for {', '.join(_BROWSERS)}. "
            "On Debian: apt-get install chromium"
        )
        raise SystemExit(message)
    joined = site / "_book.html"
    joined.write_text(document, encoding="utf-8")
    footer = (
        '<div style="font-size: 8px; width: 100%; text-align: center">'
        '<span class="pageNumber"></span></div>'
    )
    try:
        with serve(site) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page()
            page.goto(f"{address}/{joined.name}", wait_until="load", timeout=300_000)
            page.evaluate("window.MathJax?.startup?.promise")
            page.emulate_media(media="print")
            out.parent.mkdir(parents=True, exist_ok=True)
            page.pdf(
                path=str(out), format="A4", margin=_MARGIN, print_background=True, tagged=True,
                outline=True, display_header_footer=True, header_template="<span></span>",
                footer_template=footer,
            )  # fmt: skip
            browser.close()
    finally:
        joined.unlink(missing_ok=True)


def main() -> None:
    """Print the book."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, default=SITE)
    parser.add_argument("--out", type=Path, default=Path("_build/book.pdf"))
    given = parser.parse_args()
    print_pdf(given.site, join_pages(given.site, list_chapters(CONTENTS)), out=given.out)
    sys.stdout.write(f"{given.out}\n")


if __name__ == "__main__":
    main()
