"""Tables and texts of one's own: a row for each caption or question, or a text beside each medium.

Published data sets have fixed files; these have columns that people give such tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ima.data.importers.entries import PublishedFiles, PublishedSample
from ima.data.importers.registry import register_importer
from ima.data.media import find_modality, list_media_endings
from ima.data.samples import MODALITIES, SPLITS, Modality
from ima.data.text_files import iterate_table_rows, parse_json, split_lines
from ima.errors import SampleError

#: By what is read, the names of its column; a number may follow those of texts: caption_2.
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "media": ("media", "file", "file_name", "filename", "path", "image", "video", "audio"),
    "caption": ("caption", "captions"),
    "answer": ("answer", "answers"),
    "question": ("question",),
    "id": ("id",),
    "split": ("split",),
    "content": ("content",),
    "modality": ("modality",),
}
_SEVERAL = ("caption", "answer")
_TABLES = ".csv and .tsv with a header, .jsonl with an object a line, or .json with a list of them"


@register_importer(
    "table",
    needs="Give a table (.csv, .tsv, .jsonl, .json) with the columns file and caption, or file, "
    "question and answer, and the folder of media.",
)
def read_table(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read a table of captions or of questions with answers.

    Rows of one medium and question are one sample with several references, unless the table has
    ids. The ending of a medium says what it is. Without a column of media, samples are text. What
    no column of :data:`_COLUMNS` names becomes the truth of the sample.

    Examples
    --------
    >>> files = PublishedFiles((Path("captions.csv"),), Path("pictures"))  # doctest: +SKIP
    >>> next(read_table(files)).references  # doctest: +SKIP
    ('A red ball.', 'A ball on grass.')
    """
    found: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = {}
    for where, row in _iterate_rows(published):
        named = _name_columns(row, where)
        key = (named["id"],) if "id" in named else ("", named.get("media", ""), named["question"])
        if "id" in named and key in found:
            raise SampleError(f"{where}: the id {named['id']!r} stands in another row, too.")
        found.setdefault(key, []).append((where, named))
    for number, rows in enumerate(found.values()):
        yield _make_sample(rows, number=number, published=published)


