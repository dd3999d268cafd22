"""Data sets on disk: a folder with ``samples.jsonl`` and media files."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ima import media
from ima.errors import ParameterError, SampleError
from ima.samples import Modality, Sample, SampleSet

LINES = "samples.jsonl"


class Line(BaseModel):
    """One line of ``samples.jsonl``.

    Parameters
    ----------
    id : str
        Unique in the file.
    modality : {"text", "image", "video", "audio"}
        What the media is.
    task : str
        ``"caption"`` or ``"qa"``.
    prompt : str
        Text before the answer; may be empty where there are references.
    references : tuple of str
        Acceptable answers.
    truth : dict
        What is true of the sample.
    media : str or None
        File name relative to the folder; None for text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(min_length=1)
    modality: Modality
    task: str = Field(min_length=1)
    prompt: str = ""
    references: list[str] = []
    truth: dict[str, Any] = {}
    media: str | None = None


def read_manifest(path: Path, *, n: int | None = None) -> SampleSet:
    """Read a data set folder.

    Parameters
    ----------
    path : Path
        Folder that holds ``samples.jsonl``; media are read when a sample is loaded.
    n : int or None
        How many samples from the start; None takes all.

    Returns
    -------
    SampleSet
        Named after the folder, split ``test``.

    Raises
    ------
    SampleError
        If the file is missing or a line cannot be used; the message names file and line.
    ParameterError
        If the folder holds fewer than ``n`` samples.
    """
    file = Path(path) / LINES
    if not file.is_file():
        message = (
            f"{path} holds no {LINES}. Write one JSON object per sample: "
            f"{', '.join(Line.model_fields)}."
        )
        raise SampleError(message)
    lines: list[tuple[int, Line]] = []
    seen: dict[str, int] = {}
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        line = _parse(text, where=f"{file}, line {number}")
        if line.id in seen:
            message = f"{file}, line {number}: id {line.id!r} stands in line {seen[line.id]} too."
            raise SampleError(message)
        seen[line.id] = number
        lines.append((number, line))
    if not lines:
        message = f"{file} holds no samples."
        raise SampleError(message)
    if n is not None and not 1 <= n <= len(lines):
        message = f"samples must be between 1 and {len(lines)}, what {path} holds; got {n}."
        raise ParameterError(message)
    samples = tuple(
        _sample(line, folder=Path(path), where=f"{file}, line {number}")
        for number, line in lines[:n]
    )
    return SampleSet(name=Path(path).resolve().name, split="test", samples=samples)


def write_manifest(samples: SampleSet, path: Path) -> Path:
    """Write a set of samples as a data set folder.

    Parameters
    ----------
    samples : SampleSet
        Images become png, clips npz, sounds wav, all without loss.
    path : Path
        A folder that does not exist yet; it appears only when it is complete.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ParameterError
        If ``path`` exists.
    """
    path = Path(path)
    if path.exists():
        message = f"{path} exists. Choose another folder or remove it first."
        raise ParameterError(message)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        records = []
        for index, sample in enumerate(samples):
            record = sample.record()
            record.pop("digest", None)
            if sample.modality != "text":
                stem = partial_folder / "media" / f"{index:06d}"
                stem.parent.mkdir(exist_ok=True)
                written = media.write_media(sample.load(), stem, sample.modality)
                record["media"] = str(written.relative_to(partial_folder))
            records.append(json.dumps(record, ensure_ascii=False) + "\n")
        (partial_folder / LINES).write_text("".join(records), encoding="utf-8")
        partial_folder.chmod(0o755)
        partial_folder.rename(path)
    except BaseException:
        shutil.rmtree(partial_folder)
        raise
    return path


def _parse(text: str, *, where: str) -> Line:
    try:
        return Line.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        found = (
            "" if first["type"] in ("missing", "json_invalid") else f", found {first['input']!r}"
        )
        message = f"{where}: {field + ': ' if field else ''}{first['msg']}{found}."
        raise SampleError(message) from error


def _sample(line: Line, *, folder: Path, where: str) -> Sample:
    if not "".join([line.prompt, *line.references]).strip():
        message = f"{where}: empty text. Give {line.id!r} a prompt or a reference."
        raise SampleError(message)
    if (line.media is None) != (line.modality == "text"):
        found = "no media" if line.media is None else f"media {line.media!r}"
        message = f"{where}: {line.id!r} has modality {line.modality!r} and {found}."
        raise SampleError(message)
    sample = Sample(
        id=line.id,
        modality=line.modality,
        task=line.task,
        prompt=line.prompt,
        references=tuple(line.references),
        truth=line.truth,
    )
    if line.media is None:
        return sample
    file = folder / line.media
    if not file.exists():
        message = f"{where}: media {line.media!r} of {line.id!r} is not in {folder}."
        raise SampleError(message)
    load = partial(media.read_media, file, line.modality)
    return replace(sample, media=load, digest=media.digest(file))
