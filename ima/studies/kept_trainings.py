"""Trainings of which the zoo keeps only numbers: which are asked for, and which are done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ima.errors import UnknownNameError
from ima.files import read_json, replace_file


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Training = TypeVar("_Training", bound=_Named)


def select_trainings(
    trainings: Sequence[_Training], only: Sequence[str], *, kind: str
) -> list[_Training]:
    """Select trainings by name.

    Parameters
    ----------
    trainings : sequence
        Each has a ``name``.
    only : sequence of str
        Names. Empty: all.
    kind : str
        What a training is called in the error.

    Raises
    ------
    UnknownNameError
        If no training has such a name.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> both = [SimpleNamespace(name="whole"), SimpleNamespace(name="4-bit")]
    >>> [one.name for one in select_trainings(both, ["4-bit"], kind="rung")]
    ['4-bit']
    """
    names = [one.name for one in trainings]
    for name in only:
        if name not in names:
            raise UnknownNameError.among(kind=kind, asked=name, available=names)
    return [one for one in trainings if not only or one.name in only]


def is_kept(path: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a file holds the numbers of a training with these settings.

    Parameters
    ----------
    path : Path
        The file; it may be missing.
    record : mapping
        What decides the numbers: the entries that the file must hold.

    Examples
    --------
    >>> is_kept(Path("missing.json"), {"recipe": {}})
    False
    """
    return path.is_file() and record.items() <= read_json(path).items()


def keep_summary(path: Path, record: Mapping[str, Any]) -> None:
    """Write the numbers of a training on one line: each proxy has hundreds of resamples.

    Parameters
    ----------
    path : Path
        The file.
    record : mapping
        Values that JSON can hold.

    Examples
    --------
    >>> keep_summary(Path("run.json"), {"recipe": {}})  # doctest: +SKIP
    """
    with replace_file(path) as partial:
        partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
