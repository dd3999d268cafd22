"""Verification of caches: which files are missing or damaged, and which samples they hold."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ima.cache.provenance import complete_layout, parse_cache_layout
from ima.cache.reader import list_cache_files, make_file_key, read_cache_attributes
from ima.cache.schema import CACHE_SCHEMA, CACHE_SCHEMA_VERSION, ArraySpec
from ima.cache.schema1 import SCHEMA_1_VERSION, downgrade_path, upgrade_path
from ima.cache.store import (
    PARTS_FOLDER,
    ROOT_DIGEST_KEY,
    ROOT_METADATA_FILE,
    StoreLocation,
    build_store_metadata,
    is_root_intact,
    locate_store,
    serialize_node_metadata,
)
from ima.errors import CacheCorruptError, CacheUnreachableError

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
    units : tuple of int
        Units of work to compute again; empty where no model is needed.
    """

    file: str
    group: str
    array: str
    chunk: tuple[int, ...] | None
    samples: tuple[str, ...]
    reason: str
    units: tuple[int, ...] = ()

    def __str__(self) -> str:
        array = f", array {self.array!r}" if self.array else ""
        chunk = "" if self.chunk is None else f", chunk {self.chunk}"
        samples = f", samples {', '.join(self.samples)}" if self.samples else ""
        return f"group '/{self.group}'{array}{chunk}{samples}: {self.reason} (file {self.file})"


@dataclass(frozen=True)
class VerificationReport:
    """Result of :func:`verify_cache`.

    Parameters
    ----------
    path : str
        The store.
    ok : bool
        Whether everything that the store should hold is there, now, unaltered.
    samples, done : int
        Number of samples that the store has room for, and number of finished ones.
    files : int
        Number of files read.
    problems : tuple of CacheProblem
        Damage found.
    repaired : tuple of int
        Units of work that were computed again.
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
        A local folder, or a URL as for :func:`ima.cache.reader.open_cache`.

    Returns
    -------
    VerificationReport
        Damage is a problem; an unfinished sample is not.

    Raises
    ------
    CacheError
        If there is no cache.
    CacheSchemaError
        If the store is not a cache, or has an unknown schema version.
    CacheCorruptError
        If the root and its copy are both damaged: nothing states what the store holds.

    Examples
    --------
    >>> verify_cache("data/caches/llama-mini--image.zarr").ok  # doctest: +SKIP
    True
    """
    location = locate_store(path)
    attributes, metadata = read_trusted_metadata(location)
    store = _Store(location, attributes)
    problems = tuple(store.check(metadata))
    return VerificationReport(
        path=location.address,
        ok=not problems,
        samples=store.layout.samples,
        done=int(store.done.sum()),
        files=len(store.sizes),
        problems=problems,
        unexpected=store.list_unexpected_files(metadata),
    )


def read_trusted_metadata(location: StoreLocation) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the attributes of a store and its metadata files, by key, as they were written.

    They come from the root or, if the root is damaged, from the copy of its attributes.

    Raises
    ------
    CacheCorruptError
        If the root and its copy are both damaged.

    Examples
    --------
    >>> attributes, files = read_trusted_metadata(locate_store("mine.zarr"))  # doctest: +SKIP
    >>> attributes["schema_version"], "zarr.json" in files  # doctest: +SKIP
    ('2', True)
    """
    if location.exists() and is_root_intact(location.read(ROOT_METADATA_FILE)):
        attributes, root = read_cache_attributes(location), location.read(ROOT_METADATA_FILE)
    else:
        copied = _read_copied_attributes(location)
        holds_contents = location.exists(f"samples/content/{ROOT_METADATA_FILE}")
        attributes = complete_layout(copied, holds_contents=holds_contents)
        root = _build_files(attributes, copied)[ROOT_METADATA_FILE]
        if json.loads(root)["attributes"] != copied:
            raise _make_lost_error(location)
    entries = json.loads(root)["consolidated_metadata"]["metadata"]
    children = {
        f"{path}/{ROOT_METADATA_FILE}": serialize_node_metadata(entry)
        for path, entry in entries.items()
    }
    return attributes, {ROOT_METADATA_FILE: root, **children}


def build_initial_files(attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """Return all files of a store that do not depend on a model, by key.

    Examples
    --------
    >>> "means/resid_post/layer/c/0" in build_initial_files(attributes)  # doctest: +SKIP
    True
    """
    return _build_files(attributes, attributes)


def _build_files(attributes: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a store with some attributes whose root states others."""
    without_digest = {name: value for name, value in stated.items() if name != ROOT_DIGEST_KEY}
    return build_store_metadata(parse_cache_layout(attributes).arrays(), without_digest)


