"""Published samples: what an importer yields, and the data folder that is made of them."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ima.data.folders import write_sample_records
from ima.data.sample_records import describe_validation_error, make_sample_record
from ima.data.samples import SPLITS, Modality
from ima.data.text_files import iterate_table_rows, parse_json, read_text_file, split_lines
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
    content : str
        What the sample shows; empty: the name of its medium, where there is one.
    split : str
        One of :data:`ima.data.samples.SPLITS`, where the publisher states it; empty elsewhere.

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
    content: str = ""
    split: str = ""

    def prompt(self, template: str | None) -> str:
        """Return the text before the answer: a template, or the usual one of the task."""
        chosen = template or (
            _CAPTION_PROMPTS.get(self.modality, "") if self.task == "caption" else _ANSWER_PROMPT
        )
        if self.task == "caption" and "{question}" in chosen:
            raise SampleError(f"The prompt asks for the question of {self.id!r}, which has none.")
        return chosen.replace("{question}", self.question)


class PublishedRecord(BaseModel):
    """Base of the records of a publisher's file: what an importer reads of each, and its types.

    Examples
    --------
    >>> class Answer(PublishedRecord):
    ...     answer: Text
    >>> Answer.model_validate({"answer": 3, "confidence": "yes"}).answer
    '3'
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


def accept_whole_number(value: Any) -> Any:
    """Return a whole number as text, and everything else as it is.

    Examples
    --------
    >>> accept_whole_number(3), accept_whole_number(None), accept_whole_number("red")
    ('3', None, 'red')
    """
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


#: A text; publishers write some ids and answers as whole numbers.
Text = Annotated[str, BeforeValidator(accept_whole_number)]
_Record = TypeVar("_Record", bound=PublishedRecord)


@dataclass(frozen=True)
class PublishedDocument:
    """An annotation file that is JSON.

    Parameters
    ----------
    path : Path
        The file.
    content : object
        What it holds.

    Examples
    --------
    >>> document = PublishedDocument(Path("q.json"), {"questions": [{"question_id": 1}]})
    >>> document.get("data_subtype", "val2014")
    'val2014'
    """

    path: Path
    content: Any

    def holds(self, *keys: str) -> bool:
        """Return whether the file holds an object with all of some keys."""
        return isinstance(self.content, dict) and set(keys) <= self.content.keys()

    def get(self, key: str, default: str) -> str:
        """Return a text of the file's object, or a default."""
        found = self.content.get(key, default)
        return found if isinstance(found, str) else default

    def records(self, key: str, model: type[_Record]) -> Iterator[_Record]:
        """Yield the records of a list of the file.

        Raises
        ------
        SampleError
            If there is no such list, or a record is not as the model says.
        """
        found = self.content.get(key)
        if not isinstance(found, list):
            raise SampleError(f"{self.path}: {key!r} should hold a list of records.")
        for number, record in enumerate(found):
            yield parse_record(model, record, where=f"{self.path}, {key}[{number}]")

    def entries(self, model: type[_Record]) -> Iterator[tuple[str, _Record]]:
        """Yield the records of a file that holds one object, with their names.

        Raises
        ------
        SampleError
            If the file holds no object, or a record is not as the model says.
        """
        if not isinstance(self.content, dict):
            raise SampleError(f"{self.path} should hold one object with a record for each name.")
        for name, record in self.content.items():
            yield name, parse_record(model, record, where=f"{self.path}, {name!r}")