@register_importer(
    "sidecars",
    needs="Give, as --annotations, a folder with a text (.txt) for each medium: a.txt for a.png, "
    "with a caption in each line; and the folder of media, unless it is the same.",
)
def read_sidecars(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read a folder with a text beside each medium, which holds a caption in each line.

    Examples
    --------
    >>> next(read_sidecars(PublishedFiles((Path("pictures"),)))).id  # doctest: +SKIP
    'a'
    """
    for folder in published.annotations:
        if not folder.is_dir():
            raise SampleError(f"{folder} is a file; a folder of texts is needed.")
        beside = published.media or folder
        media = {
            path.stem: path
            for path in sorted(beside.iterdir())
            if path.suffix != ".txt" and not path.name.startswith(".")
        }
        for text in sorted(folder.glob("*.txt")):
            captions = tuple(line.strip() for _, line in split_lines(published.text(text)))
            if not captions:
                raise SampleError(f"{text} holds no caption.")
            medium = media.get(text.stem, beside / f"{text.stem}.*")
            yield PublishedSample(
                id=text.stem,
                modality=_find_modality(medium),
                task="caption",
                references=captions,
                media=medium,
            )


def _iterate_rows(published: PublishedFiles) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row of the tables, and where it stands."""
    for path in published.annotations:
        text, ending = published.text(path), path.suffix.lower()
        if ending == ".jsonl":
            for number, line in split_lines(text):
                where = f"{path}, line {number}"
                yield where, _require_object(parse_json(line, where=where), where)
        elif ending == ".json":
            rows = parse_json(text, where=path)
            if not isinstance(rows, list):
                raise SampleError(f"{path} should hold a list of objects.")
            for number, row in enumerate(rows):
                yield f"{path}, [{number}]", _require_object(row, f"{path}, [{number}]")
        elif ending in (".csv", ".tsv"):
            yield from _iterate_table(path, text, delimiter="\t" if ending == ".tsv" else ",")
        else:
            raise SampleError(f"{path} is no table. Tables are {_TABLES}.")


def _iterate_table(
    path: Path, text: str, *, delimiter: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows = iterate_table_rows(text, where=path, delimiter=delimiter)
    _, head = next(rows, (0, []))
    for number, cells in rows:
        where = f"{path}, line {number}"
        if len(cells) != len(head):
            raise SampleError(
                f"{where} has {len(cells)} columns and the header {len(head)}: {', '.join(head)}. "
                "Texts with commas need quotes."
            )
        # A cell that was left empty says nothing.
        yield where, {name: cell for name, cell in zip(head, cells, strict=True) if cell.strip()}


def _require_object(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise SampleError(f'{where} should be an object, such as {{"file": "a.png", …}}.')
    return row


def _name_columns(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what a row says, by what is read; ``truth`` holds the rest."""
    named: dict[str, Any] = {"question": "", "truth": {}}
    for column, value in row.items():
        base = re.sub(r"[ _]?\d+$", "", column.strip().lower())
        for name, names in _COLUMNS.items():
            if column.strip().lower() in names or (name in _SEVERAL and base in names):
                _add_value(named, name, value, where)
                break
        else:
            named["truth"][column] = value
    if ("caption" in named) == ("answer" in named) or ("answer" in named) != bool(
        named["question"]
    ):
        raise SampleError(
            f"{where}: a caption is needed, or a question and an answer; found "
            f"{', '.join(row) or 'nothing'}. Columns that are read: "
            f"{', '.join(names[0] for names in _COLUMNS.values())}."
        )
    return named


def _add_value(named: dict[str, Any], name: str, value: Any, where: str) -> None:
    """Add the value of a column, checked for its type."""
    values = value if isinstance(value, list) and name in _SEVERAL else [value]
    texts = [str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]
    if not all(isinstance(text, str) for text in texts):
        raise SampleError(f"{where}: {name} should be a text; found {value!r}.")
    texts = [text.strip() for text in texts]
    if name in _SEVERAL:
        named[name] = [*named.get(name, []), *texts]
        return
    if named.get(name):
        raise SampleError(f"{where}: two columns say {name}: {named[name]!r} and {texts[0]!r}.")
    named[name] = texts[0]


def _make_sample(
    rows: list[tuple[str, dict[str, Any]]], *, number: int, published: PublishedFiles
) -> PublishedSample:
    """Make a sample of the rows of one medium and question."""
    where, first = rows[0]
    task, told = ("caption", "caption") if "caption" in first else ("qa", "answer")
    for name, allowed in (("split", SPLITS), ("modality", MODALITIES)):
        said = {str(row.get(name, "")) for _, row in rows}
        if len(said) > 1 or not said <= {"", *allowed}:
            raise SampleError(
                f"{where}: {name} is {' and '.join(map(repr, sorted(said)))}; give one of "
                f"{', '.join(allowed)}."
            )
    media = _find_file(first.get("media", ""), published)
    if media is None and task == "caption":
        raise SampleError(f"{where}: a caption needs a medium; the column file is empty or absent.")
    return PublishedSample(
        id=first.get("id") or str(number),
        modality=first.get("modality") or _find_modality(media),
        task=task,
        references=tuple(text for _, row in rows for text in row.get(told, ())),
        media=media,
        question=first["question"],
        truth=first["truth"],
        content=first.get("content", ""),
        split=first.get("split", ""),
    )


def _find_modality(media: Path | None) -> Modality:
    """Return the modality of a medium; a missing one is reported with the others."""
    if media is None:
        return "text"
    return find_modality(media) if media.exists() else "image"


def _find_file(name: str, published: PublishedFiles) -> Path | None:
    """Return the file of a medium, whose name may lack its ending."""
    if not name:
        return None
    if published.media is None:
        # A table of one's own may name its media by where they are.
        return Path(name)
    endings = () if Path(name).suffix else list_media_endings()
    return published.file(name, *(f"{name}{ending}" for ending in endings))
