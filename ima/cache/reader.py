"""Reader of caches: open a store as an xarray tree, and describe it without reading its data."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.cache.addresses import format_cache_command
from ima.cache.direct_reads import DirectArray, read_selection
from ima.cache.direct_tree import open_direct_tree
from ima.cache.guarded_reads import StoreWatch, guard_reads
from ima.cache.provenance import (
    complete_layout,
    parse_cache_layout,
    parse_cache_parameters,
)
from ima.cache.schema import CACHE_SCHEMA, CACHE_SCHEMA_VERSION, ArraySpec
from ima.cache.schema1 import (
    SCHEMA_1_VERSION,
    downgrade_path,
    upgrade_attributes,
    upgrade_path,
    upgrade_tree,
)
from ima.cache.store import (
    ROOT_METADATA_FILE,
    StoreLocation,
    is_being_written,
    is_root_intact,
    locate_store,
)
from ima.cache.stored_arrays import StoredArray
from ima.errors import CacheCorruptError, CacheError, CacheIncompleteError, CacheSchemaError

#: What is said of a store whose lock is held.
_BEING_WRITTEN = "Another process is writing it now"
_SECTIONS = ("model", "dataset", "parameters", "layout", "execution")


def open_cache(path: str | os.PathLike[str], *, allow_partial: bool = False) -> xr.DataTree:
    """Open a cache lazily: arrays are read from the store when they are used.

    Parameters
    ----------
    path : str or path
        A local folder, or a URL: ``s3://``, ``gs://``, ``https://``, ``hf://`` or ``memory://``.
    allow_partial : bool
        Whether to open an unfinished cache; the tree then holds its finished samples.

    Returns
    -------
    xarray.DataTree
        Groups ``samples``, ``means/<hook_point>``, ``norms/<hook_point>``, ``drift``, ``sinks``
        and, if the settings include them, ``without_sinks/<hook_point>``, ``tokens/<hook_point>``,
        ``logit_lens`` and ``input_norms/<linear>``. Dims: sample, kind, layer, hidden, token, step,
        sink, vocabulary, unit, in_features. The root's attributes describe the run that made the
        cache. A cache of schema 1 opens with these names, too.

    Raises
    ------
    CacheError
        If there is nothing at the path.
    CacheSchemaError
        If the store is not a cache, or has an unknown schema version.
    CacheIncompleteError
        If it is not finished; the message has the command that finishes it.
    CacheCorruptError
        If metadata or coords are damaged, or a file that an unfinished cache needs is missing.
        Reading an array raises it where a file is missing or its bytes are damaged.
    CacheUnreachableError
        If the store does not answer, or does not let its user in.

    Examples
    --------
    >>> cache = open_cache("data/caches/llama-mini--image.zarr")  # doctest: +SKIP
    >>> cache["means/resid_post/mean"].sel(kind="textual", layer=3)  # doctest: +SKIP
    """
    location = locate_store(path)
    watch, root, attributes = _watch_store(location)
    done = _read_done(location, root)
    if not done.all() and not allow_partial:
        raise CacheIncompleteError(
            f"{location.address!r} is not finished: {int(done.sum())} of {done.size} samples. "
            f"{_advise_finish(attributes, location)} — or open in Python what is there: "
            "open_cache(…, allow_partial=True)."
        )
    is_complete = bool(done.all())
    # In an unfinished cache, files of other samples may be missing.
    keys = {} if is_complete else _require_files(location, attributes, done)
    try:
        contents = (
            {} if location.remote is None else location.find_all(_list_coord_files(attributes))
        )
        make_array = partial(
            DirectArray, location=location, is_complete=is_complete, contents=contents
        )
        tree = open_direct_tree(location.address, root, make_array=make_array)
        if tree is None:
            keys = _require_files(location, attributes, done)
            store = location.open_store(contents=contents, is_complete=is_complete)
            tree = xr.open_datatree(
                store, engine="zarr", chunks=None, consolidated=True, zarr_format=3
            )
    except CacheError:
        raise
    # Damaged metadata and coords make xarray, zarr and codecs fail in every way that they have.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CacheCorruptError(
            f"{location.address!r} cannot be opened: {reason:.200} See what is damaged, and "
            f"compute it again: {_repair_command(location)}"
        ) from error
    guard_reads(tree, watch=watch, keys=keys)
    if attributes["schema_version"] == SCHEMA_1_VERSION:
        tree = upgrade_tree(tree)
    return tree if is_complete else _select_finished(tree, done)


def _watch_store(location: StoreLocation) -> tuple[StoreWatch, dict[str, Any], dict[str, Any]]:
    """Return a watch of a store, and the very root that it watches, whole and its attributes."""
    if location.local is None:
        content, root, attributes = _read_root(location)
        return StoreWatch(location, root=content), root, attributes
    while True:
        watch = StoreWatch(location)
        _, root, attributes = _read_root(location)
        # A writer may have begun or replaced the store in between.
        if watch.observe()[:1] == watch.opened[:1]:
            return watch, root, attributes


def describe_cache(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe what a cache holds and how it was made, without reading its data.

    Parameters
    ----------
    path : str or path
        A local folder, or a URL: ``s3://``, ``gs://``, ``https://``, ``hf://`` or ``memory://``.

    Returns
    -------
    dict
        ``path``, ``model``, ``dataset``, ``samples``, ``done``, ``finished``, ``finish`` (the
        command that finishes the cache; None if it is finished), ``being_written`` (whether
        another process is finishing it), ``hook_points``, ``keep_tokens``, ``dtype`` (of token
        states), ``unit``, ``groups`` (per group: its bytes, and shape and dims per array),
        ``bytes``, ``schema_version``, ``parameters``, ``execution``.

    Raises
    ------
    CacheError
        If there is nothing at the path.
    CacheSchemaError
        If the store is not a cache, or has an unknown schema version.

    Examples
    --------
    >>> describe_cache("data/caches/llama-mini--image.zarr")["samples"]  # doctest: +SKIP
    200
    """
    location = locate_store(path)
    attributes = read_cache_attributes(location)
    parameters, layout = parse_cache_parameters(attributes), parse_cache_layout(attributes)
    done = read_done_mask(location)
    sizes = location.sizes(list_cache_files(attributes))
    groups: dict[str, dict[str, Any]] = {}
    for array in layout.arrays():
        group = groups.setdefault(array.group, {"bytes": 0, "arrays": {}})
        shape = dict(zip(array.dims, array.shape, strict=True))
        group["arrays"][array.name] = {"dtype": array.dtype, "shape": shape}
    for key, size in sizes.items():
        owner = key.split("/c/")[0].removesuffix(f"/{ROOT_METADATA_FILE}")
        if attributes["schema_version"] == SCHEMA_1_VERSION:
            owner = upgrade_path(owner)
        for name, group in groups.items():
            if owner == name or owner.rpartition("/")[0] == name:
                group["bytes"] += size
    finished = bool(done.all())
    return {
        "path": location.address,
        "model": dict(attributes["model"]),
        "dataset": dict(attributes["dataset"]),
        "samples": int(done.size),
        "done": int(done.sum()),
        "finished": finished,
        "finish": None if finished else _command(attributes, location),
        "being_written": not finished and is_being_written(location),
        "hook_points": list(parameters.hook_points),
        "keep_tokens": parameters.keep_tokens,
        "dtype": parameters.dtype,
        "unit": layout.unit,
        "groups": groups,
        "bytes": sum(sizes.values()),
        "schema_version": attributes["schema_version"],
        "parameters": dict(attributes["parameters"]),
        "execution": dict(attributes["execution"]),
    }


