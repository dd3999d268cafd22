"""What the data of installed Debian packages registers: small sets that people drew and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from itertools import islice

from ima.data.samples import SPLITS, Sample, SampleSet
from ima.data.worlds import World, split_dataset_name
from ima.drawings.mentions import count_named, map_names
from ima.drawings.stamps import STAMPS_DATASET, list_stamp_samples
from ima.drawings.units import UNITS_DATASET, list_unit_samples
from ima.metrics.cider_bleu import tokenize_captions

_LISTS: Mapping[str, Callable[[str], Iterator[Sample]]] = {
    STAMPS_DATASET: list_stamp_samples,
    UNITS_DATASET: list_unit_samples,
}


def open_installed_dataset(name: str, *, n: int, seed: int = 0) -> SampleSet:
    """Open a data set that an installed Debian package carries; it holds what the package holds.

    Parameters
    ----------
    name : str
        ``tuxpaint-image-caption`` or ``wesnoth-video-caption``, with or without a split.
    n : int
        Number of samples, from the start; fewer if there are no more.
    seed : int
        Without effect: nothing is drawn at random.

    Raises
    ------
    UnknownNameError
        If there is no such data set or split.
    PartAbsentError
        If its package is not installed.

    Examples
    --------
    >>> open_installed_dataset("wesnoth-video-caption", n=1)[0].references  # doctest: +SKIP
    ('a drake arbiter attacks',)
    """
    del seed
    base, split = split_dataset_name(name, dict.fromkeys(_LISTS, SPLITS))
    return SampleSet(base, split, tuple(islice(_LISTS[base](split), n)))


def _owns(sample: Sample) -> bool:
    return sample.truth.get("world") in {"stamps", "units"}


def _list_objects(sample: Sample) -> tuple[Mapping[str, str], Set[str]]:
    if sample.truth["world"] == "units":
        return {}, set()
    return map_names(), set(sample.truth["nouns"])


def _score_caption(sample: Sample, caption: str) -> dict[str, float]:
    """Score whether a caption says who or what is there, and what a unit does.

    A stamp whose own caption names no noun of the world of drawings has no such score.
    """
    if sample.truth["world"] == "stamps":
        nouns = set(sample.truth["nouns"])
        return {"exact_set": float(set(count_named(caption)) == nouns)} if nouns else {}
    said, *true = tokenize_captions([caption, sample.truth["unit"], sample.truth["action"]])
    names = ("exact_unit", "exact_action")
    return {
        name: float(f" {words} " in f" {said} ") for name, words in zip(names, true, strict=True)
    }


WORLD = World(
    datasets=tuple(_LISTS),
    open_dataset=open_installed_dataset,
    owns=_owns,
    score_caption=_score_caption,
    objects=_list_objects,
)
