"""Data folders: ``samples.jsonl`` with one record per sample, beside the media files."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from ima.data import media
from ima.data.sample_records import (
    SAMPLES_FILE,
    SampleRecord,
    describe_format,
    make_sample_record,
    parse_sample_record,
)
from ima.data.samples import Sample, SampleSet
from ima.data.text_files import read_text_file, split_lines
from ima.data.worlds import world_of
from ima.errors import ParameterError, SampleError
from ima.files import replace_folder


def read_data_folder(
    path: Path, *, n: int | None = None, split: str = "test", at_most: bool = False
) -> SampleSet:
    """Read a data folder.

    Parameters
    ----------
    path : Path
        Folder that holds ``samples.jsonl``; media are read when a sample is loaded.
    n : int or None
        Number of samples from the start; None takes all.
    split : str
        Which split; records that name none belong to ``test``.
    at_most : bool
        Whether to accept fewer than ``n`` samples.

    Returns
    -------
    SampleSet
        Named after the folder.

    Raises
    ------
    SampleError
        If the file is missing or a line cannot be used; the message names file and line.
    ParameterError
        If the folder holds fewer than ``n`` samples.

    Examples
    --------
    >>> read_data_folder(Path("data/vqav2"), n=100)[0].prompt  # doctest: +SKIP
    'What colour is the bus? Answer the question using a single word or phrase.'
    """
    every = list(_lines(Path(path)))
    lines = [(where, line) for where, line in every if line.split == split]
    if not lines:
        splits = ", ".join(sorted({line.split for _, line in every})) or "none at all"
        raise SampleError(
            f"{Path(path) / SAMPLES_FILE} holds no samples of split {split!r}; found {splits}."
        )
    if n is not None and not at_most and not 1 <= n <= len(lines):
        held = f"what {path} holds of split {split!r}"
        raise ParameterError(f"samples must be between 1 and {len(lines)}, {held}; got {n}.")
    # Several questions about one picture read it once.
    digests: dict[Path, str] = {}
    samples = tuple(
        make_folder_sample(line, folder=Path(path), where=where, digests=digests)
        for where, line in lines[:n]
    )
    return SampleSet(name=Path(path).resolve().name, split=split, samples=samples)


def write_data_folder(samples: SampleSet, path: Path) -> Path:
    """Write a set of samples as a data folder.

    Parameters
    ----------
    samples : SampleSet
        Images become png, videos npz and sounds wav, all without loss. The split is kept.
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
    SampleError
        If a sample cannot be written: a medium is missing, its truth is no JSON, two have one id.

    Examples
    --------
    >>> from ima.data.samples import open_samples
    >>> write_data_folder(open_samples("mini-image-qa", n=3), Path("three"))  # doctest: +SKIP
    PosixPath('three')
    """
    with _complete(path) as folder:
        lines = []
        for index, sample in enumerate(samples):
            record = sample.record()
            record.pop("digest", None)
            record["split"] = samples.split
            if world_of(sample) is not None:
                # In a folder, an id alone is no content.
                record["content"] = sample.content_key
            if sample.modality != "text":
                stem = folder / "media" / f"{index:06d}"
                stem.parent.mkdir(exist_ok=True)
                written = media.write_media(sample.load(), stem, sample.modality)
                record["media"] = str(written.relative_to(folder))
            lines.append(make_sample_record(record))
        _write_lines(lines, folder)
    return Path(path)


def write_sample_records(
    lines: Sequence[SampleRecord], path: Path, *, media: Sequence[Path | None]
) -> Path:
    """Write a data folder for media that are files already; samples may share a file.

    Parameters
    ----------
    lines : sequence of SampleRecord
        One per sample; their own ``media`` are ignored.
    path : Path
        A folder that does not exist yet; it appears only when it is complete.
    media : sequence of Path or None
        The medium of each sample: a file, or a folder of frames. It is linked where the file system
        allows it, copied elsewhere.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ParameterError
        If ``path`` exists.
    SampleError
        If two samples have one id.

    Examples
    --------
    >>> record = SampleRecord(id="1", modality="image", task="qa", references=["yes"])
    >>> write_sample_records([record], Path("one"), media=[Path("cat.png")])  # doctest: +SKIP
    PosixPath('one')
    """
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for source in media:
        if source is not None and source not in names:
            # Names that are no Unicode are written with question marks.
            own = source.name.encode(errors="replace").decode()
            numbered = (f"{number:06d}-{own}" for number in itertools.count(len(names)))
            # On some disks, names that differ by case only are one.
            name = next(
                each
                for each in itertools.chain([own] if own == source.name else [], numbered)
                if each.casefold() not in taken
            )
            names[source] = f"media/{name}"
            taken.add(name.casefold())
    with _complete(path) as folder:
        for source, name in names.items():
            _link(source, folder / name)
        named = zip(lines, media, strict=True)
        _write_lines(
            [
                line.model_copy(update={"media": None if source is None else names[source]})
                for line, source in named
            ],
            folder,
        )
    return Path(path)


def _write_lines(lines: Sequence[SampleRecord], folder: Path) -> None:
    """Write the file of samples.

    Raises
    ------
    SampleError
        If two samples have one id.
    """
    places: dict[str, int] = {}
    for place, line in enumerate(lines):
        if line.id in places:
            raise SampleError(
                f"Samples {places[line.id]} and {place}, counted from 0, both have the id "
                f"{line.id!r}. Ids must be unique."
            )
        places[line.id] = place
    text = "".join(line.as_line() + "\n" for line in lines)
    (folder / SAMPLES_FILE).write_bytes(text.encode())


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``path`` when all is written; an error leaves nothing."""
    path = Path(path)
    if path.exists():
        raise ParameterError(f"{path} exists. Choose another folder or remove it first.")
    with replace_folder(path) as folder:
        yield folder


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
        return
    # A link to a symbolic link would lead out of the folder.
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise
        shutil.copyfile(source, target)


