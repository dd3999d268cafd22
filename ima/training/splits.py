"""Samples of a training: a split of one data set or several, and media exchanged as a control."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ima.data.samples import SampleSet, open_samples
from ima.errors import ParameterError
from ima.models.perception import draw_derangement
from ima.training.settings import TrainingSettings


def list_datasets(data: str) -> list[str]:
    """Return the data sets that the setting ``data`` names.

    Examples
    --------
    >>> list_datasets("drawings-image-caption,drawings-image-qa")
    ['drawings-image-caption', 'drawings-image-qa']
    """
    return [data] if Path(data).is_dir() else [name.strip() for name in data.split(",")]


def open_training_split(settings: TrainingSettings, split: str, samples: int | None) -> SampleSet:
    """Open a split of a training's data, with other samples' media if the training asks for it.

    Parameters
    ----------
    settings : TrainingSettings
        Its ``data``, ``permuted`` and ``seed`` count.
    split : str
        ``train`` or ``validation``.
    samples : int or None
        At most so many of each data set.

    Raises
    ------
    ParameterError
        If the data sets are of several modalities.

    Examples
    --------
    >>> len(open_training_split(settings, "train", 100))  # doctest: +SKIP
    100
    """
    data = _open_split(settings.data, split, samples)
    return exchange_media(data, seed=settings.seed) if settings.permuted else data


def exchange_media(data: SampleSet, *, seed: int) -> SampleSet:
    """Give each sample the medium of another one, none that of its own content.

    Raises
    ------
    ParameterError
        If more than half of the samples show one content.

    Examples
    --------
    >>> data = open_samples("mini-image-caption", n=3)
    >>> [own.references for own in exchange_media(data, seed=0)] == [own.references for own in data]
    True
    """
    contents = [sample.content_key for sample in data]
    giver = draw_derangement(len(data), seed=seed, contents=contents)
    exchanged = (
        replace(sample, media=data[giver[row]].media, digest=data[giver[row]].digest)
        for row, sample in enumerate(data)
    )
    return SampleSet(data.name, data.split, tuple(exchanged))


def _open_split(data: str, split: str, samples: int | None) -> SampleSet:
    """Open a split; that of several data sets is theirs, one after the other."""
    sets = [
        open_samples(f"{name}:{split}", n=samples, at_most=True) for name in list_datasets(data)
    ]
    joined = tuple(sample for own in sets for sample in own)
    modalities = sorted({sample.modality for sample in joined})
    if len(modalities) > 1:
        raise ParameterError(
            f"A model is trained on one modality; {data!r} has {' and '.join(modalities)}."
        )
    return SampleSet(data, split, joined)
