"""From the artists' vector drawings to sprites: the conversion of the part ``drawings``."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ima.drawings.concepts import CONCEPTS, Concept
from ima.drawings.sources import ARTISTS
from ima.errors import PartError
from ima.files import write_json
from ima.progress import make_progress_bar

#: Pixels of the canvas on which a drawing is rendered, before its empty margin is cut off.
SPRITE_WIDTH = 160
SPRITES_FILE = "sprites.zip"
INDEX_FILE = "index.json"
#: Bytes in a zip archive carry a date; the same drawings give the same file.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def render_drawings(members: Mapping[str, Path], folder: Path) -> None:
    """Render the drawings of all concepts, and write them with an index.

    Parameters
    ----------
    members : mapping of str to Path
        For each artist the JSON collection of the drawings, and under ``"names"`` the names and
        groups of Unicode's characters.
    folder : Path
        Where to write ``sprites.zip``, one PNG ``artist/noun.png`` per drawing without its empty
        margin, and ``index.json``.

    Raises
    ------
    PartError
        If a drawing is missing or empty, or the package that renders is not installed.

    Examples
    --------
    >>> render_drawings({"noto": Path("noto.json")}, Path("drawings"))  # doctest: +SKIP
    """
    groups = {entry["slug"]: entry for entry in _read_json(members["names"]).values()}
    collections = {artist: _read_json(members[artist]) for artist in ARTISTS}
    drawings: dict[str, dict[str, Any]] = {}
    bar = make_progress_bar(
        total=len(ARTISTS) * len(CONCEPTS), description="rendering", unit="drawing"
    )
    with bar, zipfile.ZipFile(folder / SPRITES_FILE, "w", zipfile.ZIP_STORED) as sprites:
        for concept in CONCEPTS:
            named = groups[concept.slug.replace("-", "_")]
            sizes = {}
            for artist, sprite in _render_concept(concept, collections):
                png = io.BytesIO()
                sprite.save(png, format="PNG", optimize=True)
                sprites.writestr(
                    zipfile.ZipInfo(f"{artist}/{concept.noun}.png", date_time=_ZIP_DATE),
                    png.getvalue(),
                )
                sizes[artist] = list(sprite.size)
                bar.update()
            drawings[concept.noun] = {
                "slug": concept.slug,
                "name": named["name"],
                "group": named["group"],
                "sizes": sizes,
            }
    write_json(
        folder / INDEX_FILE,
        {"artists": list(ARTISTS), "canvas": SPRITE_WIDTH, "drawings": drawings},
    )


def _read_json(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        loaded: dict[str, Any] = json.load(file)
    return loaded


def _render_concept(
    concept: Concept, collections: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, Image.Image]]:
    for artist, collection in collections.items():
        svg = make_svg(collection, concept.slug)
        if svg is None:
            raise PartError(f"The drawings of {artist} hold no {concept.slug!r}.")
        sprite = rasterize_svg(svg)
        box = sprite.getchannel("A").getbbox()
        if box is None:
            raise PartError(f"The drawing {concept.slug!r} of {artist} is empty.")
        yield artist, sprite.crop(box)


def make_svg(collection: Mapping[str, Any], slug: str) -> str | None:
    """Return a drawing of a collection as an SVG document; None if the collection lacks it.

    Parameters
    ----------
    collection : mapping
        ``icons`` with their bodies, ``aliases`` with their parents, ``width`` and ``height``.
    slug : str
        Name of the drawing.

    Examples
    --------
    >>> collection = {"icons": {"dot": {"body": "<path/>"}}, "width": 9, "height": 9}
    >>> make_svg(collection, "dot")[-17:]
    ' 9"><path/></svg>'
    """
    icons, aliases = collection["icons"], collection.get("aliases", {})
    while slug not in icons and slug in aliases:
        slug = aliases[slug]["parent"]
    if slug not in icons:
        return None
    icon = icons[slug]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = (icon.get(side, collection.get(side, 16)) for side in ("width", "height"))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SPRITE_WIDTH}" height="{SPRITE_WIDTH}" '
        f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def rasterize_svg(svg: str) -> Image.Image:
    """Render an SVG document as an RGBA image.

    Raises
    ------
    PartError
        If the package that renders is not installed.

    Examples
    --------
    >>> rasterize_svg(svg).mode  # doctest: +SKIP
    'RGBA'
    """
    try:
        import resvg_py
    except ImportError as error:
        raise PartError(
            "Rendering the drawings needs the package resvg-py: pip install resvg-py==0.5.0"
        ) from error
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    return Image.open(io.BytesIO(png)).convert("RGBA")
