"""A Sphinx extension: pages load only what they use, and show at once only what one reads at once.

The theme loads all icons twice, as fonts and as a script, and every page loads the script of
formulas. A picture without a size moves the text below it when it arrives.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_IMPORT = '@import "../basic.css";'
_NAMELESS = '<summary><span class="toctree-toggle"'
_LABEL = "Show or hide the pages below"
_PIXELS_PER_POINT = 96 / 72
_SIDES = ("width", "height")
_ICON_SCRIPT = re.compile(r'\s*<script src="[^"]*fontawesome[^"]*\.js[^"]*"></script>')
_UNUSED_FONTS = re.compile(r'\s*<link rel="preload"[^>]*/fa-(?:brands|regular)-[^>]*/>')
_FORMULAS = re.compile(
    r"\s*<script>window\.MathJax = .*?</script>|\s*<script[^>]*mathjax[^>]*></script>"
)
_USES_FORMULAS = re.compile(r'class="[^"]*\b(?:math|text_latex)\b')
_TWO_SIZES = re.compile(r'class="[^"]*\b(?:wide|narrow)-figure\b')
_ICON_NAME = re.compile(r"\bfa-[a-z0-9-]+")
_ICON_RULE = re.compile(r'((?:\.fa-[a-z0-9-]+:{1,2}before,?)+)\{(?:content:"[^"]*"|--fa:"[^"]*")\}')
#: Rows of a table of results that a page shows at once.
LONGEST_TABLE = 12
# Of pandas, plain or styled.
_TABLE = re.compile(r'<table\b[^>]*(?:class="dataframe\b|id="T_)[^>]*>.*?</table>', re.DOTALL)
_IMAGE = re.compile(r"<img\b[^>]*>")


def lighten(text: str, *, folder: Path) -> str:
    """Return a page without what it does not use, and with the sizes of its drawings.

    Parameters
    ----------
    text : str
        The page's HTML.
    folder : Path
        The folder of the page, from which the addresses of its pictures lead.
    """
    text = _UNUSED_FONTS.sub("", _ICON_SCRIPT.sub("", text))
    # The class of the page itself says which of its parts to skip.
    if not _USES_FORMULAS.search(text):
        text = _FORMULAS.sub("", text)
    # The script of icons gave this button a name.
    text = text.replace(_NAMELESS, _NAMELESS.replace("<summary", f'<summary aria-label="{_LABEL}"'))
    return _IMAGE.sub(lambda match: _size_image(match[0], folder), text)


def fold_long_tables(text: str) -> str:
    """Return a page whose long tables of results open on a click."""
    return _TABLE.sub(_fold_table, text)


def _fold_table(match: re.Match[str]) -> str:
    table = match[0]
    rows = len(re.findall(r"<tr\b", table)) - 1
    if rows <= LONGEST_TABLE:
        return table
    summary = f"Table of {rows} rows"
    return f'<details class="long-table"><summary>{summary}</summary>{table}</details>'


def _size_image(tag: str, folder: Path) -> str:
    source = re.search(r'src="([^"]*\.svg)"', tag)
    if source is None or re.search(r"\s(?:width|height|style)=", tag):
        return tag
    size = read_svg_size(folder / unquote(source[1]))
    if size is None:
        return tag
    # Of a drawing for wide and one for narrow screens, only the one that is shown is loaded. What
    # loads late may be missing in print, so all other drawings load at once.
    lazy = 'loading="lazy" ' if _TWO_SIZES.search(tag) else ""
    return tag.replace("<img ", f'<img width="{size[0]}" height="{size[1]}" {lazy}', 1)


@functools.cache
def read_svg_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of a drawing in CSS pixels; None if it does not say them."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        head = file.read(2000)
    width, height = (re.search(rf'<svg[^>]*?\s{name}="([\d.]+)pt"', head) for name in _SIDES)
    if width is None or height is None:
        return None
    return round(float(width[1]) * _PIXELS_PER_POINT), round(float(height[1]) * _PIXELS_PER_POINT)


def drop_unused_icons(style: str, *, used: AbstractSet[str]) -> str:
    """Return the style sheet of icons without the icons that no page and no script names.

    Parameters
    ----------
    style : str
        The style sheet, minified: a rule per icon.
    used : set of str
        Names of classes, such as ``fa-download``.
    """
    return _ICON_RULE.sub(
        lambda match: match[0] if used & set(_ICON_NAME.findall(match[1])) else "", style
    )


def lighten_pages(app: Any, error: Exception | None) -> None:
    """Rewrite the pages after a build that went well."""
    if error is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    used: set[str] = set()
    for script in (site / "_static" / "scripts").glob("*.js"):
        used.update(_ICON_NAME.findall(script.read_text(encoding="utf-8")))
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        used.update(_ICON_NAME.findall(text))
        lighter = fold_long_tables(lighten(text, folder=path.parent))
        if lighter != text:
            path.write_text(lighter, encoding="utf-8")
    theme = site / "_static" / "styles" / "theme.css"
    if theme.is_file():
        basic = (site / "_static" / "basic.css").read_text(encoding="utf-8")
        style = theme.read_text(encoding="utf-8")
        # One file is there sooner than one that asks for another.
        theme.write_text(style.replace(_IMPORT, basic.replace("url(", "url(../")), encoding="utf-8")
    for path in site.glob("_static/vendor/fontawesome/*/css/all.min.css"):
        style = path.read_text(encoding="utf-8")
        path.write_text(drop_unused_icons(style, used=used), encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.connect("build-finished", lighten_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
