"""The named data sets of the world of drawings; seed, split and index determine a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ima.data.samples import SPLITS, Sample, SampleSet
from ima.data.worlds import split_dataset_name
from ima.drawings.clip_samples import CLIP_TASKS
from ima.drawings.contents import VARIETIES
from ima.drawings.pictures import PICTURE_TASKS, make_told_sample
from ima.drawings.situations import Situation


@dataclass(frozen=True)
class _Recipe:
    """How the samples of a data set are made, and whether it has the split ``test`` only."""

    make: Callable[[Situation], Sample]
    modality: str
    variety: str = "known"

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS if self.variety == "known" else ("test",)


def _list_recipes() -> dict[str, _Recipe]:
    recipes = {}
    for modality, tasks in (("image", PICTURE_TASKS), ("video", CLIP_TASKS)):
        for task, make in tasks.items():
            recipes[f"drawings-{modality}-{task}"] = _Recipe(make, modality)
        for task in ("caption", "qa"):
            for variety in VARIETIES[1:]:
                name = f"drawings-{modality}-{task}-{variety}"
                recipes[name] = _Recipe(tasks[task], modality, variety)
    return recipes | {"drawings-text-qa": _Recipe(make_told_sample, "image")}


_RECIPES: Mapping[str, _Recipe] = MappingProxyType(_list_recipes())
DATASET_NAMES: tuple[str, ...] = tuple(_RECIPES)


def open_drawings_dataset(name: str, *, n: int, seed: int = 0) -> SampleSet:
    """Open a data set of the world of drawings.

    Parameters
    ----------
    name : str
        One of :data:`DATASET_NAMES`, followed by ``:train``, ``:calibration``, ``:validation`` or
        ``:test``; the default split is ``test``. Data sets of unseen things have no other split.
    n : int
        Number of samples, from the start of the split.
    seed : int
        Seed of the world.

    Raises
    ------
    UnknownNameError
        If there is no such data set or split.
    PartAbsentError
        If the drawings were not fetched.

    Examples
    --------
    >>> sample = open_drawings_dataset("drawings-image-caption", n=1)[0]  # doctest: +SKIP
    >>> sample.modality, sample.load().shape  # doctest: +SKIP
    ('image', (224, 224, 3))
    """
    base, split = split_dataset_name(name, {key: each.splits for key, each in _RECIPES.items()})
    recipe = _RECIPES[base]
    situations = (
        Situation(recipe.modality, split, recipe.variety, index, seed) for index in range(n)
    )
    return SampleSet(base, split, tuple(map(recipe.make, situations)))
