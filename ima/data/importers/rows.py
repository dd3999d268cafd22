"""Rows: samples from a Hugging Face data set, or from anything that yields dicts."""

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
    id: _Column | None = None,  # as the field of a sample
    name: str = "rows",
    split: str = "test",
) -> SampleSet:
    """Make samples from rows, for example of a ``datasets.Dataset``.

    Parameters
    ----------
    rows : iterable of mapping
        Rows as the library yields them: PIL images, sounds as ``{"array", "sampling_rate"}`` or
        audio decoders, videos as arrays of frames.
    modality : {"text", "image", "video", "audio"}
        Kind of the media.
    task : str
        ``"caption"`` or ``"qa"``.
    references : str or callable
        The column of captions or answers, one or a list per row; or a function of the row.
    media : str or callable or None
        The column of the media.
    prompt : str or callable
        The text before the answer: a template with columns in braces, or a function of the row.
    id : str or callable or None
        The column of ids; None numbers the rows.
    name, split : str
        Name and split of the set.

    Returns
    -------
    SampleSet
        Media are kept in memory, each with its sha256.

    Raises
    ------
    SampleError
        If a row lacks a column, or a medium cannot be read.

    Examples
    --------
    >>> rows = [{"question": "cold ?", "answer": "yes"}]
    >>> samples = make_samples_from_rows(
    ...     rows, modality="text", task="qa", prompt="{question}", references="answer"
    ... )
    >>> samples[0].prompt, samples[0].references
    ('cold ?', ('yes',))
    """
    samples = []
    for number, row in enumerate(rows):
        where = f"{name}, row {number}"
        value = _value(row, references, where)
        texts = [value] if isinstance(value, str) else list(value)
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
                media=None if medium is None else partial(np.asarray, medium),
                digest=None if medium is None else hashlib.sha256(medium.tobytes()).hexdigest(),
            )
        )
    if not samples:
        raise SampleError(f"{name} holds no rows.")
    return SampleSet(name=name, split=split, samples=tuple(samples))


def open_hf_dataset(source: str, *, split: str) -> Any:
    """Open a Hugging Face data set: a folder of ``save_to_disk``, or an id of the hub.

    Parameters
    ----------
    source : str
        A folder, or an id; ``id:configuration`` where the data set has several.
    split : str
        Which split.

    Raises
    ------
    SampleError
        If the library is not installed, or there is no such data set or split.

    Examples
    --------
    >>> rows = open_hf_dataset("lmms-lab/POPE", split="test")  # doctest: +SKIP
    """
    try:
        import datasets
    except ImportError as error:
        raise SampleError(
            "Hugging Face data sets need their library: pip install datasets."
        ) from error
    try:
        if Path(source).is_dir():
            opened = datasets.load_from_disk(source)
            return opened[split] if isinstance(opened, Mapping) else opened
        name, _, configuration = source.partition(":")
        return datasets.load_dataset(name, configuration or None, split=split)
    # The library raises its own, the hub's and the system's errors, with no common base.
    except Exception as error:
        raise SampleError(
            f"Cannot open {source!r}, split {split!r}: {type(error).__name__}: {error}"
        ) from error


def _convert_media(value: Any, modality: Modality, where: str) -> Media:
    """Return the medium of a row in the form of :class:`ima.data.samples.Sample`.

    Raises
    ------
    SampleError
        If it is not of that modality.
    """
    from ima.data.media import resample_to_mono

    if modality == "image" and hasattr(value, "convert"):
        return np.asarray(value.convert("RGB"), dtype=np.uint8)
    if modality == "audio" and isinstance(value, Mapping) and "array" in value:
        return resample_to_mono(np.asarray(value["array"]), rate=int(value["sampling_rate"]))
    if modality == "audio" and hasattr(value, "get_all_samples"):
        decoded = value.get_all_samples()
        return resample_to_mono(np.asarray(decoded.data).T, rate=int(decoded.sample_rate))
    array = np.asarray(value) if modality in ("image", "video") else None
    if array is not None and array.dtype == np.uint8:
        return array
    raise SampleError(
        f"{where}: expected media of modality {modality!r}; found {type(value).__name__}."
    )


def _value(row: Mapping[str, Any], column: _Column, where: str) -> Any:
    if callable(column):
        return column(row)
    if column not in row:
        raise SampleError(f"{where}: no column {column!r}. Columns: {', '.join(map(str, row))}.")
    return row[column]


def _prompt(row: Mapping[str, Any], prompt: _Column, where: str) -> str:
    if callable(prompt):
        return str(prompt(row))
    try:
        return prompt.format_map(dict(row))
    except KeyError as error:
        raise SampleError(
            f"{where}: the prompt names column {error}. Columns: {', '.join(map(str, row))}."
        ) from error
