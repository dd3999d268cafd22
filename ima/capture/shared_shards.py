"""Shared shards: token shards that several units of work fill, written once and whole.

A unit of work owns its files, except for token states: samples differ in length, so a shard of
token states ends within a unit. Two workers that each wrote their rows of one file could lose those
of the other. So a worker keeps its rows of shared shards beside the store's arrays, in a file of
its own. Once all units of a shard are computed, one worker puts the rows together and writes it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.cache.schema import CacheLayout
from ima.cache.store import PARTS_FOLDER, StoreLocation, write_array_rows
from ima.errors import CacheCorruptError


@dataclass(frozen=True)
class SharedShard:
    """A row of token shards with tokens of several units, over all layers.

    Parameters
    ----------
    hook_points : tuple of str
        The hook points whose shards have this height.
    start, stop : int
        First token, and the one after the last.
    pieces : tuple of (int, int, int)
        By unit, in order: its number, its first token in the shard, and the one after its last.
    """

    hook_points: tuple[str, ...]
    start: int
    stop: int
    pieces: tuple[tuple[int, int, int], ...]

    @property
    def units(self) -> tuple[int, ...]:
        """The units that fill the shard."""
        return tuple(unit for unit, _, _ in self.pieces)


def list_shared_shards(layout: CacheLayout, *, offsets: npt.NDArray[np.int64]) -> list[SharedShard]:
    """List the token shards that several units fill.

    Parameters
    ----------
    layout : CacheLayout
        Sizes of the store.
    offsets : array (sample + 1)
        First stored token of each sample, and the one after the last.

    Examples
    --------
    >>> layout = CacheLayout(4, 2, layers=1, widths={"ln1": 8}, tokens=10)
    >>> shared = list_shared_shards(layout, offsets=np.array([0, 3, 5, 8, 10]))
    >>> [(shard.start, shard.stop, shard.pieces) for shard in shared]
    [(0, 10, ((0, 0, 5), (1, 5, 10)))]
    """
    if not layout.tokens:
        return []
    bounds = [layout.bounds(unit) for unit in range(layout.units)]
    first = np.array([offsets[start] for start, _ in bounds])
    last = np.array([offsets[stop] for _, stop in bounds])
    by_height: dict[int, list[str]] = {}
    for array in layout.arrays():
        kind, _, rest = array.path.partition("/")
        if kind == "tokens" and array.name == "state":
            by_height.setdefault(array.files[0], []).append(rest.partition("/")[0])
    shards = []
    for height, hook_points in by_height.items():
        # A shard is shared where a unit ends within it.
        numbers = {int(end) // height for end in last if end % height and end < layout.tokens}
        for number in sorted(numbers):
            start, stop = number * height, min((number + 1) * height, layout.tokens)
            units = np.flatnonzero((first < stop) & (last > start))
            pieces = tuple(
                (int(unit), max(int(first[unit]), start), min(int(last[unit]), stop))
                for unit in units
            )
            shards.append(SharedShard(tuple(hook_points), start, stop, pieces))
    return shards


class PartialRows:
    """The rows of one unit in shared shards, kept until they are saved beside the arrays.

    Parameters
    ----------
    unit : int
        The unit.
    shards : sequence of SharedShard
        The shards that it shares.

    Examples
    --------
    >>> rows = PartialRows(0, [])
    >>> rows.write(group, path="means/ln1/mean", index=slice(0, 2), values=v)  # doctest: +SKIP
    """

    def __init__(self, unit: int, shards: Sequence[SharedShard]) -> None:
        self._unit = unit
        self._shards = sorted(shards, key=lambda shard: shard.start)
        self._pieces: dict[str, npt.NDArray[Any]] = {}

    def write(self, group: Any, *, path: str, index: slice, values: npt.NDArray[Any]) -> None:
        """Write rows as :func:`ima.cache.store.write_array_rows` does, except in shared shards."""
        at, stop = index.start, index.start + len(values)
        hook_point = path.split("/")[1] if path.startswith("tokens/") else ""
        for shard in (shard for shard in self._shards if hook_point in shard.hook_points):
            low, high = max(at, shard.start), min(stop, shard.stop)
            if low >= high:
                continue
            if at < low:
                own = values[at - index.start : low - index.start]
                write_array_rows(group, path=path, index=slice(at, low), values=own)
            # A copy: a view would keep the states of the whole batch.
            self._pieces[f"{path}@{low}"] = values[low - index.start : high - index.start].copy()
            at = high
        if at < stop:
            own = values[at - index.start :]
            write_array_rows(group, path=path, index=slice(at, stop), values=own)

    def save(self, location: StoreLocation) -> None:
        """Write the rows of shared shards to the unit's own file, if there are any."""
        if self._shards:
            content = io.BytesIO()
            # A zip holds a checksum of each array.
            np.savez(content, **self._pieces)  # type: ignore[arg-type]
            location.write(name_part_file(self._unit), content.getvalue())


def name_part_file(unit: int) -> str:
    """Return the file that holds the rows of a unit in shared shards until these are written.

    Examples
    --------
    >>> name_part_file(3)
    '.parts/3.npz'
    """
    return f"{PARTS_FOLDER}/{unit}.npz"


def write_shared_shard(
    location: StoreLocation, shard: SharedShard, *, finished: Collection[int]
) -> None:
    """Put the rows of a shared shard together and write it.

    Parameters
    ----------
    location : StoreLocation
        The store.
    shard : SharedShard
        The shard; all its units are computed.
    finished : collection of int
        The units whose rows are in the store's arrays: an earlier run has finished them.

    Raises
    ------
    CacheCorruptError
        If the rows of a unit are lost or damaged.

    Examples
    --------
    >>> write_shared_shard(location, shard, finished=())  # doctest: +SKIP
    """
    group = location.group("r+")
    rows: dict[str, list[tuple[int, npt.NDArray[Any]]]] = {
        f"tokens/{hook_point}/{name}": []
        for hook_point in shard.hook_points
        for name, array in group[f"tokens/{hook_point}"].arrays()
        if name != "layer"
    }
    for unit, start, stop in shard.pieces:
        if unit in finished:
            for path, parts in rows.items():
                parts.append((start, np.asarray(group[path][start:stop])))
            continue
        with _open_part(location, unit) as part:
            for key in part.files:
                path, _, first = key.rpartition("@")
                if path in rows and start <= int(first) < stop:
                    rows[path].append((int(first), part[key]))
    for path, parts in rows.items():
        values = np.concatenate([part for _, part in sorted(parts, key=lambda part: part[0])])
        if len(values) != shard.stop - shard.start:
            raise _make_part_error(location, shard.units[0], f"{path} lacks rows")
        write_array_rows(group, path=path, index=slice(shard.start, shard.stop), values=values)


@contextmanager
def _open_part(location: StoreLocation, unit: int) -> Iterator[Any]:
    try:
        with np.load(io.BytesIO(location.read(name_part_file(unit))), allow_pickle=False) as part:
            yield part
    except (FileNotFoundError, ValueError, zipfile.BadZipFile) as error:
        raise _make_part_error(location, unit, str(error)) from error


def _make_part_error(location: StoreLocation, unit: int, reason: str) -> CacheCorruptError:
    return CacheCorruptError(
        f"The file {name_part_file(unit)} of {location.address!r}, which a worker left, is lost or "
        f"damaged: {reason}. Remove this file; the same command then computes its unit again."
    )
