"""Check of a store: which files are missing or fail their checksum, and what they hold."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from ima.cache.provenance import parse_cache_layout
from ima.cache.reader import read_cache_attributes
from ima.cache.schema import CACHE_SCHEMA, CACHE_SCHEMA_VERSION, ArraySpec, CacheLayout
from ima.cache.store import (
    ROOT_DIGEST_KEY,
    ROOT_METADATA_FILE,
    StoreLocation,
    build_store_metadata,
    is_root_intact,
    locate_store,
    serialize_node_metadata,
)
from ima.errors import CacheCorruptError

_COPY = f"samples/{ROOT_METADATA_FILE}"


@dataclass(frozen=True)
class CacheProblem:
    """One damaged piece of a store.

    Parameters
    ----------
    file : str
        The file, below the store's folder.
    group, array : str
        What it belongs to; ``array`` is empty for a group's metadata.
    chunk : tuple of int or None
        Which chunk of the array; None for metadata, and where a whole file is lost.
    samples : tuple of str
        Ids of the samples whose numbers it holds.
    reason : str
        What is wrong.
    """

    file: str
    group: str
    array: str
    chunk: tuple[int, ...] | None
    samples: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        array = f", array {self.array!r}" if self.array else ""
        chunk = "" if self.chunk is None else f", chunk {self.chunk}"
        samples = f", samples {', '.join(self.samples)}" if self.samples else ""
        return f"group '/{self.group}'{array}{chunk}{samples}: {self.reason} (file {self.file})"


@dataclass(frozen=True)
class CacheCheckResult:
    """What is known of a store after every file was read.

    Parameters
    ----------
    attributes : mapping
        How it was made.
    layout : Layout
        Its sizes.
    done : array (sample)
        Which samples are finished.
    files : int
        How many files there are.
    problems : tuple of Problem
        What is damaged.
    restore : mapping of str to bytes
        Contents of the damaged files that do not depend on a model.
    delete : tuple of str
        Damaged files that do.
    units : frozenset of int
        Units that have to be computed again.
    unexpected : tuple of str
        Files that do not belong to the cache.
    """

    attributes: Mapping[str, Any]
    layout: CacheLayout
    done: npt.NDArray[np.bool_]
    files: int
    problems: tuple[CacheProblem, ...]
    restore: Mapping[str, bytes]
    delete: tuple[str, ...]
    units: frozenset[int]
    unexpected: tuple[str, ...]


def check_cache_files(location: StoreLocation) -> CacheCheckResult:
    """Read every file of a store.

    Raises
    ------
    CacheError
        If there is no cache.
    CacheSchemaError
        If what is there is not a cache of this schema version.
    CacheCorruptError
        If root and copy of the attributes are both damaged.
    """
    attributes, metadata = _trusted(location)
    layout = parse_cache_layout(attributes)
    store = _Store(location, layout, sizes=location.sizes())
    problems: list[CacheProblem] = []
    restore: dict[str, bytes] = {}
    for key, content in metadata.items():
        if key not in store.sizes or location.read(key) != content:
            reason = "altered" if key in store.sizes else "missing"
            path = key.removesuffix(ROOT_METADATA_FILE).removesuffix("/")
            array = next((array for array in store.arrays if array.path == path), None)
            group, name = (array.group, array.name) if array else (path, "")
            problems.append(CacheProblem(key, group, name, None, (), f"metadata {reason}"))
            restore[key] = content
    readable = [
        array for array in store.arrays if f"{array.path}/{ROOT_METADATA_FILE}" not in restore
    ]
    for array in readable:
        key = f"{array.path}/c/0"
        if array.values is not None and (reason := store.fault(array, key)):
            problems.append(CacheProblem(key, array.group, array.name, (0,), (), reason))
            restore[key] = build_store_metadata(store.arrays, _without_digest(attributes))[key]
    damaged: dict[str, set[int]] = {}
    data = [array for array in readable if array.values is None]
    # What says which samples are done, and which tokens they have, comes first.
    first = ("samples/done", "samples/n_perceptual", "samples/n_textual")
    for array in sorted(data, key=lambda array: (array.path not in first, array.path != first[0])):
        for problem, units in store.problems(array):
            problems.append(problem)
            damaged.setdefault(problem.file, set()).update(units)
    known = set(metadata) | {
        f"{array.path}/c/{'/'.join(map(str, index))}"
        for array in store.arrays
        for index in _grid(array)
    }
    return CacheCheckResult(
        attributes=attributes,
        layout=layout,
        done=store.done,
        files=len(store.sizes),
        problems=tuple(problems),
        restore=restore,
        delete=tuple(damaged),
        units=frozenset(unit for units in damaged.values() for unit in units),
        unexpected=tuple(sorted(set(store.sizes) - known)),
    )


def _trusted(location: StoreLocation) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return attributes and metadata files as they were written."""
    if location.exists() and is_root_intact(location.read(ROOT_METADATA_FILE)):
        attributes, root = read_cache_attributes(location), location.read(ROOT_METADATA_FILE)
    else:
        attributes = _copied_attributes(location)
        root = build_store_metadata(
            parse_cache_layout(attributes).arrays(), _without_digest(attributes)
        )[ROOT_METADATA_FILE]
        if json.loads(root)["attributes"] != attributes:
            raise _lost(location)
    entries = json.loads(root)["consolidated_metadata"]["metadata"]
    files = {
        ROOT_METADATA_FILE: root,
        **{
            f"{path}/{ROOT_METADATA_FILE}": serialize_node_metadata(entry)
            for path, entry in entries.items()
        },
    }
    return attributes, files


