"""Samples: a medium, a prompt, reference answers, and the ground truth where it is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from ima.errors import ParameterError, SampleError, UnknownNameError

Modality = Literal["text", "image", "video", "audio"]
MODALITIES: tuple[Modality, ...] = ("text", "image", "video", "audio")
SPLITS = ("train", "calibration", "validation", "test")
Media = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """One input with its references and its ground truth.

    Parameters
    ----------
    id : str
        Unique within its set.
    modality : {"text", "image", "video", "audio"}
        Kind of the medium; ``"text"`` has none.
    task : str
        ``"caption"`` or ``"qa"``.
    prompt : str
        Text before the answer.
    references : tuple of str
        Acceptable answers; teacher forcing uses the first.
    truth : mapping
        Ground truth, for example ``{"objects": [...]}``; JSON-serialisable.
    media : callable or None
        Returns the medium: an image ``(height, width, channel)`` uint8, a video
        ``(frame, height, width, channel)`` uint8, a sound ``(time,)`` float32 in [-1, 1] at 16 kHz.
    digest : str or None
        The sha256 of a medium that is read from a file. A generated medium follows from the other
        fields and has none.
    content : str or None
        What the sample shows. Samples of one content, a caption and a question about one picture,
        are one unit for statistics, within and across data sets. None: see :attr:`content_key`.
    source : str
        Where the sample was read from, if not from a world.

    Examples
    --------
    >>> sample = Sample("1", "text", "qa", "question : is ice cold ? answer :", ("yes",))
    >>> sample.references[0]
    'yes'
    """

    id: str
    modality: Modality
    task: str
    prompt: str
    references: tuple[str, ...]
    truth: Mapping[str, Any] = field(default_factory=dict)
    media: Callable[[], Media] | None = field(default=None, compare=False, repr=False)
    digest: str | None = None
    content: str | None = None
    source: str = field(default="", compare=False, repr=False)

    @property
    def content_key(self) -> str:
        """The content; of a world the id, and from elsewhere an id that no other source has."""
        if self.content is not None:
            return self.content
        return f"{self.source}/{self.id}" if self.source else self.id

    def load(self) -> Media:
        """Return the medium.

        Raises
        ------
        SampleError
            If the sample has no medium.
        """
        if self.media is None:
            raise SampleError(
                f"Sample {self.id!r} has modality {self.modality!r} and no media. "
                "Give each non-text sample a media file, or set its modality to 'text'."
            )
        return self.media()

    def get_target(self) -> str:
        """Return the answer that teacher forcing reads: the first reference.

        Raises
        ------
        SampleError
            If there is none, or it is blank.
        """
        target = self.references[0].strip() if self.references else ""
        if not target:
            raise SampleError(
                f"Sample {self.id!r} has no reference text. Give it a prompt and at least one "
                "reference."
            )
        return target

    def record(self) -> dict[str, Any]:
        """Return the sample without its medium, as JSON-serialisable values."""
        record = {
            "id": self.id,
            "modality": self.modality,
            "task": self.task,
            "prompt": self.prompt,
            "references": list(self.references),
            "truth": dict(self.truth),
        }
        optional = {"digest": self.digest, "content": self.content}
        return record | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True)
class SampleSet(Sequence[Sample]):
    """A named, ordered, finite set of samples.

    Parameters
    ----------
    name : str
        Name of the data set, without its split.
    split : str
        ``train``, ``calibration``, ``validation`` or ``test``.
    samples : tuple of Sample
        The samples, in order.

    Examples
    --------
    >>> samples = SampleSet("ice", "test", (Sample("1", "text", "qa", "cold ?", ("yes",)),))
    >>> len(samples), samples[0].prompt
    (1, 'cold ?')
    """

    name: str
    split: str
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> SampleSet: ...
    def __getitem__(self, index: int | slice) -> Sample | SampleSet:
        if isinstance(index, slice):
            return replace(self, samples=self.samples[index])
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @property
    def fingerprint(self) -> str:
        """The sha256 over the records of all samples, which determine their media."""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(json.dumps(sample.record(), sort_keys=True).encode())
        return digest.hexdigest()


def open_samples(
    name: str, *, n: int | None = None, seed: int = 0, at_most: bool = False
) -> SampleSet:
    """Open a data set by name or by folder.

    Parameters
    ----------
    name : str
        A named data set such as ``"mini-image-caption"``, or a folder that holds
        ``samples.jsonl``. A split may follow after a colon: ``:train``, ``:calibration``,
        ``:validation`` or ``:test``, the default.
    n : int or None
        Number of samples from the start. None takes all samples of a folder, or 200 of a named data
        set, most of which are generated and have no end.
    seed : int
        Seed of a generated data set.
    at_most : bool
        Whether to accept fewer than ``n`` samples where there are fewer.

    Returns
    -------
    SampleSet
        The samples, in a fixed order: the first ``n`` of ``n + m`` are the same.

    Raises
    ------
    UnknownNameError
        If no such data set exists.
    ParameterError
        If ``n`` is not positive, or there are fewer samples.

    Examples
    --------
    >>> samples = open_samples("mini-image-qa:train", n=2)
    >>> samples.split, len(samples), samples[0].modality
    ('train', 2, 'image')
    """
    from pathlib import Path

    from ima.data.worlds import open_named_dataset

    if n is not None and n < 1:
        raise ParameterError(f"samples must be at least 1; got {n}.")
    folder, _, split = name.rpartition(":")
    if Path(name).is_dir():
        folder, split = name, "test"
    if folder and split not in SPLITS and Path(folder).is_dir():
        raise UnknownNameError.among(f"split of {folder}", split, SPLITS)
    if split in SPLITS and folder and Path(folder).is_dir():
        from ima.data.folders import read_data_folder

        return read_data_folder(Path(folder), n=n, split=split, at_most=at_most)
    samples = open_named_dataset(name, n=200 if n is None else n, seed=seed)
    if n is not None and len(samples) < n and not at_most:
        raise ParameterError(f"{name} holds {len(samples)} samples; {n} were requested.")
    return samples


def convert_to_uint8(media: Media) -> npt.NDArray[np.uint8]:
    """Return pixels as uint8 and refuse any other dtype.

    Raises
    ------
    SampleError
        If the array is not uint8.

    Examples
    --------
    >>> convert_to_uint8(np.zeros((2, 2, 3), np.uint8)).shape
    (2, 2, 3)
    """
    if media.dtype != np.uint8:
        raise SampleError(f"Pixels must be uint8 in 0…255; found {media.dtype}.")
    return media
