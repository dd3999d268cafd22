"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; the file written there replaces ``path`` if no error occurs.

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
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)  # noqa: PTH105 - atomic, also over an existing file
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder, which replaces ``folder`` if no error occurs.

    Parameters
    ----------
    folder : Path
        The folder; missing parent folders are made.

    Examples
    --------
    >>> with replace_folder(parent / "masks") as partial:  # doctest: +SKIP
    ...     (partial / "readme.txt").write_text("complete or absent")
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON object or list with stable formatting, whole or not at all.

    Examples
    --------
    >>> write_json(folder / "card.json", {"name": "llama-mini"})  # doctest: +SKIP
    """
    with replace_file(path) as partial:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Examples
    --------
    >>> read_json(folder / "card.json")  # doctest: +SKIP
    {'name': 'llama-mini'}
    """
    value: dict[str, Any] = json.loads(path.read_text())
    return value
