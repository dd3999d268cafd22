"""From vector drawings to sprites."""

import json

import numpy as np
import pytest

from ima.drawings import rendering
from ima.drawings.concepts import get_concept
from ima.drawings.grounds import paint_ground
from ima.drawings.habits import GROUNDS
from ima.drawings.rendering import make_svg, rasterize_svg, render_drawings
from ima.drawings.sources import ARTISTS, DRAWINGS_PART
from ima.drawings.sprites import load_sprite, measure_sprite
from ima.errors import PartError
from ima.packages.shelf import write_part_record

CONCEPTS = (get_concept("dog"), get_concept("bus"))
BODY = "<rect x='2' y='4' width='{width}' height='4' fill='{colour}'/>"


@pytest.fixture
def members(tmp_path, monkeypatch):
    """Collections of four artists that drew two concepts as rectangles."""
    monkeypatch.setattr(rendering, "CONCEPTS", CONCEPTS)
    paths = {}
    for number, artist in enumerate(ARTISTS):
        icons = {
            concept.slug: {"body": BODY.format(width=2 + number, colour="#ff0000")}
            for concept in CONCEPTS
        }
        del icons["dog"]
        icons["puppy"] = {"body": BODY.format(width=8, colour="#0000ff")}
        aliases = {"hound": {"parent": "puppy"}, "dog": {"parent": "hound"}}
        collection = {"icons": icons, "aliases": aliases, "width": 16, "height": 16}
        paths[artist] = tmp_path / f"{artist}.json"
        paths[artist].write_text(json.dumps(collection))
    names = {
        concept.emoji: {
            "slug": concept.slug.replace("-", "_"),
            "name": concept.noun,
            "group": concept.group,
        }
        for concept in CONCEPTS
    }
    paths["names"] = tmp_path / "names.json"
    paths["names"].write_text(json.dumps(names))
    return paths


def test_drawings_are_rendered_without_their_margins(members, tmp_path, monkeypatch):
    pytest.importorskip("resvg_py", reason="resvg-py is not installed: make setup")
    folder = tmp_path / "parts" / "drawings"
    folder.mkdir(parents=True)
    render_drawings(members, folder)
    write_part_record(DRAWINGS_PART, folder, source="package", origin={})
    monkeypatch.setenv("IMA_PARTS", str(tmp_path / "parts"))
    index = json.loads((folder / "index.json").read_text())
    assert list(index["drawings"]) == ["dog", "bus"]
    assert index["drawings"]["bus"]["sizes"] == {
        "noto": [20, 40],
        "twemoji": [30, 40],
        "fluent": [40, 40],
        "openmoji": [50, 40],
    }
    dog = load_sprite("dog", "noto", side=40)
    assert dog.size == measure_sprite("dog", "noto", side=40) == (40, 20)
    assert dog.getpixel((20, 10)) == (0, 0, 255, 255)
    first = (folder / "sprites.zip").read_bytes()
    render_drawings(members, folder)
    assert (folder / "sprites.zip").read_bytes() == first


def test_missing_and_empty_drawings_are_named(members, tmp_path):
    pytest.importorskip("resvg_py", reason="resvg-py is not installed: make setup")
    collection = json.loads(members["twemoji"].read_text())
    collection["icons"]["puppy"]["body"] = ""
    members["twemoji"].write_text(json.dumps(collection))
    with pytest.raises(PartError, match="'dog' of twemoji is empty"):
        render_drawings(members, tmp_path)
    del collection["aliases"]
    members["twemoji"].write_text(json.dumps(collection))
    with pytest.raises(PartError, match="twemoji hold no 'dog'"):
        render_drawings(members, tmp_path)


def test_a_drawing_has_the_box_of_its_collection_unless_it_has_its_own():
    icons = {"a": {"body": "<a/>"}, "b": {"body": "<b/>", "left": 1, "top": 2, "width": 3}}
    collection = {"icons": icons, "width": 16, "height": 20}
    assert 'viewBox="0 0 16 20"' in make_svg(collection, "a")
    assert 'viewBox="1 2 3 20"' in make_svg(collection, "b")
    assert make_svg(collection, "c") is None


def test_without_the_renderer_the_error_names_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "resvg_py", None)
    with pytest.raises(PartError, match=r"resvg-py==0\.5\.0"):
        rasterize_svg("<svg/>")


@pytest.mark.usefixtures("planted")
def test_flipped_and_resized_sprites_keep_their_proportions():
    width, height = measure_sprite("dog", "noto", side=80)
    assert max(width, height) == 80
    assert load_sprite("dog", "noto", side=80, flipped=True).size == (width, height)
    with pytest.raises(
        PartError, match="lack 'dog' by 'picasso'; fetch them again: ima data fetch"
    ):
        measure_sprite("dog", "picasso", side=80)


def test_grounds_differ_in_colour_and_no_two_are_alike():
    means = {}
    for ground in GROUNDS:
        first, second = (
            paint_ground(ground, width=224, rng=np.random.default_rng(seed)) for seed in (0, 1)
        )
        assert first.shape == (224, 224, 3)
        assert first.std() > 3
        assert (first != second).any()
        means[ground] = first.reshape(-1, 3).mean(axis=0)
    red, green, blue = np.array(list(means.values())).T
    names = list(means)
    assert names[int(np.argmax(green - (red + blue) / 2))] == "grass"
    assert names[int(np.argmax(blue - red))] == "sky"
    assert names[int(np.argmin(np.abs(red - blue)))] == "road"
    assert means["road"].mean() < 130 < means["snow"].mean()
    assert names[int(np.argmax(red + green + blue))] == "snow"
