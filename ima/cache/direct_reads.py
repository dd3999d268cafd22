"""Direct reads: chunks of a cache go from its files into the array that a reader gets.

Zarr's Python spends a millisecond on each shard, whatever is read of it, and copies each chunk
several times. Here, whole uncompressed chunks are read into their place, and the checksum of each
is verified there. What these functions cannot read, ``StoredArray.parse`` leaves to Zarr.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import google_crc32c
import numpy as np
import numpy.typing as npt
from xarray.backends import BackendArray
from xarray.core import indexing

from ima.cache.stored_arrays import CHECKSUM_BYTES, ChunkPiece, Selection, StoredArray

if TYPE_CHECKING:
    from ima.cache.remote import RemoteFolder
    from ima.cache.store import StoreLocation

_T = TypeVar("_T")
_File = tuple[str, Sequence[ChunkPiece]]
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)
#: What is larger is read by several threads: memory is copied by one core while another one
#: computes checksums.
_PARALLEL_BYTES = 4 * 2**20
_THREADS = 2
#: Files that are open at once.
_OPEN_FILES = 32
#: Behind a URL, a file of which half is needed, or a small one, is read whole.
_SMALL_FILE_BYTES = 256 * 2**10


class LostFileError(Exception):
    """A file of a finished cache is not there, or is empty.

    Parameters
    ----------
    key : str
        The file.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is lost or empty")
        self.key = key


