"""Rows: samples from a Hugging Face data set, or from anything that yields dicts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from ima.data.clips import check_clip
from ima.data.pictures import convert_picture, decode_picture, read_picture
from ima.data.samples import Media, Modality, Sample, SampleSet
from ima.data.sounds import convert_sound
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
    content: _Column | None = None,
    name: str = "rows",
    split: str = "test",
) -> SampleSet:
    """Make samples from rows, for example of a ``datasets.Dataset``.

    Parameters
    ----------
    rows : iterable of mapping
        Rows as the library yields them: PIL images or ``{"bytes", "path"}``, sounds as
        ``{"array", "sampling_rate"}`` or audio decoders, videos as arrays or lists of frames.
    modality : {"text", "image", "video", "audio"}
        Kind of the media.
    task : str
        ``"caption"`` or ``"qa"``.
    references : str or callable
        The column of captions or answers, one or a list per row; or a function of the row. A dot
        leads into records: ``answers.text``.
    media : str or callable or None
        The column of the media.
    prompt : str or callable
        The text before the answer: a template with columns in braces, or a function of the row.
        Texts and whole numbers are accepted in all columns of text.
    id : str or callable or None
        The column of ids; None numbers the rows.
    content : str or callable or None
        The column that rows of one content share, for example the id of a picture; None: each row
        is a content of its own.
    name, split : str
        Name and split of the set.

    Returns
    -------
    SampleSet
        Media are kept in memory, each with its sha256.

    Raises
    ------
    SampleError
        If a row lacks a column, holds no text where text is asked for, has the id of another row,
        or has a medium that cannot be read.

    Examples
    --------
    >>> rows = [{"question": "cold ?", "answer": "yes"}]
    >>> samples = make_samples_from_rows(
    ...     rows, modality="text", task="qa", prompt="{question}", references="answer"
    ... )
    >>> samples[0].prompt, samples[0].references
    ('cold ?', ('yes',))
    """
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows):
        where = f"{name}, row {number}"
        identity = str(number) if id is None else _read_text(_value(row, id, where), where, "id")
        if identity in seen:
            raise SampleError(f"{where}: row {seen[identity]} has the id {identity!r}, too.")
        seen[identity] = number
        medium = (
            None if media is None else _convert_media(_value(row, media, where), modality, where)
        )
        samples.append(
            Sample(
                id=identity,
                modality=modality,
                task=task,
                prompt=_prompt(row, prompt, where),
                references=_read_references(row, references, where),
                content=None
                if content is None
                else _read_text(_value(row, content, where), where, "content"),
                source=name,
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
    if modality == "image":
        return _convert_image(value, where)
    if modality == "video":
        frames = value if hasattr(value, "dtype") else list(value or ())
        if isinstance(frames, list) and frames and hasattr(frames[0], "convert"):
            frames = [convert_picture(frame, name=where) for frame in frames]
        return check_clip(np.asarray(frames), name=where)
    if isinstance(value, Mapping) and "array" in value:
        wave, rate = np.asarray(value["array"]), int(value["sampling_rate"])
        # The library puts channels first.
        wave = wave.T if wave.ndim == 2 and wave.shape[0] < wave.shape[1] else wave
        return convert_sound(wave, rate=rate, name=where)
    if hasattr(value, "get_all_samples"):
        decoded = value.get_all_samples()
        wave, rate = np.asarray(decoded.data).T, int(decoded.sample_rate)
        return convert_sound(wave, rate=rate, name=where)
    raise SampleError(f"{where}: expected a sound; found {type(value).__name__}.")


def _convert_image(value: Any, where: str) -> Media:
    from PIL import Image

    if isinstance(value, Mapping) and value.get("bytes"):
        return decode_picture(value["bytes"], name=where)
    if isinstance(value, Mapping) and value.get("path"):
        return read_picture(Path(value["path"]))
    if isinstance(value, np.ndarray):
        try:
            value = Image.fromarray(value)
        except TypeError as error:
            raise SampleError(
                f"{where}: an array of {value.dtype} with shape {value.shape} is no picture."
            ) from error
    if not hasattr(value, "convert"):
        raise SampleError(f"{where}: expected a picture; found {type(value).__name__}.")
    return convert_picture(value, name=where)


def _read_references(row: Mapping[str, Any], column: _Column, where: str) -> tuple[str, ...]:
    value = _value(row, column, where)
    values = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
    name = column if isinstance(column, str) else "the references"
    return tuple(_read_text(one, where, name) for one in values)


def _read_text(value: Any, where: str, column: _Column) -> str:
    """Return a text or a whole number as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Mapping):
        fields = ", ".join(f"{column}.{name}" for name in value)
        raise SampleError(f"{where}: {column!r} holds a record. Name one of its fields: {fields}.")
    raise SampleError(
        f"{where}: {column!r} holds {type(value).__name__} {value!r} where text is needed."
    )


def _value(row: Mapping[str, Any], column: _Column, where: str) -> Any:
    if callable(column):
        return column(row)
    if column in row:
        return row[column]
    found: Any = row
    for name in column.split("."):
        records = found if isinstance(found, list) else [found]
        if not all(isinstance(one, Mapping) and name in one for one in records):
            raise SampleError(
                f"{where}: no column {column!r}. Columns: {', '.join(map(str, row))}."
            )
        found = [one[name] for one in records] if isinstance(found, list) else found[name]
    return found


def _prompt(row: Mapping[str, Any], prompt: _Column, where: str) -> str:
    if callable(prompt):
        return _read_text(prompt(row), where, "the prompt")
    try:
        names = [name for _, name, _, _ in Formatter().parse(prompt) if name is not None]
        texts = {name: _read_text(_value(row, name, where), where, name) for name in names}
        return "".join(
            literal + ("" if name is None else texts[name])
            for literal, name, _, _ in Formatter().parse(prompt)
        )
    except ValueError as error:
        if isinstance(error, SampleError):
            raise
        raise SampleError(f"The prompt {prompt!r} is no template: {error}.") from error
