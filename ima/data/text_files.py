"""Text files in the encoding that their authors used: known by its marks, or asked for."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ima.errors import ParameterError, SampleError

#: Marks at the start of a file. The longer ones come first: UTF-32's begins as UTF-16's does.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text_file(path: Path, *, encoding: str | None = None, option: str = "") -> str:
    """Read a text file.

    Parameters
    ----------
    path : Path
        The file.
    encoding : str or None
        Its encoding, for example ``"cp1252"``. None: UTF-8, or what a byte order mark says.
    option : str
        The option that takes the encoding, for the message.

    Returns
    -------
    str
        The text, without its byte order mark.

    Raises
    ------
    SampleError
        If the file cannot be read, or is not in that encoding.
    ParameterError
        If there is no such encoding.

    Examples
    --------
    >>> read_text_file(Path("captions.csv"), encoding="cp1252")[-5:]  # doctest: +SKIP
    'café.'
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SampleError(f"Cannot read {path}: {error.strerror or error}.") from error
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    name = encoding or marked or "utf-8"
    try:
        text = content.decode(name)
    except LookupError as error:
        raise ParameterError(
            f"There is no encoding {encoding!r}. Usual ones: utf-8, utf-16, cp1252, latin-1."
        ) from error
    except UnicodeError as error:
        where = ""
        if isinstance(error, UnicodeDecodeError):
            line = content[: error.start].count(b"\n") + 1
            where = f": byte 0x{content[error.start]:02X} in line {line}"
        raise SampleError(
            f"{path} is not {name.upper()}{where}. {_advise(option, 'cp1252')}"
        ) from error
    if encoding is None and "\0" in text:
        raise SampleError(
            f"{path} holds zero bytes and is not UTF-8; it may be UTF-16. "
            f"{_advise(option, 'utf-16-le')}"
        )
    return text


def split_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text that are not blank, with their numbers from 1.

    Only line feeds end a line: other separators, such as U+2028, may stand inside JSON.

    Examples
    --------
    >>> list(split_lines(chr(10).join(["one", "", "two"])))
    [(1, 'one'), (3, 'two')]
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r")


def iterate_table_rows(
    text: str, *, where: object, delimiter: str = ",", strict: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table that are not blank, with the numbers of their last lines.

    Parameters
    ----------
    text : str
        The table; cells in quotes may hold line ends.
    where : object
        The file, for the message.
    delimiter : str
        What parts the cells.
    strict : bool
        Whether quotes must follow the rules of the format.

    Raises
    ------
    SampleError
        If it is no table.

    Examples
    --------
    >>> list(iterate_table_rows("file,caption", where="a.csv"))
    [(1, ['file', 'caption'])]
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise SampleError(f"{where}, line {reader.line_num}: {error}.") from error


def parse_json(text: str, *, where: object) -> Any:
    """Parse JSON.

    Raises
    ------
    SampleError
        If it is not JSON, or is nested too deeply; the message begins with ``where``.

    Examples
    --------
    >>> parse_json('{"answer": "red"}', where="answers.json")
    {'answer': 'red'}
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{where} is not JSON: {error}.") from error


def _advise(option: str, example: str) -> str:
    if option:
        return f"Say in which encoding it is, for example: {option} {example}"
    return "Save it as UTF-8."