def _read_copied_attributes(location: StoreLocation) -> dict[str, Any]:
    copied: Any = None
    if location.exists(_COPY):
        with suppress(ValueError, KeyError, TypeError):
            copied = json.loads(location.read(_COPY))["attributes"]
    attributes: dict[str, Any] = copied if isinstance(copied, dict) else {}
    schema, version = attributes.get("schema"), attributes.get("schema_version")
    if (schema, version) == (CACHE_SCHEMA, SCHEMA_1_VERSION):
        raise CacheCorruptError(
            f"The root of {location.address!r} is damaged, and ima does not repair caches of "
            f"schema version {version!r}. Remove it and make it again."
        )
    if (schema, version) != (CACHE_SCHEMA, CACHE_SCHEMA_VERSION):
        read_cache_attributes(location)
        raise _make_lost_error(location)
    return attributes


def _make_lost_error(location: StoreLocation) -> CacheCorruptError:
    return CacheCorruptError(
        f"The root of {location.address!r} is damaged, and so is its copy in {_COPY}: nothing "
        "states any more what the store holds. Remove it and make it again."
    )


class _Store:
    """A store read file by file; what is read first says what to expect of the rest."""

    def __init__(self, location: StoreLocation, attributes: Mapping[str, Any]) -> None:
        self.location, self.layout = location, parse_cache_layout(attributes)
        self.old = attributes["schema_version"] == SCHEMA_1_VERSION
        files = list_cache_files(attributes)
        self.sizes = location.sizes(files)
        self.metadata = location.find_all(key for key in files if key.endswith(ROOT_METADATA_FILE))
        self.arrays = self.layout.arrays()
        self.done = np.zeros(self.layout.samples, dtype=bool)
        self.counts = np.zeros(self.layout.samples, dtype=np.int64)
        self.opened: dict[str, Any] = {}
        self.ids = self._read_ids()

    def check(self, metadata: Mapping[str, bytes]) -> Iterator[CacheProblem]:
        """Yield the damage: of metadata, of coords, then of data."""
        unreadable = set()
        for key, content in metadata.items():
            if self.metadata.get(key) != content:
                path = key.removesuffix(ROOT_METADATA_FILE).removesuffix("/")
                path = upgrade_path(path) if self.old else path
                unreadable.add(path)
                array = next((array for array in self.arrays if array.path == path), None)
                group, name = (array.group, array.name) if array else (path, "")
                reason = "altered" if key in self.sizes else "missing"
                yield CacheProblem(key, group, name, None, (), f"metadata {reason}")
        # Coords come first, then the arrays that tell which samples are done and have which tokens.
        order = ("samples/done", "samples/n_perceptual", "samples/n_textual")
        ranks = {path: rank for rank, path in enumerate(order, start=1)}
        for array in sorted(
            (array for array in self.arrays if array.path not in unreadable),
            key=lambda array: ranks.get(array.path, 4) if array.values is None else 0,
        ):
            yield from self._check_array(array)

    def list_unexpected_files(self, metadata: Iterable[str]) -> tuple[str, ...]:
        """Return the files that do not belong to the cache."""
        names = set(self.sizes) - set(metadata) - self.list_chunk_files()
        if not self.done.all():
            # What workers left there belongs to units that are not finished.
            names = {name for name in names if not name.startswith(f"{PARTS_FOLDER}/")}
        return tuple(sorted(names))

    def list_chunk_files(self) -> set[str]:
        """Return the files that a finished store has for the chunks of its arrays."""
        return {
            self._get_key(array, index)
            for array in self.arrays
            for index in array.list_file_indices()
        }

    def _get_path(self, array: ArraySpec) -> str:
        return downgrade_path(array.path) if self.old else array.path

    def _get_key(self, array: ArraySpec, index: tuple[int, ...]) -> str:
        return make_file_key(array, index, is_old=self.old)

    def _read_ids(self) -> list[str]:
        """Return the samples' ids, or their rows where the ids are damaged or not written."""
        names = [f"row {row}" for row in range(self.layout.samples)]
        array = next(array for array in self.arrays if array.path == "samples/id")
        for index in array.list_file_indices():
            (rows,) = _region(array, index, array.files)
            values = self._read(array, (rows,))
            if not isinstance(values, Exception) and all(values):
                names[rows] = [str(value) for value in values]
        return names

    def _check_array(self, array: ArraySpec) -> Iterator[CacheProblem]:
        for index in array.list_file_indices():
            key = self._get_key(array, index)
            region = _region(array, index, array.files)
            rows = self._list_samples(array, region[0])
            units = tuple(sorted({row // self.layout.unit for row in rows}))
            if array.path == "samples/done":
                expected = key in self.sizes or self._is_complete(index[0])
            else:
                done = (self.done[self.layout.bounds(unit)[0]] for unit in units)
                expected = array.values is not None or any(done)
            for chunk, part, reason in self._find_damage(array, key, region) if expected else ():
                ids = tuple(self.ids[row] for row in self._list_samples(array, part[0]))
                yield CacheProblem(key, array.group, array.name, chunk, ids, reason, units)

    def _find_damage(
        self, array: ArraySpec, key: str, region: tuple[slice, ...]
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
            if array.path == "samples/done":
                self.done[region[0]] = values
            elif array.path in ("samples/n_perceptual", "samples/n_textual"):
                self.counts[region[0]] += values
            elif array.values is not None and not np.array_equal(values, array.values):
                yield (0,), region, "altered"
            return
        chunks = itertools.product(
            *(
                range(part.start // size, -(-part.stop // size))
                for part, size in zip(region, array.chunks, strict=True)
            )
        )
        parts = {chunk: _region(array, chunk, array.chunks) for chunk in chunks}
        errors = {chunk: self._read(array, part) for chunk, part in parts.items()}
        damaged = [chunk for chunk, error in errors.items() if isinstance(error, Exception)]
        if len(damaged) == len(parts) > 1:
            yield None, region, f"all {len(parts)} chunks of the shard: {_describe_error(values)}"
        else:
            for chunk in damaged:
                yield chunk, parts[chunk], _describe_error(errors[chunk])

    def _read(self, array: ArraySpec, region: tuple[slice, ...]) -> Any:
        try:
            if array.path not in self.opened:
                self.opened[array.path] = self.location.open_array(
                    self._get_path(array), contents=self.metadata
                )
            return np.asarray(self.opened[array.path][region])
        except CacheUnreachableError:
            raise
        # Damaged bytes make codecs fail in every way that they have.
        except Exception as error:
            return error

    def _list_samples(self, array: ArraySpec, part: slice) -> list[int]:
        """Return the samples whose numbers are in a part of an array's first dim."""
        dim, bounds = array.dims[0], self.layout.bounds
        if array.values is not None:
            return []
        if dim == "sample":
            return list(range(part.start, part.stop))
        if dim == "vocabulary":
            # Written with the first unit.
            return list(range(*bounds(0)))
        if dim == "unit":
            return list(range(bounds(part.start)[0], bounds(part.stop - 1)[1]))
        # After a sample of unknown token count, tokens cannot be attributed to samples.
        missing = np.flatnonzero(self.counts == 0)
        known = int(missing[0]) if missing.size else self.layout.samples
        ends = np.cumsum(self.counts[:known])
        first = int(np.searchsorted(ends, part.start, side="right"))
        last = int(np.searchsorted(ends, min(part.stop, self.layout.tokens) - 1, side="right"))
        return list(range(first, min(last + 1, known)))

    def _is_complete(self, unit: int) -> bool:
        """Return whether all of a unit but ``done`` is there."""
        return all(
            self._get_key(array, index) in self.sizes
            for array in self.arrays
            if array.dims[0] in ("sample", "unit") and array.path != "samples/done"
            for index in array.list_file_indices()
            if index[0] == unit
        )


def _region(array: ArraySpec, index: tuple[int, ...], size: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(i * part, min((i + 1) * part, length))
        for i, part, length in zip(index, size, array.shape, strict=True)
    )


def _describe_error(error: Exception) -> str:
    if "checksum" in str(error):
        return "the checksum does not match"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
