"""Scores of captions of drawings: whether a caption names exactly what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from types import MappingProxyType

from ima.data.samples import Sample
from ima.data.worlds import Box
from ima.drawings.clip_wording import score_clip_caption
from ima.drawings.habits import GROUNDS
from ima.drawings.mentions import count_named, map_names
from ima.drawings.scenes import PICTURE_WIDTH
from ima.metrics.cider_bleu import tokenize_captions
from ima.metrics.hallucination import find_mentioned_objects

#: Other names of the grounds.
_GROUND_NAMES: Mapping[str, str] = MappingProxyType(
    {ground: ground for ground in GROUNDS}
    | {"lawn": "grass", "meadow": "grass", "street": "road", "beach": "sand"}
)


def find_ground(caption: str) -> str | None:
    """Return the last ground that a caption names; None if it names none.

    Examples
    --------
    >>> find_ground("two dogs on the road"), find_ground("two dogs")
    ('road', None)
    """
    words = tokenize_captions([caption])[0].split()
    named = [_GROUND_NAMES[word] for word in words if word in _GROUND_NAMES]
    return named[-1] if named else None


def objects_of(sample: Sample) -> tuple[Mapping[str, str], Set[str]]:
    """Return the names of all objects with their nouns, and the nouns present in a sample.

    Examples
    --------
    >>> sample = Sample("0", "image", "caption", "", (), {"entities": [{"noun": "cactus"}]})
    >>> names, present = objects_of(sample)
    >>> names["cacti"], present
    ('cactus', {'cactus'})
    """
    return map_names(), {entity["noun"] for entity in sample.truth["entities"]}


def boxes_of(sample: Sample) -> dict[str, tuple[Box, ...]]:
    """Return where the objects of a picture are, in fractions of it; empty for a clip.

    Examples
    --------
    >>> truth = {"entities": [{"noun": "dog", "boxes": [[0, 56, 112, 168]]}]}
    >>> boxes_of(Sample("0", "image", "caption", "", (), truth))
    {'dog': ((0.0, 0.25, 0.5, 0.75),)}
    """
    boxes: dict[str, tuple[Box, ...]] = {}
    for entity in sample.truth["entities"] if sample.modality == "image" else ():
        scaled = [[side / PICTURE_WIDTH for side in box] for box in entity["boxes"]]
        boxes[entity["noun"]] = tuple((box[0], box[1], box[2], box[3]) for box in scaled)
    return boxes


def score_kind_overlap(sample: Sample, caption: str) -> float:
    """Score how far the kinds of objects that a caption names are those of a sample.

    Parameters
    ----------
    sample : Sample
        A sample of this world.
    caption : str
        What a model says.

    Returns
    -------
    float
        Nouns that are named and there, divided by those that are named or there, in any number: 1
        if the caption names exactly what is there, 0 if nothing of it.

    Examples
    --------
    >>> sample = Sample("0", "image", "caption", "", (), {"entities": [{"noun": "dog"}]})
    >>> score_kind_overlap(sample, "two dogs and a cactus on the road")
    0.5
    """
    named, there = set(count_named(caption)), {own["noun"] for own in sample.truth["entities"]}
    return len(named & there) / len(named | there)


def score_caption(sample: Sample, caption: str) -> dict[str, float]:
    """Score one caption against the truth of its sample.

    Parameters
    ----------
    sample : Sample
        A sample of this world.
    caption : str
        What a model says.

    Returns
    -------
    dict of str to float
        ``exact_set``: 1 if the caption names exactly the nouns that are there, in any number.
        ``absent_named`` and ``named``: mentions of absent objects, and of any. Of pictures
        ``exact_counts``: with the right numbers; ``ground``: 1 if it names the right ground;
        ``exact_full``: numbers and ground. Of clips ``exact_actions``: with what each does;
        ``exact_full``: actions, numbers and order.

    Examples
    --------
    >>> truth = {"entities": [{"noun": "dog", "count": 2}], "ground": "snow"}
    >>> sample = Sample("0", "image", "caption", "The picture shows", (), truth)
    >>> scores = score_caption(sample, "three dogs in the snow")
    >>> scores["exact_set"], scores["exact_counts"], scores["ground"], scores["exact_full"]
    (1.0, 0.0, 1.0, 0.0)
    """
    entities = sample.truth["entities"]
    names, present = objects_of(sample)
    mentioned = find_mentioned_objects(caption, names=names, true_objects=present)
    scores = {
        "absent_named": float(len(mentioned.absent)),
        "named": float(len(mentioned.absent) + len(mentioned.present)),
    }
    if sample.modality == "video":
        return scores | score_clip_caption(sample.truth, caption)
    named = count_named(caption)
    counts = named == Counter({entity["noun"]: entity["count"] for entity in entities})
    ground = find_ground(caption) == sample.truth["ground"]
    return scores | {
        "exact_set": float(set(named) == present),
        "exact_counts": float(counts),
        "ground": float(ground),
        "exact_full": float(counts and ground),
    }
