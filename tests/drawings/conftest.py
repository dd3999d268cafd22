"""Planted drawings, so that the world's tests need nothing that is fetched."""

from __future__ import annotations

import io
import zipfile

import pytest
from drawing_colours import find_colour, find_size
from PIL import Image

from ima.drawings.concepts import NOUNS, get_concept
from ima.drawings.sources import ARTISTS, DRAWINGS_PART
from ima.files import write_json
from ima.packages import is_fetched
from ima.packages.shelf import write_part_record


@pytest.fixture(scope="session")
def planted_root(tmp_path_factory):
    """A folder of parts that holds planted drawings."""
    root = tmp_path_factory.mktemp("planted")
    folder = root / "drawings"
    folder.mkdir()
    entries = {
        noun: {
            "slug": get_concept(noun).slug,
            "name": noun,
            "group": get_concept(noun).group,
            "sizes": {artist: list(find_size(noun, artist)) for artist in ARTISTS},
        }
        for noun in NOUNS
    }
    with zipfile.ZipFile(folder / "sprites.zip", "w") as sprites:
        for noun in NOUNS:
            for artist in ARTISTS:
                png = io.BytesIO()
                colour = (*find_colour(noun, artist), 255)
                Image.new("RGBA", find_size(noun, artist), colour).save(png, format="PNG")
                sprites.writestr(f"{artist}/{noun}.png", png.getvalue())
    write_json(folder / "index.json", {"artists": list(ARTISTS), "canvas": 40, "drawings": entries})
    write_part_record(DRAWINGS_PART, folder, source="package", origin={})
    return root


@pytest.fixture
def planted(planted_root, monkeypatch):
    """The drawings are planted ones."""
    monkeypatch.setenv("IMA_PARTS", str(planted_root))
    return planted_root


@pytest.fixture
def real_drawings():
    """The drawings that packages carry, where they were fetched."""
    if not is_fetched(DRAWINGS_PART):
        pytest.skip(f"the drawings are not fetched: {DRAWINGS_PART.get_command()}")
