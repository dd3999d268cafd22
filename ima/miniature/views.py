"""Views of miniature scenes: depth maps, line drawings and motion traces, with exact truth.

A view is a picture of 64×64 pixels that shows the content of an image or a clip in another way::

    depth     of an image; how near each point is: the nearer, the brighter. No colours.
    drawing   of an image; chalk outlines on a board, in the colours of the objects
    motion    of a clip; how long, how late and how early each point was covered, as red, green and
              blue (motion history images, Bobick & Davis 2001). No colours of objects.

Two scenes that differ only in their colours look alike without them. Data sets of views therefore
take only scenes whose content *without colours*, too, belongs to their split
(:func:`list_scenes`). All views of a scene have one content: that of its image or clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.data.samples import SPLITS, Sample, SampleSet
from ima.data.worlds import split_dataset_name
from ima.errors import UnknownNameError
from ima.miniature import speech
from ima.miniature.datasets import Situation, make_caption_sample, name_sample
from ima.miniature.scenes import CLIP_FRAMES, COLOUR_RGB, compute_shape_distance
from ima.miniature.world import DOMAINS, Entity, draw_entities, get_content_split

_Pixels = npt.NDArray[np.uint8]
_Canvas = npt.NDArray[np.float64]

_WIDTH = 64
#: A clip's positions are in pixels of its own, smaller frames.
_CLIP_SCALE = _WIDTH / 48
_VIEWING = 21
#: Situations that are looked at in one go.
_CHUNK = 500
_BOARD, _STROKE, _WOBBLE = 38.0, 1.1, 0.3


@dataclass(frozen=True)
class View:
    """One way to show a scene.

    Parameters
    ----------
    name : str
        Name of the view.
    of : str
        Modality whose scenes it shows: ``"image"`` or ``"video"``.
    hidden : tuple of str
        Attributes that it does not show. Its captions and its truth leave them out.
    render : callable
        Maps a situation to pixels ``(height, width, channel)`` uint8.
    references : tuple of str
        Wordings of references; the first is canonical.
    """

    name: str
    of: str
    hidden: tuple[str, ...]
    render: Callable[[Situation], _Pixels]
    references: tuple[str, ...]


def render_depth_map(situation: Situation) -> _Pixels:
    """Render how near each point of an image's scene is.

    Each object is a body that stands before a slanted wall and is thickest in its middle. The
    three channels are equal.

    Parameters
    ----------
    situation : Situation
        A situation of modality ``"image"``.

    Returns
    -------
    ndarray
        ``(height, width, channel)`` uint8; 255 is nearest.

    Examples
    --------
    >>> pixels = render_depth_map(Situation("image", "test", 0, 0))
    >>> pixels.shape, bool((pixels[..., 0] == pixels[..., 2]).all())
    ((64, 64, 3), True)
    """
    rng = situation.make_rng(_VIEWING)
    ramp = np.linspace(-1, 1, _WIDTH)
    slope = rng.uniform(-15, 15, 2)
    depth = rng.uniform(30, 70) + slope[0] * ramp[:, None] + slope[1] * ramp[None, :]
    for entity, x, y, radius in situation.get_placed_entities():
        distance = _measure_distance(entity.noun, x, y, radius)
        body = rng.uniform(120, 170) + 70 * np.clip(-2 * distance / radius, 0, 1)
        cover = np.clip(0.5 - distance, 0, 1)
        depth += cover * (body - depth)
    depth += rng.normal(0, 2.0, depth.shape)
    return _to_pixels(np.repeat(depth[..., None], 3, axis=-1))


def render_line_drawing(situation: Situation) -> _Pixels:
    """Draw the outlines of an image's objects, as with chalk on a board by an unsteady hand.

    Parameters
    ----------
    situation : Situation
        A situation of modality ``"image"``.

    Returns
    -------
    ndarray
        ``(height, width, channel)`` uint8.

    Examples
    --------
    >>> render_line_drawing(Situation("image", "test", 0, 0)).shape
    (64, 64, 3)
    """
    rng = situation.make_rng(_VIEWING + 1)
    canvas = np.full((_WIDTH, _WIDTH, 3), _BOARD) + rng.uniform(-6, 6)
    for entity, x, y, radius in situation.get_placed_entities():
        distance = _measure_distance(entity.noun, x, y, radius)
        # A slow wave along the outline makes the hand unsteady.
        phase, turns = rng.uniform(0, 2 * np.pi), rng.integers(3, 6)
        angle = np.arctan2(*(np.mgrid[0:_WIDTH, 0:_WIDTH] - np.array([y, x])[:, None, None]))
        line = np.abs(distance + _WOBBLE * np.sin(turns * angle + phase)) - _STROKE
        grain = rng.uniform(0.65, 1.0, distance.shape)
        cover = (np.clip(0.5 - line, 0, 1) * grain)[..., None]
        canvas += cover * (np.asarray(COLOUR_RGB[entity.attributes["colour"]], float) - canvas)
    return _to_pixels(canvas)


def render_motion_trace(situation: Situation) -> _Pixels:
    """Render where the objects of a clip were, and when.

    Parameters
    ----------
    situation : Situation
        A situation of modality ``"video"``.

    Returns
    -------
    ndarray
        ``(height, width, channel)`` uint8. Red is the fraction of frames in which a point was
        covered; green is brighter the later it was covered last, blue the earlier it was covered
        first.

    Examples
    --------
    >>> pixels = render_motion_trace(Situation("video", "test", 0, 0))
    >>> pixels.shape, int(pixels[0, 0].max())
    ((64, 64, 3), 0)
    """
    trace = np.zeros((_WIDTH, _WIDTH, 3))
    for entity, path in situation.get_placed_entities():
        cover = np.stack(
            [
                visible * np.clip(0.5 - _measure_distance(entity.noun, *place), 0, 1)
                for *place, visible in path * np.array([*[_CLIP_SCALE] * 3, 1.0])
            ]
        )
        late = (np.arange(CLIP_FRAMES) + 1)[:, None, None] / CLIP_FRAMES
        own = [cover.mean(axis=0), (cover * late).max(axis=0), (cover * late[::-1]).max(axis=0)]
        trace = np.maximum(trace, np.stack(own, axis=-1))
    return _to_pixels(255 * trace)


def _measure_distance(shape: str, x: float, y: float, radius: float) -> _Canvas:
    """Return the signed distance of each pixel to the outline of a shape, in pixels."""
    rows, columns = np.mgrid[0:_WIDTH, 0:_WIDTH].astype(float)
    return compute_shape_distance(shape, columns - x, rows - y, radius)


def _to_pixels(canvas: _Canvas) -> _Pixels:
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


VIEWS: Mapping[str, View] = {
    view.name: view
    for view in (
        View(
            "depth", "image", ("colour",), render_depth_map,
            ("{}", "the depth map shows {}", "there is {}"),
        ),
        View(
            "drawing", "image", (), render_line_drawing,
            ("{}", "the drawing shows {}", "there is {}"),
        ),
        View(
            "motion", "video", ("colour",), render_motion_trace,
            ("{}", "the trace shows {}", "there is {}"),
        ),
    )
}  # fmt: skip
#: The modalities of the world and the views, in the order of tables.
MODALITY_NAMES = (*DOMAINS, *VIEWS)
VIEW_DATASETS = tuple(f"mini-{name}-caption" for name in VIEWS)


def get_scene_modality(name: str) -> str:
    """Return the modality whose scenes a modality or a view shows.

    Raises
    ------
    UnknownNameError
        If there is no such modality or view.

    Examples
    --------
    >>> get_scene_modality("depth"), get_scene_modality("audio")
    ('image', 'audio')
    """
    if name not in MODALITY_NAMES:
        raise UnknownNameError.among(kind="modality", asked=name, available=MODALITY_NAMES)
    return VIEWS[name].of if name in VIEWS else name


def describe_view(view: View, entities: Sequence[Entity]) -> tuple[str, ...]:
    """Return the reference captions of a view, the canonical one first.

    Parameters
    ----------
    view : View
        Attributes that it hides are left out.
    entities : sequence of Entity
        Entities of the scene, in order.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "size": "big"})
    >>> [describe_view(VIEWS[name], [ring])[0] for name in ("depth", "drawing")]
    ['a big ring', 'a big red ring']
    >>> describe_view(VIEWS["motion"], [Entity("ring", {"colour": "red", "motion": "grows"})])[0]
    'a ring that grows'
    """
    phrases = [_make_phrase(view, entity) for entity in entities]
    return tuple(wording.format(speech.join_phrases(phrases)) for wording in view.references)


def _make_phrase(view: View, entity: Entity) -> str:
    if not view.hidden:
        return speech.make_noun_phrase(view.of, entity)
    if view.of == "video":
        return f"{speech.add_article(entity.noun)} that {entity.attributes['motion']}"
    return speech.add_article(f"{entity.attributes['size']} {entity.noun}")


def list_scenes(
    modality: str, split: str, *, n: int, start: int = 0, seed: int = 0
) -> list[Situation]:
    """List situations of a split that belong to it with and without their colours.

    Of a sound, which no view shows, all situations are listed.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"video"`` or ``"audio"``.
    split : str
        The split.
    n, start : int
        Number of scenes, and how many are passed over before them.
    seed : int
        Seed of the world.

    Examples
    --------
    >>> [scene.index for scene in list_scenes("image", "train", n=3)]
    [2, 3, 4]
    """
    if modality not in {view.of for view in VIEWS.values()}:
        return [Situation(modality, split, index, seed) for index in range(start, start + n)]
    found: list[Situation] = []
    chunk = 0
    while len(found) < start + n:
        found += _list_chunk(modality, split, seed, chunk)
        chunk += 1
    return found[start : start + n]


@cache
def _list_chunk(modality: str, split: str, seed: int, chunk: int) -> tuple[Situation, ...]:
    span = range(chunk * _CHUNK, (chunk + 1) * _CHUNK)
    situations = (Situation(modality, split, index, seed) for index in span)
    return tuple(each for each in situations if _belongs_without_colour(each))


def _belongs_without_colour(situation: Situation) -> bool:
    entities = draw_entities(situation.modality, situation.split, situation.make_rng(0))
    return get_content_split(tuple(_hide(entity, ("colour",)) for entity in entities)) == (
        situation.split
    )


def _hide(entity: Entity, hidden: Sequence[str]) -> Entity:
    kept = {name: value for name, value in entity.attributes.items() if name not in hidden}
    return replace(entity, attributes=kept)


def make_scene_sample(name: str, situation: Situation) -> Sample:
    """Return the caption sample of a scene, seen in one modality or view.

    Parameters
    ----------
    name : str
        One of :data:`MODALITY_NAMES`.
    situation : Situation
        The scene.

    Returns
    -------
    Sample
        A view has the modality ``"image"``, because an encoder of images reads it, and the content
        of the image or clip that shows the same scene.

    Examples
    --------
    >>> scene = list_scenes("image", "test", n=1)[0]
    >>> photo, depth = (make_scene_sample(name, scene) for name in ("image", "depth"))
    >>> photo.content_key == depth.content_key, "colour" in depth.truth["entities"][0]
    (True, False)
    """
    index, seed = situation.index, situation.seed
    sample_id = name_sample(name, situation.split, index=index, seed=seed)
    if name not in VIEWS:
        return make_caption_sample(situation, sample_id)
    view = VIEWS[name]
    truth: dict[str, Any] = situation.make_truth()
    entities = situation.get_entities()
    truth["entities"] = [_hide(entity, view.hidden).to_record() for entity in entities]
    # A held-out pair of noun and colour is nothing new where colours are hidden.
    truth["novel"] = truth["novel"] and not view.hidden
    return Sample(
        id=sample_id,
        modality="image",
        task="caption",
        prompt=speech.CAPTION_PROMPT,
        references=describe_view(view, entities),
        truth=truth | {"view": name},
        media=lambda: view.render(situation),
        content=name_sample(view.of, situation.split, index=index, seed=seed),
    )


def open_scene_samples(
    name: str, split: str, *, n: int, start: int = 0, seed: int = 0
) -> list[Sample]:
    """Return caption samples of scenes of a split, seen in one modality or view.

    Parameters
    ----------
    name : str
        One of :data:`MODALITY_NAMES`.
    split, n, start, seed
        As for :func:`list_scenes`: the same scenes for all that show one modality.

    Examples
    --------
    >>> [sample.id for sample in open_scene_samples("motion", "train", n=2)]
    ['mini-motion-train-000000', 'mini-motion-train-000001']
    """
    scenes = list_scenes(get_scene_modality(name), split, n=n, start=start, seed=seed)
    return [make_scene_sample(name, scene) for scene in scenes]


def open_view_dataset(name: str, *, n: int, seed: int = 0) -> SampleSet:
    """Open a data set of views.

    Parameters
    ----------
    name : str
        One of :data:`VIEW_DATASETS`, followed by ``:train``, ``:calibration``, ``:validation`` or
        ``:test``; the default split is ``test``.
    n : int
        Number of samples, from the start of the split.
    seed : int
        Seed of the world.

    Raises
    ------
    UnknownNameError
        If there is no such data set or split.

    Examples
    --------
    >>> open_view_dataset("mini-depth-caption", n=1)[0].load().shape
    (64, 64, 3)
    """
    base, split = split_dataset_name(name, dict.fromkeys(VIEW_DATASETS, SPLITS))
    view = base.split("-")[1]
    return SampleSet(base, split, tuple(open_scene_samples(view, split, n=n, seed=seed)))
