"""Views of scenes: what is drawn is what is said, and no content crosses a split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ima.data.samples import SPLITS, open_samples
from ima.errors import UnknownNameError
from ima.miniature import views
from ima.miniature.caption_metrics import score_captions
from ima.miniature.datasets import Situation
from ima.miniature.scenes import COLOUR_RGB

PAIRED = {"image": ("depth", "drawing"), "video": ("motion",)}


def keys(samples, *, colours):
    """Return the content of samples: nouns with their attributes, without places."""
    hidden = {"place"} if colours else {"place", "colour"}
    return {
        tuple(
            sorted(
                tuple(sorted((k, v) for k, v in entity.items() if k not in hidden))
                for entity in sample.truth["entities"]
            )
        )
        for sample in samples
    }


@pytest.mark.parametrize("name", views.VIEW_DATASETS)
def test_a_view_is_a_data_set_like_others(name):
    samples = open_samples(name, n=5)
    assert list(open_samples(name, n=3)) == list(samples[:3])
    assert len({sample.id for sample in samples}) == 5
    for sample in samples:
        assert sample.load().shape == (64, 64, 3)
        assert sample.load().dtype == np.uint8
        np.testing.assert_array_equal(sample.load(), sample.load())
    prints = {
        open_samples(asked, n=4, seed=seed).fingerprint
        for asked, seed in [(name, 0), (name, 1), (f"{name}:train", 0)]
    }
    assert len(prints) == 3
    exact = score_captions(samples, [sample.references[0] for sample in samples])
    assert exact["exact_full"].value == 1.0


@pytest.mark.parametrize("modality", list(PAIRED))
def test_splits_share_no_content_with_and_without_colours(modality):
    found = {split: views.open_scene_samples(modality, split, n=150) for split in SPLITS}
    for colours in (True, False):
        for first in SPLITS:
            for second in SPLITS:
                if first < second:
                    shared = keys(found[first], colours=colours) & keys(
                        found[second], colours=colours
                    )
                    assert not shared, (first, second, colours)


def test_views_of_one_scene_share_its_content_and_nothing_that_is_hidden():
    for modality, names in PAIRED.items():
        shown = views.open_scene_samples(modality, "test", n=20)
        for name in names:
            hidden = views.VIEWS[name].hidden
            for own, seen in zip(shown, views.open_scene_samples(name, "test", n=20), strict=True):
                assert own.content_key == seen.content_key
                assert own.id != seen.id
                assert seen.modality == "image"
                for whole, part in zip(own.truth["entities"], seen.truth["entities"], strict=True):
                    assert {k: v for k, v in whole.items() if k not in hidden} == part
                if hidden:
                    assert not set(COLOUR_RGB) & set(" ".join(seen.references).split())


def test_a_depth_map_has_no_colour_and_objects_stand_before_the_wall():
    for scene in views.list_scenes("image", "test", n=20):
        pixels = views.render_depth_map(scene)
        assert (pixels == pixels[..., :1]).all()
        _, coverage = scene.render()
        inside, outside = coverage.max(axis=0) > 0.99, coverage.max(axis=0) == 0
        assert pixels[inside].min() > np.quantile(pixels[outside], 0.99)


def test_a_drawing_has_the_colours_of_its_objects_on_their_outlines_only():
    for scene in views.list_scenes("image", "test", n=20):
        pixels = views.render_line_drawing(scene).astype(float)
        board = pixels[0, 0]
        _, coverage = scene.render()
        for entity, cover in zip(scene.get_entities(), coverage, strict=True):
            strength = (pixels - board).max(axis=-1)
            strokes = (cover > 0.2) & (strength > 0.6 * strength[cover > 0.2].max())
            # Grain mixes a stroke with the board: the direction from board to chalk stays.
            chalk = (pixels[strokes] - board).mean(axis=0)
            lines = {name: np.array(rgb) - board for name, rgb in COLOUR_RGB.items()}
            near = {
                name: chalk @ line / np.linalg.norm(chalk) / np.linalg.norm(line)
                for name, line in lines.items()
            }
            assert max(near, key=near.get) == entity.attributes["colour"]
            # The middle of an outline is board, except where a shape is all outline.
            if entity.noun in {"circle", "square"} and entity.attributes["size"] == "big":
                rows, columns = np.nonzero(cover > 0.5)
                middle = pixels[int(rows.mean()), int(columns.mean())]
                np.testing.assert_allclose(middle, board)


def read_motion(pixels):
    """Return the motion that the trace of one object shows."""
    often, late, early = (pixels[..., channel].astype(float) / 255 for channel in range(3))
    seen, lean = often > 0, late - early
    if not lean.any() and often.max() > 0.9:
        return "rests"
    whole = often > 0.49
    if often.max() < 0.55 and whole.any() and min(late[whole].min(), early[whole].min()) > 0.6:
        return "blinks"
    rows, columns = np.nonzero(seen)
    away = np.hypot(rows - rows.mean(), columns - columns.mean())
    right, down, out = (np.corrcoef(lean[seen], each)[0, 1] for each in (columns, rows, away))
    words = {
        "moves right": right, "moves left": -right, "moves down": down, "moves up": -down,
        "grows": out, "shrinks": -out,
    }  # fmt: skip
    return max(words, key=words.get)


def test_a_trace_tells_the_motion_of_an_object():
    scenes = [s for s in views.list_scenes("video", "train", n=400) if len(s.get_entities()) == 1]
    told = [
        (
            read_motion(views.render_motion_trace(scene)),
            scene.get_entities()[0].attributes["motion"],
        )
        for scene in scenes
    ]
    assert len({motion for _, motion in told}) == 8
    assert np.mean([read == true for read, true in told]) > 0.9


@pytest.mark.parametrize(("name", "modality"), [("depth", "image"), ("motion", "video")])
def test_scenes_that_differ_in_colours_alone_look_alike(monkeypatch, name, modality):
    (scene,) = views.list_scenes(modality, "test", n=1)
    before = views.VIEWS[name].render(scene)
    placed = scene.get_placed_entities()
    other = [
        (replace(entity, attributes={**entity.attributes, "colour": "pink"}), *place)
        for entity, *place in placed
    ]
    monkeypatch.setattr(Situation, "get_placed_entities", lambda self: other)
    np.testing.assert_array_equal(views.VIEWS[name].render(scene), before)


def test_unknown_views_are_named():
    with pytest.raises(UnknownNameError, match="dept"):
        views.get_scene_modality("dept")
    with pytest.raises(UnknownNameError):
        open_samples("mini-depth-qa", n=1)
