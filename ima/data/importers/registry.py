"""The registry of importers: each file of this package adds its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ima.data import importers
from ima.data.importers.entries import PublishedFiles, PublishedSample

_Reader = Callable[[PublishedFiles], Iterator[PublishedSample]]
_REGISTERED: dict[str, Importer] = {}


@dataclass(frozen=True)
class Importer:
    """How a published data set is read.

    Parameters
    ----------
    read : callable
        Takes the files and yields the samples.
    needs : str
        Which files it needs, as a sentence for error messages.
    """

    read: _Reader
    needs: str


def register_importer(name: str, *, needs: str) -> Callable[[_Reader], _Reader]:
    """Register a function that reads a published data set.

    Parameters
    ----------
    name : str
        What ``ima data import`` calls the data set.
    needs : str
        Which files it needs, as a sentence for error messages.

    Examples
    --------
    >>> @register_importer("birds", needs="Give birds.json and the folder of images.")
    ... def read_birds(published):
    ...     yield from ()
    >>> _REGISTERED.pop("birds").needs
    'Give birds.json and the folder of images.'
    """

    def register(read: _Reader) -> _Reader:
        _REGISTERED[name] = Importer(read, needs)
        return read

    return register


def load_importers() -> Mapping[str, Importer]:
    """Import every module of this package and return the importers by name.

    Examples
    --------
    >>> sorted(load_importers())[:3]
    ['audiocaps', 'clotho', 'clothoaqa']
    """
    for module in pkgutil.iter_modules(importers.__path__, f"{importers.__name__}."):
        importlib.import_module(module.name)
    return dict(_REGISTERED)
