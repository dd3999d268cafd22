"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ima.errors import ParameterError

if TYPE_CHECKING:
    from pydantic import BaseModel

_Record = TypeVar("_Record", bound="BaseModel")
_SUFFIX, _OLD_SUFFIX = ".partial", ".old.partial"


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; the file written there replaces ``path`` if no error occurs.

    Two writers of one file do not disturb each other: the file is that of the writer who ends last.

    Parameters
    ----------
    path : Path
        The file; missing parent folders are made.

    Examples
    --------
    >>> with replace_file(folder / "card.json") as partial:  # doctest: +SKIP
    ...     partial.write_text("{}")
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _name_partial(path, prefix="")
    try:
        yield partial
        os.replace(partial, path)  # noqa: PTH105 - atomic, also over an existing file
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder, which replaces ``folder`` if no error occurs.

    The old folder is moved away before the new one takes its place, and deleted only then: an
    error or a kill in between never leaves half of either.

    Parameters
    ----------
    folder : Path
        The folder; missing parent folders are made.

    Examples
    --------
    >>> with replace_folder(parent / "masks") as partial:  # doctest: +SKIP
    ...     (partial / "readme.txt").write_text("complete or absent")
    """
    partial = _name_partial(folder, prefix=".")
    old = _name_old(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.is_dir():
            folder.rename(old)
        try:
            partial.rename(folder)
        except OSError:
            _put_back(old, folder)
            raise
    finally:
        _remove(partial)
        _remove(old)


def _name_partial(path: Path, *, prefix: str) -> Path:
    """Return a temporary path that no other writer uses; remove those of killed writers."""
    start = f"{prefix}{path.name}.{socket.gethostname()}-"
    partial = path.with_name(f"{start}{os.getpid()}-{threading.get_ident()}{_SUFFIX}")
    own = (partial.name, _name_old(partial).name)
    for name in _list_names(path.parent):
        if not (name.startswith(start) and name.endswith(_SUFFIX)):
            continue
        if name in own or not _is_running(name.removeprefix(start).partition("-")[0]):
            leftover = path.with_name(name)
            if name.endswith(_OLD_SUFFIX):
                _put_back(leftover, path)
            _remove(leftover)
    return partial


def _list_names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def _name_old(partial: Path) -> Path:
    return partial.with_name(partial.name.removesuffix(_SUFFIX) + _OLD_SUFFIX)


def _put_back(old: Path, folder: Path) -> None:
    """Undo the first half of a replacement whose second half did not happen."""
    if old.exists() and not folder.exists():
        old.rename(folder)


def _remove(leftover: Path) -> None:
    if leftover.is_dir() and not leftover.is_symlink():
        shutil.rmtree(leftover, ignore_errors=True)
    else:
        with suppress(OSError):
            leftover.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     hash_file(Path(file.name))[:8]
    'e3b0c442'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON object or list with stable formatting, whole or not at all.

    Examples
    --------
    >>> write_json(folder / "card.json", {"name": "llama-mini"})  # doctest: +SKIP
    """
    with replace_file(path) as partial:
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Examples
    --------
    >>> read_json(folder / "card.json")  # doctest: +SKIP
    {'name': 'llama-mini'}
    """
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def read_records(path: Path, record: type[_Record], *, kind: str) -> list[_Record]:
    """Read the records that a notebook wrote as a JSON list, and check each.

    Parameters
    ----------
    path : Path
        The file.
    record : type
        What each entry becomes, with its own checks.
    kind : str
        What an error calls such a record, as ``"claim"``.

    Raises
    ------
    ParameterError
        If the file is not a list of such records.

    Examples
    --------
    >>> read_records(Path("finding1.claims.json"), ClaimRecord, kind="claim")  # doctest: +SKIP
    """
    if not path.exists():
        raise ParameterError(
            f"There is no file {path}. The notebook that measures writes it: ima notebook run "
            f"NOTEBOOK OUT -p {kind}s {path}"
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise TypeError(f"it holds {type(entries).__name__}")
        return [record.model_validate(entry) for entry in entries]
    except (OSError, ValueError, TypeError) as error:
        raise ParameterError(
            f"{path} is not a list of {kind} records: {error}. "
            "Run the notebook that writes it, for example with `make book`."
        ) from error