def read_cache_attributes(location: StoreLocation) -> dict[str, Any]:
    """Return the attributes of a cache, with the names of schema 2.

    Raises
    ------
    CacheError
        If there is nothing at the location.
    CacheSchemaError
        If the store is not a cache, or has an unknown schema version.
    CacheCorruptError
        If its root is not JSON, or has another checksum than it states.

    Examples
    --------
    >>> read_cache_attributes(locate_store("mine.zarr"))["model"]["setup"]  # doctest: +SKIP
    'ST'
    """
    return _read_root(location)[2]


def _read_root(location: StoreLocation) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """Return the root of a cache: its bytes, its metadata, and attributes of schema 2."""
    try:
        root = location.find(ROOT_METADATA_FILE)
    except PermissionError as error:
        raise CacheError(
            f"{location.address!r} cannot be read: {error.strerror}. Ask its owner for the right "
            "to read it, or copy it."
        ) from error
    if root is None:
        if is_being_written(location):
            raise CacheError(
                f"No cache at {location.address!r} yet. {_BEING_WRITTEN}, and has not finished the "
                "first unit: wait for it."
            )
        is_folder = location.is_folder()
        message = (
            f"No cache at {location.address!r}: looked for {ROOT_METADATA_FILE}, found "
            f"{'a folder without it' if is_folder else 'nothing'}. Make one with "
            f"`ima cache create --model … --dataset … --out {shlex.quote(location.address)}`."
        )
        raise CacheSchemaError(message) if is_folder else CacheError(message)
    try:
        document = json.loads(root)
    except ValueError as error:
        raise CacheCorruptError(
            f"The root of {location.address!r} is not JSON: {error}. "
            f"Try `{_repair_command(location)}`."
        ) from error
    given = document.get("attributes") if isinstance(document, Mapping) else None
    attributes = given if isinstance(given, Mapping) else {}
    if attributes.get("schema") != CACHE_SCHEMA:
        raise CacheSchemaError(
            f"{location.address!r} is a Zarr store and not a cache of ima: its attribute "
            f"'schema' is {attributes.get('schema')!r}, not {CACHE_SCHEMA!r}."
        )
    version = attributes.get("schema_version")
    if version not in (SCHEMA_1_VERSION, CACHE_SCHEMA_VERSION):
        raise CacheSchemaError(
            f"{location.address!r} has schema version {version!r}; this version of ima reads "
            f"{SCHEMA_1_VERSION!r} and {CACHE_SCHEMA_VERSION!r}. Make it again at another path, or "
            "read it with plain xarray."
        )
    try:
        found = upgrade_attributes(attributes) if version == SCHEMA_1_VERSION else dict(attributes)
        arrays = document.get("consolidated_metadata", {}).get("metadata", {})
        found = complete_layout(found, holds_contents="samples/content" in arrays)
        layout = parse_cache_layout(found)
        whole = all(isinstance(found.get(section, {}), Mapping) for section in _SECTIONS)
        whole = whole and isinstance(layout.samples, int) and isinstance(layout.unit, int)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _make_damage_error(location, f"{type(error).__name__}: {error}") from error
    if not whole:
        raise _make_damage_error(location, "an entry has another type")
    if not is_root_intact(root):
        raise _make_damage_error(location, "the root has another checksum than it states")
    return root, document, found


