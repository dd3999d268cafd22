"""Published samples: what an importer yields, and the data folder that is made of them."""

from __future__ import annotations

import csv
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ima.data.folders import SampleRecord, write_sample_records
from ima.data.samples import Modality
from ima.errors import ParameterError, SampleError, UnknownNameError

logger = logging.getLogger("ima")

_CAPTION_PROMPTS = {
    "image": "Describe the image in one sentence.",
    "video": "Describe the video in one sentence.",
    "audio": "Describe the sound in one sentence.",
}
_ANSWER_PROMPT = "{question} Answer the question using a single word or phrase."


@dataclass(frozen=True)
class PublishedSample:
    """One sample of a published data set.

    Parameters
    ----------
    id : str
        Id that the publisher gave.
    modality : {"text", "image", "video", "audio"}
        Kind of the medium.
    task : str
        ``"caption"`` or ``"qa"``.
    references : tuple of str
        Captions or answers.
    media : Path or None
        File of the medium.
    question : str
        Text of the question, where there is one.
    truth : dict
        Other ground truth.

    Examples
    --------
    >>> cat = PublishedSample("7", "image", "qa", ("yes",), None, question="Is it a cat?")
    >>> cat.prompt(None)
    'Is it a cat? Answer the question using a single word or phrase.'
    """

    id: str
    modality: Modality
    task: str
    references: tuple[str, ...]
    media: Path | None
    question: str = ""
    truth: dict[str, Any] = field(default_factory=dict)

    def prompt(self, template: str | None) -> str:
        """Return the text before the answer: a template, or the usual one of the task."""
        chosen = template or (
            _CAPTION_PROMPTS.get(self.modality, "") if self.task == "caption" else _ANSWER_PROMPT
        )
        return chosen.replace("{question}", self.question)


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a data set, as downloaded.

    Parameters
    ----------
    annotations : tuple of Path
        Annotation files, in any order; importers recognise them by their contents.
    media : Path or None
        The folder of media.

    Examples
    --------
    >>> PublishedFiles((), Path("val2014")).file("1.jpg", "1.png").as_posix()
    'val2014/1.jpg'
    """

    annotations: tuple[Path, ...]
    media: Path | None = None

    @cached_property
    def documents(self) -> list[Any]:
        """The contents of the annotation files, which are JSON; each is read once.

        Raises
        ------
        SampleError
            If a file is not JSON.
        """
        documents = []
        for path in self.annotations:
            try:
                documents.append(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise _unreadable(path, error) from error
        return documents

    def document(self, *keys: str) -> dict[str, Any]:
        """Return the contents of the JSON file that has some keys.

        Raises
        ------
        SampleError
            If no file has them.
        """
        for document in self.documents:
            if isinstance(document, dict) and set(keys) <= document.keys():
                return document
        names = ", ".join(str(path) for path in self.annotations) or "none given"
        raise SampleError(
            f"No annotation file holds {' and '.join(map(repr, keys))}. Files: {names}."
        )

    def lines(self) -> Iterator[dict[str, Any]]:
        """Read the annotation files, which hold one JSON object per line.

        Raises
        ------
        SampleError
            If a line is not JSON.
        """
        for path in self.annotations:
            for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if text.strip():
                    try:
                        yield json.loads(text)
                    except ValueError as error:
                        raise _unreadable(path, error, line=number) from error

    def tables(self, *columns: str) -> Iterator[dict[str, str]]:
        """Read the annotation files, which are tables with a header, row by row.

        Raises
        ------
        SampleError
            If a table lacks a column.
        """
        for path in self.annotations:
            with path.open(encoding="utf-8", errors="replace", newline="") as file:
                reader = csv.DictReader(file)
                missing = set(columns) - set(reader.fieldnames or ())
                if missing:
                    found = ", ".join(reader.fieldnames or ()) or "nothing"
                    raise SampleError(
                        f"{path} lacks the columns {', '.join(sorted(missing))}; found {found}."
                    )
                yield from reader

    def file(self, *names: str) -> Path:
        """Return the first of some file names that exists, or the first of all."""
        folder = self.media or Path()
        return next(
            (folder / name for name in names if (folder / name).exists()), folder / names[0]
        )


def sort_answers_by_frequency(answers: Sequence[Any]) -> tuple[str, ...]:
    """Return all answers, the most frequent first: teacher forcing reads that one.

    Examples
    --------
    >>> sort_answers_by_frequency(["red", "blue", "blue"])
    ('blue', 'blue', 'red')
    """
    texts = [str(answer) for answer in answers]
    return tuple(sorted(texts, key=lambda text: (-texts.count(text), texts.index(text))))


def import_data(
    kind: str,
    *,
    annotations: Sequence[Path],
    media: Path | None,
    out: Path,
    samples: int | None = None,
    prompt: str | None = None,
    skip_missing: bool = False,
) -> Path:
    """Turn a published data set into a data folder.

    Parameters
    ----------
    kind : str
        A name of :func:`ima.data.importers.registry.load_importers`.
    annotations : sequence of Path
        Its annotation files, in any order.
    media : Path or None
        The folder of its media; None where it has none.
    out : Path
        A folder that does not exist yet; it appears only when it is complete.
    samples : int or None
        Number of samples from the start; None takes all.
    prompt : str or None
        Text before the answer, in which ``{question}`` stands for the sample's question.
    skip_missing : bool
        Whether to leave out samples whose media are missing.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UnknownNameError
        If there is no such importer.
    ParameterError
        If ``out`` exists, or an input file does not.
    SampleError
        If the files are not of that kind, hold no samples, or media are missing.

    Examples
    --------
    >>> import_data(  # doctest: +SKIP
    ...     "coco",
    ...     annotations=[Path("captions_val2017.json")],
    ...     media=Path("val2017"),
    ...     out=Path("data/coco"),
    ... )
    PosixPath('data/coco')
    """
    from ima.data.importers.registry import load_importers

    importers = load_importers()
    if kind not in importers:
        raise UnknownNameError.among(kind="importer", asked=kind, available=sorted(importers))
    for path in [*annotations, *([] if media is None else [media])]:
        if not path.exists():
            raise ParameterError(f"{path} does not exist. {importers[kind].needs}")
    published = PublishedFiles(tuple(annotations), media)
    try:
        entries = _present(importers[kind].read(published), skip=skip_missing, samples=samples)
    except (KeyError, TypeError, AttributeError) as error:
        raise SampleError(
            f"The files are not as {kind} publishes them: {type(error).__name__} {error}. "
            f"{importers[kind].needs}"
        ) from error
    if not entries:
        raise SampleError(f"The files hold no sample of {kind}. {importers[kind].needs}")
    lines = [
        SampleRecord(
            id=entry.id,
            modality=entry.modality,
            task=entry.task,
            prompt=entry.prompt(prompt),
            references=list(entry.references),
            truth=entry.truth,
        )
        for entry in entries
    ]
    return write_sample_records(lines, out, media=[entry.media for entry in entries])


def _present(
    entries: Iterator[PublishedSample], *, skip: bool, samples: int | None
) -> list[PublishedSample]:
    """Return the samples whose media exist, and report the others."""
    missing: list[PublishedSample] = []

    def existing() -> Iterator[PublishedSample]:
        for entry in entries:
            if entry.media is None or entry.media.exists():
                yield entry
            else:
                missing.append(entry)
                if not skip and len(missing) >= 20:
                    return

    kept = list(itertools.islice(existing(), samples))
    if missing:
        names = ", ".join(f"{entry.id!r} ({entry.media})" for entry in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        if not skip:
            raise SampleError(f"Media are missing: {names}{more}. Leave them out: --skip-missing.")
        logger.warning("left out, media are missing: %s%s", names, more)
    return kept


def _unreadable(path: Path, error: Exception, *, line: int | None = None) -> SampleError:
    where = f"{path}, line {line}" if line else str(path)
    return SampleError(f"{where} is not JSON: {error}.")
