"""Scenes: the truth is what the pixels show."""

import numpy as np
import pytest
from drawing_colours import find_colour

from ima.drawings.contents import Content
from ima.drawings.habits import HELD_OUT_DRAWINGS, TESTED_ARTISTS
from ima.drawings.pictures import make_scene
from ima.drawings.scenes import PICTURE_WIDTH, Drawing, Scene, choose_artist, compute_overlap
from ima.drawings.situations import Situation

pytestmark = pytest.mark.usefixtures("planted")


def make_scenes(n, split="test", variety="known"):
    return [make_scene(Situation("image", split, variety, i, 0)) for i in range(n)]


def test_each_box_holds_the_colour_of_its_drawing():
    for scene in make_scenes(30):
        picture = scene.render()
        assert picture.shape == (PICTURE_WIDTH, PICTURE_WIDTH, 3)
        assert picture.dtype == np.uint8
        covered = np.zeros(picture.shape[:2], bool)
        for drawing in reversed(scene.drawings):
            left, top, right, bottom = drawing.box
            inside = np.zeros_like(covered)
            inside[top:bottom, left:right] = True
            shown = picture[inside & ~covered]
            assert (shown == find_colour(drawing.noun, drawing.artist)).all()
            covered |= inside
            covered[top + 4 : bottom + 4, left + 2 : right + 2] = True  # its shadow


def test_nothing_but_drawings_and_shadows_covers_the_ground():
    for scene in make_scenes(20):
        bare = Scene(scene.ground, (), scene.seed).render()
        changed = (scene.render() != bare).any(axis=2)
        for drawing in scene.drawings:
            left, top, right, bottom = drawing.box
            changed[top : bottom + 4, left : right + 2] = False
        assert not changed.any()


def test_drawings_are_inside_and_hardly_overlap():
    for scene in make_scenes(60):
        boxes = [drawing.box for drawing in scene.drawings]
        for i, box in enumerate(boxes):
            assert min(box) >= 3
            assert max(box) <= PICTURE_WIDTH - 3
            assert all(compute_overlap(box, other) <= 0.08 for other in boxes[i + 1 :])


def test_the_truth_counts_what_was_placed():
    for scene in make_scenes(30):
        truth = scene.make_truth()
        counted = {entity["noun"]: entity["count"] for entity in truth["entities"]}
        for noun, count in counted.items():
            assert sum(drawing.noun == noun for drawing in scene.drawings) == count
        assert sum(counted.values()) == len(scene.drawings)
        assert truth["ground"] == scene.ground
        means = [
            np.mean([box[0] + box[2] for box in entity["boxes"]]) for entity in truth["entities"]
        ]
        assert means == sorted(means)


def test_relations_are_clear():
    box = (0, 0, 20, 20)
    shift = [(x, 0, x + 20, 20) for x in (0, 39, 40, 120)]
    near = Scene("snow", tuple(_draw(n, b) for n, b in (("dog", box), ("cat", shift[1]))), (0,))
    assert near.list_relations() == []
    far = Scene("snow", tuple(_draw(n, b) for n, b in (("dog", box), ("cat", shift[2]))), (0,))
    assert far.list_relations() == [(0, "left of", 1)]
    around = (("dog", box), ("cat", shift[2]), ("dog", shift[3]))
    assert Scene("snow", tuple(_draw(n, b) for n, b in around), (0,)).list_relations() == []


def _draw(noun, box):
    return Drawing(noun, "noto", 20, False, box)


def test_artists_of_a_split():
    for scene in make_scenes(150, "train"):
        for kind in scene.kinds:
            assert HELD_OUT_DRAWINGS.get(kind.noun) != kind.artist
    tested = {kind.artist for scene in make_scenes(60) for kind in scene.kinds}
    trained = {kind.artist for scene in make_scenes(150, "train") for kind in scene.kinds}
    assert tested == set(TESTED_ARTISTS)
    assert trained == {*TESTED_ARTISTS, "openmoji"}
    for scene in make_scenes(30, variety="unseen-drawings"):
        assert all(HELD_OUT_DRAWINGS[kind.noun] == kind.artist for kind in scene.kinds)
        assert scene.make_truth()["novel"]


def test_the_held_out_artist_is_chosen_only_where_asked():
    rng = np.random.default_rng(0)
    drawn = {choose_artist("dog", split="train", unseen=False, rng=rng) for _ in range(200)}
    assert drawn == {"noto", "twemoji", "openmoji"}
    assert choose_artist("dog", split="test", unseen=True, rng=rng) == "fluent"


def test_a_content_is_read_back_from_its_scene():
    scene = make_scenes(1)[0]
    again = Content(tuple((kind.noun, kind.count) for kind in scene.kinds), scene.ground)
    assert scene.content == again
    assert again.split == "test"