def _copied_attributes(location: StoreLocation) -> dict[str, Any]:
    attributes: Any = None
    if location.exists(_COPY):
        try:
            attributes = json.loads(location.read(_COPY))["attributes"]
        except (ValueError, KeyError, TypeError):
            attributes = None
    if (
        not isinstance(attributes, dict)
        or attributes.get("schema") != CACHE_SCHEMA
        or attributes.get("schema_version") != CACHE_SCHEMA_VERSION
    ):
        read_cache_attributes(location)
        raise _lost(location)
    return attributes


def _lost(location: StoreLocation) -> CacheCorruptError:
    return CacheCorruptError(
        f"The root of {location.address!r} is damaged, and so is its copy in {_COPY}: nothing "
        "says any more what the store holds. Remove it and make it again."
    )


def _without_digest(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name != ROOT_DIGEST_KEY}


def _grid(array: ArraySpec) -> Iterator[tuple[int, ...]]:
    counts = [-(-size // part) for size, part in zip(array.shape, array.files, strict=True)]
    return itertools.product(*map(range, counts))


class _Store:
    """Reads a store's arrays file by file, learning on the way what the files hold."""

    def __init__(
        self, location: StoreLocation, layout: CacheLayout, *, sizes: Mapping[str, int]
    ) -> None:
        self.location, self.layout, self.sizes = location, layout, sizes
        self.arrays = layout.arrays()
        self.done = np.zeros(layout.samples, dtype=bool)
        self.counts = np.zeros(layout.samples, dtype=np.int64)
        self.opened: dict[str, Any] = {}
        self.ids = self._names()

    def _names(self) -> list[str]:
        """Return the samples' ids, or their rows where the ids are damaged or not written."""
        names = [f"row {row}" for row in range(self.layout.samples)]
        array = next(array for array in self.arrays if array.path == "samples/id")
        for index in _grid(array):
            (rows,) = _region(array, index, array.files)
            values = self._read(array, (rows,))
            if not isinstance(values, Exception) and all(values):
                names[rows] = [str(value) for value in values]
        return names

    def fault(self, array: ArraySpec, key: str) -> str:
        """Return what is wrong with a coord, or nothing."""
        if key not in self.sizes:
            return "missing"
        values = self._read(array, (slice(None),))
        if isinstance(values, Exception):
            return _reason(values)
        return "" if np.array_equal(values, np.asarray(array.values)) else "altered"

    def problems(self, array: ArraySpec) -> Iterator[tuple[CacheProblem, set[int]]]:
        """Yield what is damaged of an array, with the units that it holds."""
        for index in _grid(array):
            key = f"{array.path}/c/{'/'.join(map(str, index))}"
            region = _region(array, index, array.files)
            rows = self._rows(array, region[0])
            units = {int(row) // self.layout.unit for row in rows}
            expected = any(self.done[self.layout.bounds(unit)[0]] for unit in units)
            if array.name == "done" and array.group == "samples":
                expected = key in self.sizes or self._complete(index[0])
            if not expected:
                continue
            for chunk, part, reason in self._faults(array, key, index, region):
                ids = tuple(self.ids[row] for row in self._rows(array, part[0]))
                yield CacheProblem(key, array.group, array.name, chunk, ids, reason), units

    def _faults(
        self, array: ArraySpec, key: str, index: tuple[int, ...], region: tuple[slice, ...]
    ) -> Iterator[tuple[tuple[int, ...] | None, tuple[slice, ...], str]]:
        if key not in self.sizes:
            yield None, region, "missing"
            return
        if self.sizes[key] == 0:
            # Zarr takes an empty shard for one that holds fill values only.
            yield None, region, "empty"
            return
        values = self._read(array, region)
        if not isinstance(values, Exception):
            self._learn(array, region[0], values)
            return
        whole, bad = 0, []
        for inner in itertools.product(
            *(
                range(i * size // chunk, min(-(-(i + 1) * size // chunk), -(-length // chunk)))
                for i, size, chunk, length in zip(
                    index, array.files, array.chunks, array.shape, strict=True
                )
            )
        ):
            whole += 1
            part = _region(array, inner, array.chunks)
            fault = self._read(array, part)
            if isinstance(fault, Exception):
                bad.append((inner, part, _reason(fault)))
        if len(bad) == whole > 1:
            yield None, region, f"all {whole} chunks of the shard: {_reason(values)}"
        else:
            yield from bad

    def _read(self, array: ArraySpec, region: tuple[slice, ...]) -> Any:
        try:
            if array.path not in self.opened:
                address = f"{self.location.address}/{array.path}"
                self.opened[array.path] = zarr.open_array(address, mode="r")
            return np.asarray(self.opened[array.path][region])
        # Damaged bytes make codecs fail in every way that they have.
        except Exception as error:
            return error

    def _learn(self, array: ArraySpec, rows: slice, values: npt.NDArray[Any]) -> None:
        if array.path == "samples/done":
            self.done[rows] = values
        elif array.path in ("samples/n_perceptual", "samples/n_textual"):
            self.counts[rows] += values

    def _rows(self, array: ArraySpec, part: slice) -> list[int]:
        """Return the samples whose numbers a stretch of an array's first dim holds."""
        if array.dims[0] == "sample":
            return list(range(part.start, part.stop))
        if array.dims[0] == "vocabulary":
            # Written with the first unit.
            return list(range(*self.layout.bounds(0)))
        if array.dims[0] == "unit":
            return [
                row
                for unit in range(part.start, part.stop)
                for row in range(*self.layout.bounds(unit))
            ]
        # Behind a sample whose count is not known no token can be attributed.
        missing = np.flatnonzero(self.counts == 0)
        known = int(missing[0]) if missing.size else self.layout.samples
        behind = np.cumsum(self.counts[:known])
        first = int(np.searchsorted(behind, part.start, side="right"))
        last = int(np.searchsorted(behind, min(part.stop, self.layout.tokens) - 1, side="right"))
        return list(range(first, min(last + 1, known)))

    def _complete(self, unit: int) -> bool:
        """Return whether all of a unit but ``done`` is there."""
        return all(
            f"{array.path}/c/{'/'.join(map(str, (unit, *rest)))}" in self.sizes
            for array in self.arrays
            if array.dims[0] in ("sample", "unit")
            and unit * array.files[0] < array.shape[0]
            and array.path != "samples/done"
            for rest in itertools.product(
                *(
                    range(-(-size // part))
                    for size, part in zip(array.shape[1:], array.files[1:], strict=True)
                )
            )
        )


def _region(array: ArraySpec, index: tuple[int, ...], size: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(i * part, min((i + 1) * part, length))
        for i, part, length in zip(index, size, array.shape, strict=True)
    )


def _reason(error: Exception) -> str:
    if "checksum" in str(error):
        return "the checksum does not match"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@dataclass(frozen=True)
class VerificationReport:
    """What :func:`verify_cache` found.

    Parameters
    ----------
    path : str
        The store.
    ok : bool
        Whether everything that the store says it holds is there, now, unaltered.
    samples, done : int
        How many samples the store has room for, and how many are finished.
    files : int
        How many files were read.
    problems : tuple of Problem
        What was damaged.
    repaired : tuple of int
        Units that were computed again.
    unexpected : tuple of str
        Files that do not belong to the cache.
    """

    path: str
    ok: bool
    samples: int
    done: int
    files: int
    problems: tuple[CacheProblem, ...] = ()
    repaired: tuple[int, ...] = ()
    unexpected: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the report as JSON-serialisable values."""
        return asdict(self)


def verify_cache(path: str | os.PathLike[str]) -> VerificationReport:
    """Read every file of a cache against its checksums.

    Parameters
    ----------
    path : str or path
        A local folder or an fsspec URL.

    Returns
    -------
    Report
        Samples that are not finished are no problem; damage is.

    Raises
    ------
    CacheError
        If there is no cache.
    CacheSchemaError
        If what is there is not a cache of this schema version.
    CacheCorruptError
        If the root and its copy are both damaged, so that nothing says what the store holds.
    """
    location = locate_store(path)
    return report_of(location, check_cache_files(location))


def report_of(
    location: StoreLocation,
    checked: CacheCheckResult,
    *,
    problems: Sequence[CacheProblem] | None = None,
    repaired: Collection[int] = (),
) -> VerificationReport:
    """Return the report of a check, with what was found and repaired before it."""
    return VerificationReport(
        path=location.address,
        ok=not checked.problems,
        samples=checked.layout.samples,
        done=int(checked.done.sum()),
        files=checked.files,
        problems=tuple(checked.problems if problems is None else problems),
        repaired=tuple(sorted(repaired)),
        unexpected=checked.unexpected,
    )
