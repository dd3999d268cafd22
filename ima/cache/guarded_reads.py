"""Guarded reads: a lazy array that says what is damaged, and never shows half of a change.

Zarr reads a missing file as NaN, and raises whatever a codec raises where bytes are damaged. A
reader that has opened a cache may read it while another process writes, repairs or replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from xarray.backends import BackendArray

from ima.cache.store import ROOT_METADATA_FILE, StoreLocation
from ima.errors import CacheCorruptError, CacheError

_ATTEMPTS = 5
#: Identity and time of the root and of the folder of `done`; None where there is none.
_State = tuple[tuple[int, int] | None, ...]
_WATCHED = (ROOT_METADATA_FILE, "samples/done/c")


class StoreWatch:
    """What a reader remembers of a store to notice that somebody changes it.

    Parameters
    ----------
    location : StoreLocation
        The store, before anything of it is read.

    Examples
    --------
    >>> watch = StoreWatch(locate_store("mine.zarr"))  # doctest: +SKIP
    >>> watch.observe() == watch.opened  # doctest: +SKIP
    True
    """

    def __init__(self, location: StoreLocation) -> None:
        self.location = location
        self.opened = self.observe()

    def observe(self) -> _State:
        """Return the state of the store; of one that is not on a local disk, nothing."""
        root = self.location.local
        return () if root is None else tuple(_stamp(root / name) for name in _WATCHED)


class _GuardedArray(BackendArray):
    """An array of a store, read through xarray's own array.

    Parameters
    ----------
    inner : BackendArray
        The array of xarray's Zarr engine, which has a shape and a dtype.
    path : str
        Its place in the store.
    keys : sequence of str
        The files of the finished samples.
    watch : StoreWatch
        The store.
    """

    def __init__(self, inner: Any, *, path: str, keys: Sequence[str], watch: StoreWatch) -> None:
        self.inner, self.path, self.keys, self.watch = inner, path, keys, watch
        self.shape, self.dtype = inner.shape, inner.dtype

    def __getitem__(self, key: Any) -> Any:
        address, error = self.watch.location.address, None
        for _ in range(_ATTEMPTS):
            before = self.watch.observe()
            try:
                values, error = self.inner[key], None
            except (OSError, MemoryError):
                raise
            # Damaged bytes make codecs fail in every way that they have.
            except Exception as raised:
                error = raised
            after = self.watch.observe()
            # What another process changed meanwhile is read again.
            if before == after:
                break
        if after[:1] != self.watch.opened[:1]:
            raise CacheError(
                f"{address!r} was replaced or removed after it was opened. Open it again."
            )
        if error is not None:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CacheCorruptError(
                f"Array {self.path!r} of {address!r} is damaged: {reason:.200} See which samples "
                f"it concerns: ima cache verify {address} — and compute them again: "
                f"ima cache verify {address} --repair"
            ) from error
        if after != self.watch.opened:
            self._require_files()
        return values

    def _require_files(self) -> None:
        root = self.watch.location.local
        lost = [key for key in self.keys if root is not None and not (root / key).exists()]
        if lost:
            address = self.watch.location.address
            raise CacheCorruptError(
                f"{address!r} lost {lost[0]} after it was opened: it is being repaired, or a "
                f"repair was stopped. Open it again; if it is not finished, the message says how "
                "to finish it."
            )


def guard_reads(tree: xr.DataTree, *, watch: StoreWatch, keys: Mapping[str, Sequence[str]]) -> None:
    """Guard every array of a tree that is read from a store when it is used.

    Parameters
    ----------
    tree : xarray.DataTree
        A tree that xarray has opened lazily; changed in place.
    watch : StoreWatch
        The store, watched since before the tree was opened.
    keys : mapping of str to sequence of str
        By path of the array, the files that its finished samples need.

    Examples
    --------
    >>> watch = StoreWatch(locate_store("mine.zarr"))  # doctest: +SKIP
    >>> tree = xr.open_datatree("mine.zarr", engine="zarr", chunks=None)  # doctest: +SKIP
    >>> guard_reads(tree, watch=watch, keys={})  # doctest: +SKIP
    """
    for node in tree.subtree:
        for name, variable in node.variables.items():
            path = f"{node.path}/{name}".lstrip("/")
            holder: Any = variable._data
            while hasattr(holder, "array"):
                if isinstance(holder.array, BackendArray):
                    holder.array = _GuardedArray(
                        holder.array, path=path, keys=keys.get(path, ()), watch=watch
                    )
                    break
                holder = holder.array


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return facts.st_ino, facts.st_mtime_ns
