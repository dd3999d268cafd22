"""Guarded reads: a lazy array that says what is damaged, and never shows half of a change.

Zarr reads a missing file as NaN, and raises whatever a codec raises where bytes are damaged. A
reader that has opened a cache may read it while another process writes, repairs or replaces it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from xarray.backends import BackendArray

from ima.cache.addresses import format_cache_command
from ima.cache.direct_reads import LostFileError
from ima.cache.remote import RemoteStamp
from ima.cache.store import ROOT_METADATA_FILE, StoreLocation
from ima.errors import CacheCorruptError, CacheError, CacheUnreachableError

_ATTEMPTS = 5
#: Of the root and of the folder of `done`: identity and time, or what tells its bytes from others;
#: None where there is none.
_State = tuple[tuple[int, int] | str | None, ...]
_WATCHED = (ROOT_METADATA_FILE, "samples/done/c")


class StoreWatch:
    """What a reader remembers of a store to notice that somebody changes it.

    Parameters
    ----------
    location : StoreLocation
        The store, before anything of it is read.
    root : bytes or None
        Behind a URL, the root's metadata as they were read.

    Examples
    --------
    >>> watch = StoreWatch(locate_store("mine.zarr"))  # doctest: +SKIP
    >>> watch.observe() == watch.opened  # doctest: +SKIP
    True
    """

    def __init__(self, location: StoreLocation, *, root: bytes | None = None) -> None:
        self.location = location
        self._digest = None if root is None else _digest(root)
        #: Behind a URL, what its server says of the root; asked for after the first read.
        self._stamp: RemoteStamp | None = None
        self.opened = ("",) if location.local is None else self.observe()

    def observe(self) -> _State:
        """Return the state of the store: of its root, and on a local disk of `done`."""
        root = self.location.local
        if root is not None:
            return tuple(_stamp(root / name) for name in _WATCHED)
        assert self.location.remote is not None
        stamp = self.location.remote.find_stamp(ROOT_METADATA_FILE)
        if stamp is None:
            return (None,)
        if self._stamp != stamp:
            # Another stamp is not yet another root: it has been copied anew, or a cache is between.
            content = self.location.find(ROOT_METADATA_FILE)
            if content is None or _digest(content) != self._digest:
                return (None,)
            self._stamp = stamp
        return self.opened


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
            # Behind a URL one look, after the reading, tells whether the root is still the same.
            before = self.watch.observe() if self.watch.location.local else self.watch.opened
            try:
                values, error = self.inner[key], None
            except (OSError, MemoryError, CacheUnreachableError):
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
        if isinstance(error, LostFileError):
            raise self._make_lost_error(error.key, is_changed=after != self.watch.opened)
        if isinstance(error, CacheError):
            raise error
        if error is not None:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CacheCorruptError(
                f"Array {self.path!r} of {address!r} is damaged: {reason:.200} See which samples "
                f"it concerns: {format_cache_command('verify', address)} — and compute them again: "
                f"{format_cache_command('verify', address, '--repair')}"
            ) from error
        if after != self.watch.opened:
            self._require_files()
        return values

    def _require_files(self) -> None:
        root = self.watch.location.local
        for key in self.keys:
            if root is not None and not (root / key).exists():
                raise self._make_lost_error(key, is_changed=True)

    def _make_lost_error(self, key: str, *, is_changed: bool) -> CacheCorruptError:
        address = self.watch.location.address
        if is_changed:
            return CacheCorruptError(
                f"{address!r} lost {key} after it was opened: it is being repaired, or a "
                f"repair was stopped. Open it again; if it is not finished, the message says how "
                "to finish it."
            )
        return CacheCorruptError(
            f"{address!r} lacks the file {key}, or it is empty. Copy the cache again, or compute "
            f"the file: {format_cache_command('verify', address, '--repair')}"
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
        By path of the array, the files that its finished samples need, where reading does not tell
        a missing file from fill values.

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


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