def _make_damage_error(location: StoreLocation, reason: str) -> CacheCorruptError:
    return CacheCorruptError(
        f"The attributes of {location.address!r} are damaged: {reason}. "
        f"Try `{_repair_command(location)}`."
    )


def _command(attributes: Mapping[str, Any], location: StoreLocation) -> str:
    command = parse_cache_parameters(attributes).command(location.address)
    return f"{command} --overwrite" if attributes["schema_version"] == SCHEMA_1_VERSION else command


def _advise_finish(attributes: Mapping[str, Any], location: StoreLocation) -> str:
    if is_being_written(location):
        return f"{_BEING_WRITTEN}: wait for it"
    return f"Finish it with: {_command(attributes, location)}"


def _repair_command(location: StoreLocation) -> str:
    return format_cache_command("verify", location.address, "--repair")


def read_done_mask(location: StoreLocation) -> npt.NDArray[np.bool_]:
    """Return which samples are finished, dims ``(sample,)``.

    Raises
    ------
    CacheCorruptError
        If the array cannot be read.

    Examples
    --------
    >>> read_done_mask(locate_store("mine.zarr")).all()  # doctest: +SKIP
    True
    """
    return _read_done(location, _read_root(location)[1])


def _read_done(location: StoreLocation, root: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    path = "samples/done"
    try:
        stored = StoredArray.parse(path, root["consolidated_metadata"]["metadata"][path])
        if stored is None:
            return np.asarray(location.group()[path][...])
        # Most files say that all their samples are done.
        contents = location.find_repeated(stored.list_file_keys(), folder=f"{path}/c")
        done: npt.NDArray[np.bool_] = read_selection(
            stored, (slice(None),), location=location, is_complete=False, contents=contents
        )
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CacheCorruptError(
            f"{path!r} of {location.address!r} cannot be read: {error}. "
            f"Try `{_repair_command(location)}`."
        ) from error
    return done


def _require_files(
    location: StoreLocation, attributes: Mapping[str, Any], done: npt.NDArray[np.bool_]
) -> dict[str, list[str]]:
    """Return the files that the finished samples need, by array; raise an error if one is lost."""
    if not location.can_list:
        # A lost file of a finished cache is an error once it is read.
        return {}
    sizes = location.sizes()
    is_old, finished = attributes["schema_version"] == SCHEMA_1_VERSION, bool(done.all())
    expected = {
        downgrade_path(array.path) if is_old else array.path: [
            make_file_key(array, index, is_old=is_old)
            for index in array.list_file_indices()
            if finished or _is_needed(array, index, done)
        ]
        for array in parse_cache_layout(attributes).arrays()
    }
    lost = [key for keys in expected.values() for key in keys if not sizes.get(key)]
    if lost:
        total = sum(map(len, expected.values()))
        raise CacheCorruptError(
            f"{location.address!r} lacks {len(lost)} of its {total} files, or they are "
            f"empty; the first missing one is {lost[0]}. Copy the cache again, or compute them: "
            f"{_repair_command(location)}"
        )
    return expected


def make_file_key(array: ArraySpec, index: tuple[int, ...], *, is_old: bool) -> str:
    """Return the file of a store that holds a part of an array.

    Parameters
    ----------
    array : ArraySpec
        The array, with its name of schema 2.
    index : tuple of int
        Index of the file, per dim.
    is_old : bool
        Whether the store is of schema 1.

    Examples
    --------
    >>> loss = ArraySpec("samples/loss", ("sample",), (20,), "float32", (10,))
    >>> make_file_key(loss, (1,), is_old=False)
    'samples/loss/c/1'
    """
    path = downgrade_path(array.path) if is_old else array.path
    return f"{path}/c/{'/'.join(map(str, index))}"


def list_cache_files(attributes: Mapping[str, Any]) -> list[str]:
    """Return every file of a finished cache, the root's metadata last.

    Parameters
    ----------
    attributes : mapping
        Attributes of the cache; they alone determine its files.

    Examples
    --------
    >>> list_cache_files(open_cache("mine.zarr").attrs)[-1]  # doctest: +SKIP
    'zarr.json'
    """
    is_old = attributes["schema_version"] == SCHEMA_1_VERSION
    files, nodes = [], set[str]()
    for array in parse_cache_layout(attributes).arrays():
        files += [make_file_key(array, index, is_old=is_old) for index in array.list_file_indices()]
        path = downgrade_path(array.path) if is_old else array.path
        nodes |= {path, *(path[:end] for end, sign in enumerate(path) if sign == "/")}
    files += [f"{path}/{ROOT_METADATA_FILE}" for path in sorted(nodes)]
    return [*files, ROOT_METADATA_FILE]


def _list_coord_files(attributes: Mapping[str, Any]) -> list[str]:
    is_old = attributes["schema_version"] == SCHEMA_1_VERSION
    return [
        make_file_key(array, index, is_old=is_old)
        for array in parse_cache_layout(attributes).arrays()
        if array.values is not None
        for index in array.list_file_indices()
    ]


def _is_needed(array: ArraySpec, index: tuple[int, ...], done: npt.NDArray[np.bool_]) -> bool:
    if array.values is not None:
        return True
    # Of an unfinished cache, only these say by their place which samples they hold.
    if array.dims[0] != "sample":
        return False
    size = array.files[0]
    return bool(done[index[0] * size : (index[0] + 1) * size].any())


def _select_finished(tree: xr.DataTree, done: npt.NDArray[np.bool_]) -> xr.DataTree:
    rows = np.flatnonzero(done)

    def select(dataset: xr.Dataset) -> xr.Dataset:
        if "token" in dataset.dims:
            sample = dataset["sample"].to_numpy()
            # Rows that are not written have the fill value -1.
            return dataset.isel(token=np.flatnonzero((sample >= 0) & done[sample]))
        chosen = {}
        if "unit" in dataset.dims:
            # A unit is done when its samples are.
            chosen["unit"] = np.unique(rows // tree.attrs["layout"]["unit"])
        if "sample" in dataset.dims:
            chosen["sample"] = rows[rows < dataset.sizes["sample"]]
        return dataset.isel(chosen)

    return tree.map_over_datasets(select)
