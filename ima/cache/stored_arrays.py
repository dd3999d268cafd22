"""Stored arrays: which files and which parts of them hold the values that a reader asks for.

A file of an array is one chunk, or a shard of several with an index at its end. All chunks of an
array have one shape, also where they reach beyond the array.
"""

from __future__ import annotations

import itertools
import math
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import google_crc32c
import numcodecs
import numpy as np
import numpy.typing as npt

#: Bytes of the crc32c after each chunk and after an index.
CHECKSUM_BYTES = 4
#: Place and length of a chunk in its shard.
_ENTRY = struct.Struct("<QQ")
_ABSENT = 2**64 - 1
_Coding = Literal["plain", "compressed", "text"]
_PLAIN = (("bytes", "little"), ("crc32c", None))
_CODINGS: Mapping[tuple[tuple[str, str | None], ...], _Coding] = {
    _PLAIN: "plain",
    (("bytes", "little"), ("zstd", None), ("crc32c", None)): "compressed",
    (("vlen-utf8", None), ("zstd", None), ("crc32c", None)): "text",
}

#: What a reader asks for in each dim: an index, a range with a positive step, or indices in order.
Selection = tuple[int | slice | npt.NDArray[np.integer[Any]], ...]


class ChunkPiece(NamedTuple):
    """What a chunk contributes to the values that a reader asks for.

    Parameters
    ----------
    number : int
        Number of the chunk in its file.
    within : tuple
        The values that are asked for, an index of the chunk.
    target : tuple of slice
        Where they go.
    is_whole : bool
        Whether all values of the chunk are asked for, in their order.
    """

    number: int
    within: tuple[Any, ...]
    target: tuple[slice, ...]
    is_whole: bool


