"""Rows: samples from a data set of Hugging Face's library, or anything that yields dicts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ima.data.samples import Media, Modality, Sample, SampleSet
from ima.errors import SampleError

_Column = str | Callable[[Mapping[str, Any]], Any]


def make_samples_from_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    modality: Modality,
    task: str,
    references: _Column,
    media: _Column | None = None,
    prompt: _Column = "",
    id: _Column | None = None,  # the field's name
    name: str = "rows",
    split: str = "test",
) -> SampleSet:
    """Make samples of rows, for example of a ``datasets.Dataset``.

    Parameters
    ----------
    rows : iterable of mapping
        Rows as the library gives them: pictures are PIL images, sounds are ``{"array",
        "sampling_rate"}`` or decoders of them, videos arrays of frames.
    modality : {"text", "image", "video", "audio"}
        What the media are.
    task : str
        ``"caption"`` or ``"qa"``.
    references : str or callable
        The column of captions or answers, one or a list; or what makes them of a row.
    media : str or callable or None
        The column of the medium.
    prompt : str or callable
        The text before the answer: a template with columns in braces, or what makes it of a row.
    id : str or callable or None
        The column of the id; None counts.
    name : str
        Of the set.
    split : str
        Of the set.

    Returns
    -------
    SampleSet
        Its media stay in the rows; each has its digest.

    Raises
    ------
    SampleError
        If a row lacks a column, or a medium cannot be read.
    """
    samples = []
    for number, row in enumerate(rows):
        where = f"{name}, row {number}"
        found = _value(row, references, where)
        texts = [found] if isinstance(found, str) else list(found)
        medium = (
            None if media is None else _convert_media(_value(row, media, where), modality, where)
        )
        samples.append(
            Sample(
                id=str(number if id is None else _value(row, id, where)),
                modality=modality,
                task=task,
                prompt=_prompt(row, prompt, where),
                references=tuple(str(text) for text in texts),
                media=None if medium is None else partial(_same, medium),
                digest=None if medium is None else hashlib.sha256(medium.tobytes()).hexdigest(),
            )
        )
    if not samples:
        message = f"{name} holds no rows."
        raise SampleError(message)
    return SampleSet(name=name, split=split, samples=tuple(samples))


def open_hf_dataset(source: str, *, split: str) -> Any:
    """Open a data set of Hugging Face's library: a folder that it saved, or an id of the hub.

    Parameters
    ----------
    source : str
        A folder of ``save_to_disk``, or an id; ``id:configuration`` where it has several.
    split : str
        Which split.

    Raises
    ------
    SampleError
        If the library is not installed, or there is no such data set or split.
    """
    try:
        import datasets
    except ImportError as error:
        message = "Data sets of Hugging Face need their library: pip install datasets."
        raise SampleError(message) from error
    try:
        if Path(source).is_dir():
            found = datasets.load_from_disk(source)
            return found[split] if isinstance(found, Mapping) else found
        name, _, configuration = source.partition(":")
        return datasets.load_dataset(name, configuration or None, split=split)
    # The library raises its own, the hub's and the system's errors, with no common base.
    except Exception as error:
        message = f"Cannot open {source!r}, split {split!r}: {type(error).__name__}: {error}"
        raise SampleError(message) from error


def _convert_media(value: Any, modality: Modality, where: str) -> Media:
    """Return a medium of a row as :class:`ima.data.samples.Sample` wants it.

    Raises
    ------
    SampleError
        If it is none of that modality.
    """
    from ima.data.media import resample_to_mono

    if modality == "image" and hasattr(value, "convert"):
        return np.asarray(value.convert("RGB"), dtype=np.uint8)
    if modality == "audio" and isinstance(value, Mapping) and "array" in value:
        return resample_to_mono(np.asarray(value["array"]), rate=int(value["sampling_rate"]))
    if modality == "audio" and hasattr(value, "get_all_samples"):
        read = value.get_all_samples()
        return resample_to_mono(np.asarray(read.data).T, rate=int(read.sample_rate))
    array = np.asarray(value) if modality in ("image", "video") else None
    if array is not None and array.dtype == np.uint8:
        return array
    message = f"{where}: a {type(value).__name__} is no {modality}."
    raise SampleError(message)


def _same(medium: Media) -> Media:
    return medium


def _value(row: Mapping[str, Any], column: _Column, where: str) -> Any:
    if callable(column):
        return column(row)
    if column not in row:
        message = f"{where}: no column {column!r}. Columns: {', '.join(map(str, row))}."
        raise SampleError(message)
    return row[column]


def _prompt(row: Mapping[str, Any], prompt: _Column, where: str) -> str:
    if callable(prompt):
        return str(prompt(row))
    try:
        return prompt.format_map(dict(row))
    except KeyError as error:
        message = f"{where}: the prompt names column {error}. Columns: {', '.join(map(str, row))}."
        raise SampleError(message) from error