def parse_record(model: type[_Record], record: Any, *, where: str) -> _Record:
    """Return a publisher's record with the types that its model says.

    Raises
    ------
    SampleError
        If a field is missing or of another type; the message begins with ``where``.

    Examples
    --------
    >>> class Answer(PublishedRecord):
    ...     answer: Text
    >>> parse_record(Answer, {"answer": "red"}, where="answers.json, line 1").answer
    'red'
    """
    try:
        return model.model_validate(record)
    except ValidationError as error:
        raise SampleError(f"{where}: {describe_validation_error(error)}") from error


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a data set, as downloaded.

    Parameters
    ----------
    annotations : tuple of Path
        Annotation files, in any order; importers recognise them by their contents.
    media : Path or None
        The folder of media.
    encoding : str or None
        Encoding of the annotation files; None: UTF-8, or what a byte order mark says.

    Examples
    --------
    >>> PublishedFiles((), Path("val2014")).file("1.jpg", "1.png").as_posix()
    'val2014/1.jpg'
    """

    annotations: tuple[Path, ...]
    media: Path | None = None
    encoding: str | None = None

    def text(self, path: Path) -> str:
        """Return the text of an annotation file.

        Raises
        ------
        SampleError
            If it is not in the encoding.
        """
        return read_text_file(path, encoding=self.encoding, option="--encoding")

    @cached_property
    def documents(self) -> list[PublishedDocument]:
        """The annotation files, which are JSON; each is read once.

        Raises
        ------
        SampleError
            If a file is not JSON.
        """
        return [
            PublishedDocument(path, parse_json(self.text(path), where=path))
            for path in self.annotations
        ]

    def document(self, *keys: str) -> PublishedDocument:
        """Return the JSON file that has some keys.

        Raises
        ------
        SampleError
            If no file has them, or several have.
        """
        first, *others = self.find_documents(*keys)
        if others:
            names = ", ".join(str(document.path) for document in (first, *others))
            raise SampleError(
                f"{1 + len(others)} annotation files hold {' and '.join(map(repr, keys))}: {names}."
                " Import them one at a time, each to its own folder."
            )
        return first

    def find_documents(self, *keys: str) -> list[PublishedDocument]:
        """Return the JSON files that have some keys, at least one.

        Raises
        ------
        SampleError
            If no file has them.
        """
        found = [document for document in self.documents if document.holds(*keys)]
        if not found:
            names = ", ".join(str(path) for path in self.annotations) or "none given"
            raise SampleError(
                f"No annotation file holds {' and '.join(map(repr, keys))}. Files: {names}."
            )
        return found

    def lines(self, model: type[_Record]) -> Iterator[tuple[Path, _Record]]:
        """Read the annotation files, which hold one JSON object per line.

        Raises
        ------
        SampleError
            If a line is not JSON, or not as the model says.
        """
        for path in self.annotations:
            for number, text in split_lines(self.text(path)):
                where = f"{path}, line {number}"
                yield path, parse_record(model, parse_json(text, where=where), where=where)

    def tables(self, model: type[_Record]) -> Iterator[_Record]:
        """Read the annotation files, which are tables with a header, row by row.

        Parameters
        ----------
        model : type of PublishedRecord
            Its fields, or their aliases, are the columns.

        Raises
        ------
        SampleError
            If a table lacks a column, or a row a value.
        """
        columns = [info.alias or name for name, info in model.model_fields.items()]
        for path in self.annotations:
            rows = iterate_table_rows(self.text(path), where=path)
            _, head = next(rows, (0, []))
            missing = set(columns) - set(head)
            if missing:
                raise SampleError(
                    f"{path} lacks the columns {', '.join(sorted(missing))}; found "
                    f"{', '.join(head) or 'nothing'}."
                )
            for number, cells in rows:
                row = dict(zip(head, cells, strict=False))
                yield parse_record(model, row, where=f"{path}, line {number}")

    def file(self, *names: str) -> Path:
        """Return the first of some file names that exists, or the first of all.

        Raises
        ------
        SampleError
            If a name leads out of the folder of media.
        """
        folder = self.media or Path()
        for name in names:
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise SampleError(
                    f"The medium {name!r} lies outside the folder of media, {folder}. Name it "
                    "within that folder."
                )
        return next(
            (folder / name for name in names if (folder / name).exists()), folder / names[0]
        )


def sort_answers_by_frequency(answers: Sequence[str]) -> tuple[str, ...]:
    """Return all answers, the most frequent first: teacher forcing reads that one.

    Answers that were left empty count as answers and come last: nothing can be read in them.

    Examples
    --------
    >>> sort_answers_by_frequency(["red", "blue", "", "", "", "blue"])
    ('blue', 'blue', 'red', '', '', '')
    """

    def order(text: str) -> tuple[bool, int, int]:
        return not text.strip(), -answers.count(text), answers.index(text)

    return tuple(sorted(answers, key=order))


def import_data(
    kind: str,
    *,
    annotations: Sequence[Path],
    media: Path | None,
    out: Path,
    samples: int | None = None,
    prompt: str | None = None,
    skip_missing: bool = False,
    encoding: str | None = None,
    split: str = "test",
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
    encoding : str or None
        Encoding of the annotation files; None: UTF-8, or what a byte order mark says.
    split : {"train", "calibration", "validation", "test"}
        Split of the samples for which the publisher states none.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UnknownNameError
        If there is no such importer, or no such split.
    ParameterError
        If ``out`` exists, or an input file does not.
    SampleError
        If the files are not of that kind or in another encoding, hold no samples, or media are
        missing.

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
        raise UnknownNameError.among("kind of data", kind, sorted(importers))
    if split not in SPLITS:
        raise UnknownNameError.among(kind="split", asked=split, available=SPLITS)
    unknown = set(re.findall(r"\{(\w+)\}", prompt or "")) - {"question"}
    if unknown:
        raise ParameterError(
            f"--prompt names {', '.join(sorted(unknown))}; {{question}} is all that it can name."
        )
    for path in [*annotations, *([] if media is None else [media])]:
        if not path.exists():
            raise ParameterError(f"{path} does not exist. {importers[kind].needs}")
    published = PublishedFiles(tuple(annotations), media, encoding)
    entries = _present(
        importers[kind].read(published), skip=skip_missing, samples=samples, folder=media
    )
    if not entries:
        raise SampleError(f"The files hold no sample of {kind}. {importers[kind].needs}")
    lines = [
        make_sample_record(
            {
                "id": entry.id,
                "modality": entry.modality,
                "task": entry.task,
                "prompt": entry.prompt(prompt),
                "references": list(entry.references),
                "truth": entry.truth,
                "content": entry.content or (entry.media.name if entry.media else None),
                "split": entry.split or split,
            }
        )
        for entry in entries
    ]
    return write_sample_records(lines, out, media=[entry.media for entry in entries])


def _present(
    entries: Iterator[PublishedSample],
    *,
    skip: bool,
    samples: int | None,
    folder: Path | None,
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
            remedy = "Leave them out: --skip-missing"
            if folder is None:
                remedy = "Say where they are: --media DIR"
            raise SampleError(f"Media are missing: {names}{more}. {remedy}")
        logger.warning("left out, media are missing: %s%s", names, more)
    return kept