def _lines(folder: Path) -> Iterator[tuple[str, SampleRecord]]:
    """Yield where each line of a data folder stands, and its record."""
    for where, _, line in read_sample_lines(folder):
        if isinstance(line, SampleError):
            raise line
        yield where, line


def read_sample_lines(folder: Path) -> Iterator[tuple[str, int, SampleRecord | SampleError]]:
    """Read the lines of a data folder, good and bad ones.

    Parameters
    ----------
    folder : Path
        The folder.

    Yields
    ------
    where : str
        File and line, for messages.
    number : int
        Number of the line, from 1.
    line : SampleRecord or SampleError
        Its record, or why it has none.

    Raises
    ------
    SampleError
        If there is no file of samples, or it is no text.

    Examples
    --------
    >>> [number for _, number, _ in read_sample_lines(Path("data/vqav2"))][:3]  # doctest: +SKIP
    [1, 2, 3]
    """
    file = folder / SAMPLES_FILE
    if not file.is_file():
        raise SampleError(_describe_lack(folder))
    seen: dict[str, int] = {}
    content = read_text_file(file)
    if _holds_one_list(content):
        raise SampleError(
            f"{file} is one JSON array. Write one object in each line, without brackets and commas "
            "around them."
        )
    for number, text in split_lines(content):
        where = f"{file}, line {number}"
        try:
            line = parse_sample_record(text, where=where)
            if line.id in seen:
                raise SampleError(f"{where}: id {line.id!r} stands in line {seen[line.id]} too.")
        except SampleError as error:
            yield where, number, error
            continue
        seen[line.id] = number
        yield where, number, line


def _describe_lack(folder: Path) -> str:
    """Say why there is no file of samples, and how to make one."""
    if not folder.exists():
        return f"There is no folder {folder}. {describe_format()}"
    if not folder.is_dir():
        return f"{folder} is a file. Give the folder that holds {SAMPLES_FILE}: {folder.parent}."
    held = sorted(path.name for path in folder.iterdir())
    more = f" and {len(held) - 5} more" if len(held) > 5 else ""
    found = f"{', '.join(held[:5])}{more}" if held else "nothing"
    return f"{folder} holds no {SAMPLES_FILE}; found {found}. {describe_format()}"


def _holds_one_list(content: str) -> bool:
    """Return whether a file is one JSON list, which json.dump makes of a list of samples."""
    if not content.lstrip().startswith("["):
        return False
    try:
        return isinstance(json.loads(content), list)
    except (ValueError, RecursionError):
        return False


def make_folder_sample(
    line: SampleRecord, *, folder: Path, where: str, digests: dict[Path, str] | None = None
) -> Sample:
    """Make the sample of a record; its medium is read when it is loaded.

    Parameters
    ----------
    line : SampleRecord
        The record.
    folder : Path
        Its folder.
    where : str
        File and line, for messages.
    digests : dict, optional
        The sha256 of media that were read before, by file; those of others are added.

    Raises
    ------
    SampleError
        If it has no text, or its medium is missing, is not in the folder, or cannot be opened.

    Examples
    --------
    >>> line = SampleRecord(id="1", modality="text", task="qa", references=["yes"])
    >>> make_folder_sample(line, folder=Path("data"), where="line 1").references
    ('yes',)
    """
    if not "".join([line.prompt, *line.references]).strip():
        raise SampleError(f"{where}: empty text. Give {line.id!r} a prompt or a reference.")
    if (line.media is None) != (line.modality == "text"):
        found = "no media" if line.media is None else f"media {line.media!r}"
        raise SampleError(f"{where}: {line.id!r} has modality {line.modality!r} and {found}.")
    sample = Sample(
        id=line.id,
        modality=line.modality,
        task=line.task,
        prompt=line.prompt,
        references=tuple(line.references),
        truth=line.truth,
        content=line.content,
        source=str(folder.resolve()),
    )
    if line.media is None:
        return sample
    file = folder / line.media
    if not file.resolve().is_relative_to(folder.resolve()):
        raise SampleError(f"{where}: media {line.media!r} of {line.id!r} lies outside {folder}.")
    if not file.exists():
        raise SampleError(f"{where}: media {line.media!r} of {line.id!r} is not in {folder}.")
    load = partial(media.read_media, file, line.modality)
    digests = {} if digests is None else digests
    if file not in digests:
        digests[file] = media.hash_media(file)
    return replace(sample, media=load, digest=digests[file])
