"""Samples to try highlighting on: pictures with two objects, questions about one of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ima.data.samples import open_samples
from ima.data.worlds import Box, World, world_of
from ima.errors import ParameterError
from ima.interventions.highlight_marks import Highlight
from ima.metrics.hallucination import find_mentioned_objects

if TYPE_CHECKING:
    from ima.data.samples import Sample

#: Cells of a picture's side from which a background is drawn.
_CELLS = 8
#: A data set of so many samples for each that is wanted is searched.
_SEARCHED = 12


def select_pairs(dataset: str, *, n: int) -> list[Sample]:
    """Return the first samples of a data set whose pictures show two objects apart.

    Parameters
    ----------
    dataset : str
        Captions of a world that knows where objects are.
    n : int
        Number of samples.

    Raises
    ------
    ParameterError
        If there are too few, or the world does not know where objects are.

    Examples
    --------
    >>> samples = select_pairs("mini-image-caption", n=2)
    >>> [len(sample.truth["entities"]) for sample in samples]
    [2, 2]
    """
    found = [
        sample
        for sample in open_samples(dataset, n=_SEARCHED * n)
        if len(sample.truth["entities"]) == 2 and len(set(find_object_boxes(sample).values())) == 2
    ]
    return _take(found, n=n, dataset=dataset, what="two objects in places of their own")


def select_questions(dataset: str, *, n: int) -> list[Sample]:
    """Return the first questions of a data set about one object of a picture that shows more.

    The prompt or the answer names an object, and the picture shows another that neither names.

    Parameters
    ----------
    dataset : str
        Questions of a world that knows where objects are.
    n : int
        Number of samples.

    Raises
    ------
    ParameterError
        If there are too few, or the world does not know where objects are.

    Examples
    --------
    >>> select_questions("mini-image-qa", n=1)[0].task
    'qa'
    """
    found = []
    for sample in open_samples(dataset, n=_SEARCHED * n):
        asked, other = split_objects(sample)
        if asked and other:
            found.append(sample)
    return _take(found, n=n, dataset=dataset, what="a question about one of several objects")


def _take(found: list[Sample], *, n: int, dataset: str, what: str) -> list[Sample]:
    if len(found) < n:
        raise ParameterError(
            f"{dataset} has {len(found)} samples with {what} among its first {_SEARCHED * n}; "
            f"{n} are needed."
        )
    return found[:n]


def get_world(sample: Sample) -> World:
    """Return the world of a sample, which knows where objects are.

    Raises
    ------
    ParameterError
        If no such world owns the sample.

    Examples
    --------
    >>> "mini-image-qa" in get_world(select_pairs("mini-image-caption", n=1)[0]).datasets
    True
    """
    world = world_of(sample)
    if world is None or world.boxes is None:
        raise ParameterError(
            f"Where the objects of sample {sample.id!r} are is not known. Take samples of "
            "drawings-image-caption or mini-image-caption."
        )
    return world


def find_object_boxes(sample: Sample) -> dict[str, tuple[Box, ...]]:
    """Return the boxes of each object in pixels, from left to right; empty for other media.

    Examples
    --------
    >>> list(find_object_boxes(select_pairs("mini-image-caption", n=1)[0]))
    ['heart', 'diamond']
    """
    world = get_world(sample)
    fractions = {} if world.boxes is None else world.boxes(sample)
    if not fractions:
        return {}
    height, width = sample.load().shape[:2]
    return {
        name: tuple(
            (box[0] * width, box[1] * height, box[2] * width, box[3] * height) for box in boxes
        )
        for name, boxes in fractions.items()
    }


def split_objects(sample: Sample) -> tuple[tuple[Box, ...], tuple[Box, ...]]:
    """Return the boxes of objects that a question or its answer names, and of the others.

    Examples
    --------
    >>> asked, other = split_objects(select_questions("mini-image-qa", n=1)[0])
    >>> len(asked) > 0, len(other) > 0
    (True, True)
    """
    names, present = get_world(sample).objects(sample)
    text = " ".join([sample.prompt, *sample.references])
    named = set(find_mentioned_objects(text, names=names, true_objects=present).present)
    groups: tuple[list[Box], list[Box]] = ([], [])
    for name, boxes in find_object_boxes(sample).items():
        groups[name not in named].extend(boxes)
    return tuple(groups[0]), tuple(groups[1])


def find_background(sample: Sample, *, seed: int) -> Highlight | None:
    """Draw background as :func:`draw_background` does; None where objects fill the picture.

    Examples
    --------
    >>> sample = select_pairs("mini-image-caption", n=1)[0]
    >>> find_background(sample, seed=0) == draw_background(sample, seed=0)
    True
    """
    try:
        return draw_background(sample, seed=seed)
    except ParameterError:
        return None


def draw_background(sample: Sample, *, seed: int) -> Highlight:
    """Draw parts of a picture without objects, about as large as one of its objects.

    Parameters
    ----------
    sample : Sample
        Its world knows where objects are.
    seed : int
        Same seed, same parts.

    Examples
    --------
    >>> sample = select_pairs("mini-image-caption", n=1)[0]
    >>> len(draw_background(sample, seed=0).boxes)
    16
    """
    height, width = sample.load().shape[:2]
    objects = [box for boxes in find_object_boxes(sample).values() for box in boxes]
    across, down = width / _CELLS, height / _CELLS
    cells = [
        (x * across, y * down, (x + 1) * across, (y + 1) * down)
        for y in range(_CELLS)
        for x in range(_CELLS)
    ]
    free = [
        cell
        for cell in cells
        if all(
            min(cell[2], box[2]) <= max(cell[0], box[0])
            or min(cell[3], box[3]) <= max(cell[1], box[1])
            for box in objects
        )
    ]
    area = np.mean([(box[2] - box[0]) * (box[3] - box[1]) for box in objects])
    count = max(round(float(area) / (width * height) * _CELLS**2), 1)
    order = np.random.default_rng((seed, *sample.id.encode())).permutation(len(free))
    chosen = tuple(free[place] for place in order[:count])
    if not chosen:
        raise ParameterError(f"The picture of sample {sample.id!r} has no free background.")
    return Highlight(boxes=chosen)