class DirectArray(BackendArray):
    """An array of a store that is read when it is used.

    Parameters
    ----------
    stored : StoredArray
        The array.
    location : StoreLocation
        Its store.
    is_complete : bool
        Whether a missing file is an error; if not, it holds fill values.
    contents : mapping
        Files that are read already, by key.

    Examples
    --------
    >>> array = DirectArray(stored, location=location, is_complete=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        stored: StoredArray,
        *,
        location: StoreLocation,
        is_complete: bool,
        contents: Mapping[str, bytes] | None = None,
    ) -> None:
        self.stored, self.location, self.is_complete = stored, location, is_complete
        self.contents = contents or {}
        self.shape, self.dtype = stored.shape, stored.dtype
        self._ordered: set[str] = set()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, selection: Selection) -> npt.NDArray[Any]:
        return read_selection(
            self.stored,
            selection,
            location=self.location,
            is_complete=self.is_complete,
            contents=self.contents,
            ordered=self._ordered,
        )


def read_selection(
    stored: StoredArray,
    selection: Selection,
    *,
    location: StoreLocation,
    is_complete: bool,
    contents: Mapping[str, bytes] | None = None,
    ordered: set[str] | None = None,
) -> npt.NDArray[Any]:
    """Read a part of an array.

    Parameters
    ----------
    stored : StoredArray
        The array.
    selection : tuple
        What to read in each dim: an index, a range with a positive step, or indices in order.
    location : StoreLocation
        The store.
    is_complete : bool
        Whether a missing file is an error; if not, it holds fill values.
    contents : mapping or None
        Behind a URL, files that are read already, by key.
    ordered : set of str or None
        Behind a URL, the shards whose index was read and has all chunks in order; more are added.

    Returns
    -------
    array
        The values, without the dims of which one index is read.

    Raises
    ------
    LostFileError
        If a file is missing.
    ValueError
        If bytes are damaged.

    Examples
    --------
    >>> read_selection(stored, (0, slice(None)), location=place, is_complete=True)  # doctest: +SKIP
    """
    counts = stored.count_values(selection)
    values = np.empty(counts, stored.dtype)
    files = stored.divide(selection)
    if location.remote is not None:
        known = set() if ordered is None else ordered
        lost = _read_remote(
            stored, files, values, folder=location.remote, contents=contents or {}, ordered=known
        )
    else:
        lost = _read_local(stored, files, values, folder=f"{location.local}/")
    for key, pieces in lost:
        if is_complete:
            raise LostFileError(key)
        for piece in pieces:
            values[piece.target] = stored.fill_value
    kept = zip(counts, selection, strict=True)
    return values.reshape([n for n, each in kept if not isinstance(each, int | np.integer)])


def _read_local(
    stored: StoredArray, files: Iterator[_File], values: npt.NDArray[Any], *, folder: str
) -> list[_File]:
    """Read files of a local disk and return those that are missing."""
    read = partial(_read_files, stored, values=values, folder=folder)
    asked = list(files)
    chunks = sum(len(pieces) for _, pieces in asked)
    if stored.coding != "plain" or chunks * stored.chunk_bytes < _PARALLEL_BYTES:
        return read(iter(asked))
    if len(asked) < _THREADS:
        # Of a few files, each thread takes some chunks.
        asked = [(key, part) for key, pieces in asked for part in _share(pieces)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [each for lost in pool.map(read, map(iter, _share(asked))) for each in lost]


def _share(items: Sequence[_T]) -> list[Sequence[_T]]:
    """Return items in as many parts as there are threads, neighbours together."""
    size = -(-len(items) // _THREADS)
    return [items[start : start + size] for start in range(0, len(items), size)]


def _read_files(
    stored: StoredArray, files: Iterator[_File], *, values: npt.NDArray[Any], folder: str
) -> list[_File]:
    lost: list[_File] = []
    is_plain = stored.coding == "plain" and hasattr(os, "preadv")
    scratch = np.empty(stored.chunks if is_plain else 0, stored.dtype)
    before: tuple[bytes, npt.NDArray[Any]] = b"", scratch
    while window := list(itertools.islice(files, _OPEN_FILES)):
        opened: list[tuple[int, str, Sequence[ChunkPiece]]] = []
        try:
            for key, pieces in window:
                with suppress(FileNotFoundError, NotADirectoryError):
                    opened.append((os.open(folder + key, _READ_FLAGS), key, pieces))
            if len(opened) < len(window):
                there = {key for _, key, _ in opened}
                lost += [file for file in window if file[0] not in there]
            if stored.is_sharded:
                _announce(stored, opened)
            for file, key, pieces in opened:
                size = os.lseek(file, 0, os.SEEK_END)
                if size == 0:
                    lost.append((key, pieces))
                elif is_plain:
                    index = _read_index(stored, file, size, key=key)
                    _read_chunks(stored, file, index, (key, pieces), values=values, scratch=scratch)
                else:
                    os.lseek(file, 0, os.SEEK_SET)
                    content = os.read(file, size)
                    before = _take_pieces(stored, (key, pieces), values, content, before=before)
        finally:
            for file, _, _ in opened:
                os.close(file)
    return lost


def _announce(stored: StoredArray, opened: Sequence[tuple[int, str, Sequence[ChunkPiece]]]) -> None:
    """Let the system read from the disk what is needed of several files, all at once."""
    if not opened or not hasattr(os, "RWF_NOWAIT"):
        return
    try:
        # What one file shows holds for its neighbours: all were read before, or none.
        place = opened[-1][2][-1].number * stored.chunk_bytes
        os.preadv(opened[-1][0], [bytearray(1)], place, os.RWF_NOWAIT)
    except OSError:
        # Not in memory, or a file system that cannot tell.
        pass
    else:
        return
    size, end = stored.chunk_bytes, stored.file_bytes - stored.index_bytes
    for file, _, pieces in opened:
        os.posix_fadvise(file, end, stored.index_bytes, os.POSIX_FADV_WILLNEED)
        # Pieces come in the order of their chunks: one range holds them all.
        first, last = pieces[0].number, pieces[-1].number
        is_run = last - first < 2 * len(pieces)
        for start, stop in [(first, last)] if is_run else [(n.number, n.number) for n in pieces]:
            length = (stop + 1 - start) * size
            os.posix_fadvise(file, start * size, length, os.POSIX_FADV_WILLNEED)


def _read_index(stored: StoredArray, file: int, size: int, *, key: str) -> bytes | None:
    """Return the index of an uncompressed file, None without shards."""
    if stored.is_sharded:
        place = max(0, size - stored.index_bytes)
        return stored.check_index(os.pread(file, stored.index_bytes, place), key=key)
    if size != stored.file_bytes:
        raise ValueError(f"{key} has {size} bytes and not {stored.file_bytes}")
    return None


def _read_chunks(
    stored: StoredArray,
    file: int,
    index: bytes | None,
    named: _File,
    *,
    values: npt.NDArray[Any],
    scratch: npt.NDArray[Any],
) -> None:
    """Read uncompressed chunks into their places, or by way of ``scratch`` if only parts."""
    key, pieces = named
    checksum = bytearray(CHECKSUM_BYTES)
    for piece in pieces:
        start = 0 if index is None else stored.locate_chunk(index, piece.number, key=key)
        target = values[piece.target]
        if start is None:
            target[...] = stored.fill_value
            continue
        chunk: Any = target if piece.is_whole and target.flags.c_contiguous else scratch
        if os.preadv(file, [chunk, checksum], start) != stored.chunk_bytes:
            raise ValueError(f"{key} ends before its chunks do")
        if google_crc32c.value(chunk) != int.from_bytes(checksum, "little"):
            raise ValueError(f"the checksum of a chunk of {key} does not match")
        if chunk is scratch:
            target[...] = scratch[piece.within]


def _read_remote(
    stored: StoredArray,
    files: Iterator[_File],
    values: npt.NDArray[Any],
    *,
    folder: RemoteFolder,
    contents: Mapping[str, bytes],
    ordered: set[str],
) -> list[_File]:
    """Read files behind a URL, side by side, and return those that are missing."""

    def read(file: _File) -> bool:
        key, pieces = file
        if stored.is_sharded and _is_part(stored, pieces):  # noqa: SIM102 - asks the server
            if _read_ranges(stored, key, pieces, values, folder=folder, ordered=ordered):
                return True
        content = contents.get(key) or folder.find(key)
        if not content:
            return False
        _take_pieces(stored, file, values, content)
        return True

    asked = list(files)
    return [
        file
        for file, found in zip(asked, folder.run_parallel(read, asked), strict=True)
        if not found
    ]


def _is_part(stored: StoredArray, pieces: Sequence[ChunkPiece]) -> bool:
    """Return whether a few requests for parts of a shard are better than one for all of it."""
    needed = len(pieces) * stored.chunk_bytes
    return stored.file_bytes > max(2 * needed, _SMALL_FILE_BYTES)


def _read_ranges(
    stored: StoredArray,
    key: str,
    pieces: Sequence[ChunkPiece],
    values: npt.NDArray[Any],
    *,
    folder: RemoteFolder,
    ordered: set[str],
) -> bool:
    """Read parts of a shard whose chunks are in order; return whether it was one."""
    size = stored.chunk_bytes
    ranges = [(piece.number * size, (piece.number + 1) * size) for piece in pieces]
    if key not in ordered:
        # The index is asked for together with the chunks, where this package puts them.
        ranges.append((stored.file_bytes - stored.index_bytes, stored.file_bytes))
    contents = folder.find_ranges(key, ranges)
    if contents is None:
        return False
    if key not in ordered:
        try:
            index = stored.check_index(contents.pop(), key=key)
            places = [stored.locate_chunk(index, piece.number, key=key) for piece in pieces]
        except ValueError:
            return False
        if places != [start for start, _ in ranges[:-1]]:
            return False
        if stored.is_ordered(index):
            ordered.add(key)
    for piece, content in zip(pieces, contents, strict=True):
        values[piece.target] = stored.decode(content, key=f"a chunk of {key}")[piece.within]
    return True


def _take_pieces(
    stored: StoredArray,
    named: _File,
    values: npt.NDArray[Any],
    content: bytes,
    *,
    before: tuple[bytes, npt.NDArray[Any]] | None = None,
) -> tuple[bytes, npt.NDArray[Any]]:
    """Take pieces from the whole content of a file, and return the content and its last chunk.

    Many files of marks and of names are equal: what the last one returned is not decoded again.
    """
    key, pieces = named
    if not stored.is_sharded:
        is_equal = before is not None and before[0] == content
        chunk = before[1] if before and is_equal else stored.decode(content, key=key)
        for piece in pieces:
            values[piece.target] = chunk[piece.within]
        return content, chunk
    index = stored.check_index(content[-stored.index_bytes :], key=key)
    chunk = np.empty(0)
    for piece in pieces:
        start = stored.locate_chunk(index, piece.number, key=key)
        if start is None:
            values[piece.target] = stored.fill_value
            continue
        part = memoryview(content)[start : start + stored.chunk_bytes]
        chunk = stored.decode(part, key=f"a chunk of {key}")
        values[piece.target] = chunk[piece.within]
    return content, chunk
