"""Shards written without Zarr's copies: the same bytes, in a third of the time.

Zarr copies each inner chunk several times before it is written. Here, each is copied once and
its checksum computed. Only whole shards of uncompressed arrays that are divided along one dim are
written so: all large arrays of a cache. The rest goes through Zarr.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.storage import LocalStore

from ima.files import replace_file

_CHECKSUM = np.dtype("<u4")
_CODECS = (BytesCodec(), Crc32cCodec())


def find_divided_dim(array: Any) -> int | None:
    """Return the dim along which shards on a local disk can be written without Zarr, or None.

    Parameters
    ----------
    array : zarr.Array
        An array of a store.

    Examples
    --------
    >>> import zarr
    >>> find_divided_dim(zarr.zeros(4)) is None
    True
    """
    codecs = array.metadata.codecs
    if len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    sharding = codecs[0]
    plain = tuple(sharding.codecs) == tuple(sharding.index_codecs) == _CODECS
    divided = [i for i, size in enumerate(array.shards) if size != array.chunks[i]]
    local = isinstance(array.store_path.store, LocalStore)
    if not plain or not local or sharding.index_location.value != "end" or len(divided) != 1:
        return None
    return divided[0]


def encode_shard(values: npt.NDArray[Any], *, dim: int, step: int) -> list[bytes]:
    """Encode a shard as Zarr's sharding codec does, with the codecs ``bytes`` and ``crc32c``.

    Parameters
    ----------
    values : array
        All values of the shard.
    dim : int
        The dim along which inner chunks divide it.
    step : int
        Size of an inner chunk in this dim.

    Returns
    -------
    list of bytes
        Each inner chunk followed by its checksum, then the index, to be written one after another.

    Examples
    --------
    >>> sum(map(len, encode_shard(np.zeros((2, 3), "float32"), dim=1, step=1)))
    88
    """
    starts = range(0, values.shape[dim], step)
    index = np.empty((len(starts), 2), "<u8")
    parts: list[bytes] = []
    offset = 0
    before = (slice(None),) * dim
    for number, start in enumerate(starts):
        content = values[(*before, slice(start, start + step))].tobytes()
        parts += [content, _compute_checksum(content)]
        index[number] = offset, len(content) + _CHECKSUM.itemsize
        offset += len(content) + _CHECKSUM.itemsize
    stored = index.tobytes()
    return [*parts, stored, _compute_checksum(stored)]


def _compute_checksum(content: bytes) -> bytes:
    return np.array(google_crc32c.value(content), _CHECKSUM).tobytes()


def write_whole_shards(
    array: Any, *, rows: slice, values: npt.NDArray[Any], dim: int
) -> Iterator[slice]:
    """Write the shards that some rows fill, and yield the rows that remain.

    Parameters
    ----------
    array : zarr.Array
        An array for which :func:`find_divided_dim` returns ``dim``.
    rows : slice
        Rows of the first dim.
    values : array
        Their values, with all other dims whole.
    dim : int
        The dim along which inner chunks divide a shard; not the first.

    Yields
    ------
    slice
        Rows before the first whole shard and after the last, if there are any.

    Examples
    --------
    >>> rest = list(write_whole_shards(array, rows=slice(0, 9), values=v, dim=2))  # doctest: +SKIP
    """
    height, depth = array.shards[0], array.shards[dim]
    first = -(-rows.start // height) * height
    last = rows.stop // height * height
    if array.shape[dim] % depth or first >= last:
        # A last shard with padding is left to Zarr.
        yield rows
        return
    folder = Path(array.store_path.store.root) / array.path
    encoded = values.astype(array.dtype, copy=False)
    before = (slice(None),) * (dim - 1)
    for top in range(first, last, height):
        block = encoded[top - rows.start : top - rows.start + height]
        for left in range(0, array.shape[dim], depth):
            place = [0] * array.ndim
            place[0], place[dim] = top // height, left // depth
            key = array.metadata.encode_chunk_key(tuple(place))
            shard = block[(slice(None), *before, slice(left, left + depth))]
            with replace_file(folder / key) as partial, partial.open("wb") as file:
                file.writelines(encode_shard(shard, dim=dim, step=array.chunks[dim]))
    for rest in (slice(rows.start, first), slice(last, rows.stop)):
        if rest.start < rest.stop:
            yield rest