@dataclass(frozen=True)
class StoredArray:
    """An array as it lies in a store.

    Parameters
    ----------
    path : str
        Its place in the store.
    dims : tuple of str
        Names of the dims.
    shape, chunks, files : tuple of int
        Size, size of a chunk, and size of what one file holds, per dim.
    dtype : numpy.dtype
        The dtype.
    fill_value : object
        What a chunk without a file holds.
    coding : {"plain", "compressed", "text"}
        How the values of a chunk become bytes; a checksum of all of them comes last.
    is_sharded : bool
        Whether files have an index.
    attributes : mapping
        Attributes that readers show.
    """

    path: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    files: tuple[int, ...]
    dtype: np.dtype[Any]
    fill_value: Any
    coding: _Coding
    is_sharded: bool
    attributes: Mapping[str, Any] = field(compare=False)

    @classmethod
    def parse(cls, path: str, metadata: Mapping[str, Any]) -> StoredArray | None:
        """Return the array that metadata describe, or None if only Zarr can read it.

        Parameters
        ----------
        path : str
            Place of the array in its store.
        metadata : mapping
            Its ``zarr.json``.
        """
        codecs, chunks = metadata["codecs"], _get_chunk_shape(metadata["chunk_grid"])
        files, is_sharded = chunks, len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed"
        if is_sharded:
            setting = codecs[0]["configuration"]
            if (
                _name_codecs(setting["index_codecs"]) != _PLAIN
                or setting["index_location"] != "end"
            ):
                return None
            codecs, chunks = setting["codecs"], tuple(setting["chunk_shape"])
        coding = _CODINGS.get(_name_codecs(codecs))
        is_text = metadata["data_type"] == "string"
        keys = {"name": "default", "configuration": {"separator": "/"}}
        if (
            coding is None
            or chunks is None
            or files is None
            or sys.byteorder != "little"
            or (is_sharded and coding != "plain")
            or is_text != (coding == "text")
            or metadata["chunk_key_encoding"] != keys
            or metadata.get("storage_transformers")
            or not metadata["shape"]
            or 0 in metadata["shape"]
        ):
            return None
        dtype = np.dtypes.StringDType() if is_text else np.dtype(metadata["data_type"])
        fill = metadata["fill_value"]
        return cls(
            path,
            tuple(metadata["dimension_names"]),
            tuple(metadata["shape"]),
            chunks,
            files,
            dtype,
            np.nan if fill == "NaN" else fill,
            coding,
            is_sharded,
            dict(metadata.get("attributes", {})),
        )

    @cached_property
    def chunks_per_file(self) -> tuple[int, ...]:
        """Number of chunks in a file, per dim."""
        return tuple(file // chunk for file, chunk in zip(self.files, self.chunks, strict=True))

    @cached_property
    def chunk_bytes(self) -> int:
        """Bytes of an uncompressed chunk with its checksum."""
        return math.prod(self.chunks) * self.dtype.itemsize + CHECKSUM_BYTES

    @cached_property
    def index_bytes(self) -> int:
        """Bytes of the index of a shard with its checksum; 0 without shards."""
        if not self.is_sharded:
            return 0
        return math.prod(self.chunks_per_file) * _ENTRY.size + CHECKSUM_BYTES

    @cached_property
    def file_bytes(self) -> int:
        """Bytes of an uncompressed file as this package writes it."""
        return math.prod(self.chunks_per_file) * self.chunk_bytes + self.index_bytes

    def make_file_key(self, index: Sequence[int]) -> str:
        """Return the key of a file in the store, from its index per dim."""
        return f"{self.path}/c/{'/'.join(map(str, index))}"

    def list_file_keys(self) -> list[str]:
        """Return the keys of all files."""
        counts = [-(-size // part) for size, part in zip(self.shape, self.files, strict=True)]
        return [self.make_file_key(index) for index in itertools.product(*map(range, counts))]

    def count_values(self, selection: Selection) -> tuple[int, ...]:
        """Return how many values a selection takes in each dim, an index being one."""
        return tuple(
            1 if isinstance(each, int | np.integer) else _count(each, size)
            for each, size in zip(selection, self.shape, strict=True)
        )

    def divide(self, selection: Selection) -> Iterator[tuple[str, list[ChunkPiece]]]:
        """Yield the files that hold a selection, each with the pieces of its chunks.

        Parameters
        ----------
        selection : tuple
            What is asked for in each dim.

        Yields
        ------
        str, list of ChunkPiece
            The key of a file in the store, and its pieces.
        """
        counts = self.chunks_per_file
        strides = [math.prod(counts[dim + 1 :]) for dim in range(len(counts))]
        divided = [
            _divide_dim(*given)
            for given in zip(selection, self.shape, self.chunks, counts, strides, strict=True)
        ]
        is_outer = sum(isinstance(each, np.ndarray) for each in selection) > 1
        for group in itertools.product(*(by_file.items() for by_file in divided)):
            pieces = []
            numbers, parts = zip(*group, strict=True)
            for along in itertools.product(*parts):
                places, within, target, are_whole = zip(*along, strict=True)
                if is_outer:
                    ranges = zip(within, self.chunks, strict=True)
                    within = np.ix_(*(np.arange(size)[each] for each, size in ranges))
                pieces.append(ChunkPiece(sum(places), within, target, False not in are_whole))
            yield self.make_file_key(numbers), pieces

    def check_index(self, index: bytes, *, key: str) -> bytes:
        """Return the index of a shard, the bytes at its end.

        Raises
        ------
        ValueError
            If they do not have the checksum that they state.
        """
        if len(index) != self.index_bytes or not is_intact(index):
            raise ValueError(f"the checksum of the index of {key} does not match")
        return index

    def locate_chunk(self, index: bytes, number: int, *, key: str) -> int | None:
        """Return the place of a chunk in its shard, or None if the shard lacks it.

        Raises
        ------
        ValueError
            If the index states another length than chunks have.
        """
        place, length = _ENTRY.unpack_from(index, number * _ENTRY.size)
        if length != self.chunk_bytes:
            if place == length == _ABSENT:
                return None
            raise ValueError(f"the index of {key} states a chunk of {length} bytes")
        return int(place)

    def is_ordered(self, index: bytes) -> bool:
        """Return whether a shard has all its chunks, one after another from its start."""
        places = np.frombuffer(index, "<u8", len(index) // 8).reshape(-1, 2)
        starts = np.arange(len(places), dtype="u8") * np.uint64(self.chunk_bytes)
        return bool((places[:, 0] == starts).all() and (places[:, 1] == self.chunk_bytes).all())

    def decode(self, content: Any, *, key: str) -> npt.NDArray[Any]:
        """Return the values of a chunk from its bytes.

        Raises
        ------
        ValueError
            If they do not have the checksum that they state, or are not as many as they should be.
        """
        stored = np.frombuffer(content, "u1")
        if len(stored) < CHECKSUM_BYTES or not is_intact(stored):
            raise ValueError(f"the checksum of {key} does not match")
        values: Any = stored[:-CHECKSUM_BYTES]
        if self.coding != "plain":
            values = _ZSTD.decode(values)
        if self.coding == "text":
            return np.asarray(_TEXTS.decode(values).astype(self.dtype).reshape(self.chunks))
        return np.frombuffer(values, self.dtype).reshape(self.chunks)


_ZSTD, _TEXTS = numcodecs.Zstd(), numcodecs.VLenUTF8()


def is_intact(content: Any) -> bool:
    """Return whether bytes end with the crc32c of those before.

    Examples
    --------
    >>> is_intact(b"a" + google_crc32c.value(b"a").to_bytes(4, "little"))
    True
    """
    stated = int.from_bytes(content[-CHECKSUM_BYTES:], "little")
    return bool(google_crc32c.value(content[:-CHECKSUM_BYTES]) == stated)


def _name_codecs(codecs: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str | None], ...]:
    """Return the names of codecs, and the byte order of those that have one."""
    return tuple(
        (
            str(codec["name"]),
            # Single bytes have no order.
            codec.get("configuration", {}).get("endian", "little")
            if codec["name"] == "bytes"
            else None,
        )
        for codec in codecs
    )


def _get_chunk_shape(grid: Mapping[str, Any]) -> tuple[int, ...] | None:
    return tuple(grid["configuration"]["chunk_shape"]) if grid["name"] == "regular" else None


def _count(selection: slice | npt.NDArray[Any], size: int) -> int:
    if isinstance(selection, slice):
        return len(range(*selection.indices(size)))
    return len(selection)


#: Share in the number of a chunk in its file, values of the chunk, their places, whether all.
_Along = tuple[int, Any, slice, bool]


def _divide_dim(
    selection: int | slice | npt.NDArray[Any], size: int, chunk: int, count: int, stride: int
) -> dict[int, list[_Along]]:
    """Divide what is asked for in a dim into chunks, by the index of their files."""
    by_file: dict[int, list[_Along]] = {}
    for number, within, target in _list_parts(selection, size, chunk):
        is_whole = isinstance(within, slice) and within == slice(0, chunk, 1)
        along = (number % count * stride, within, target, is_whole)
        by_file.setdefault(number // count, []).append(along)
    return by_file


def _list_parts(
    selection: int | slice | npt.NDArray[Any], size: int, chunk: int
) -> Iterator[tuple[int, Any, slice]]:
    if isinstance(selection, int | np.integer):
        start = int(selection) % size
        yield start // chunk, slice(start % chunk, start % chunk + 1, 1), slice(0, 1)
        return
    if isinstance(selection, slice):
        asked = range(*selection.indices(size))
        begin = 0
        while begin < len(asked):
            number = asked[begin] // chunk
            first = asked[begin] - number * chunk
            taken = min(len(asked) - begin, -(-(chunk - first) // asked.step))
            stop = first + (taken - 1) * asked.step + 1
            yield number, slice(first, stop, asked.step), slice(begin, begin + taken)
            begin += taken
        return
    numbers = selection // chunk
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(selection)]
    for begin, end in itertools.pairwise(edges):
        if begin < end:
            number = int(numbers[begin])
            yield number, selection[begin:end] - number * chunk, slice(begin, end)
