"""Files of a store: where they are, how they are written, and who may write.

One module because a location, its lock, what a failed write says and the metadata that a new store
begins with are used together by whoever writes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.request import url2pathname

import numpy as np
import numpy.typing as npt
import zarr
from filelock import FileLock, Timeout
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore

from ima.cache.addresses import is_url
from ima.cache.remote import RemoteFolder
from ima.cache.remote_lock import is_remote_folder_locked, lock_remote_folder
from ima.cache.schema import ArraySpec, is_leftover_file
from ima.cache.shards import find_divided_dim, write_whole_shards
from ima.errors import CacheError, CacheLockedError
from ima.files import replace_file, replace_folder

ROOT_METADATA_FILE = "zarr.json"
ROOT_DIGEST_KEY = "sha256"
#: Where workers keep rows of shards that they share, until these are written; not part of a cache.
PARTS_FOLDER = ".parts"
_BLANK = "0" * 64
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PARALLEL_WRITES = 16


@dataclass(frozen=True)
class StoreLocation:
    """Location of a store.

    Parameters
    ----------
    address : str
        A local path or a URL.
    local : Path or None
        The folder if it is on a local disk.
    remote : RemoteFolder or None
        The folder if it is behind a URL.
    """

    address: str
    local: Path | None
    remote: RemoteFolder | None = None

    @property
    def can_list(self) -> bool:
        """Whether the files of the store can be listed: a web server does not list them."""
        return self.remote is None or self.remote.can_list

    def exists(self, key: str = ROOT_METADATA_FILE) -> bool:
        """Return whether a file of the store exists."""
        return (self._folder / key).is_file() if self.remote is None else self.remote.exists(key)

    def is_folder(self) -> bool:
        """Return whether there is a folder, or a file below its name."""
        if self.remote is None:
            return self._folder.is_dir()
        return self.remote.can_list and bool(self.remote.sizes())

    def find(self, key: str) -> bytes | None:
        """Return the bytes of a file, or None if it does not exist."""
        if self.remote is not None:
            return self.remote.find(key)
        try:
            return (self._folder / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def find_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those of many files that exist."""
        if self.remote is not None:
            return self.remote.find_all(keys)
        contents = {key: self.find(key) for key in keys}
        return {key: content for key, content in contents.items() if content is not None}

    def find_repeated(self, keys: Sequence[str], *, folder: str) -> dict[str, bytes]:
        """Return the bytes of files of one folder of which many are equal; none of a local disk.

        Behind a URL, equal files are read once.
        """
        return {} if self.remote is None else self.remote.find_repeated(keys, folder=folder)

    def read(self, key: str) -> bytes:
        """Return the bytes of a file.

        Raises
        ------
        FileNotFoundError
            If it does not exist.
        """
        content = self.find(key)
        if content is None:
            raise FileNotFoundError(
                errno.ENOENT, os.strerror(errno.ENOENT), f"{self.address}/{key}"
            )
        return content

    def write(self, key: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        if self.remote is not None:
            self.remote.write(key, content)
            return
        with replace_file(self._folder / key) as partial:
            partial.write_bytes(content)

    def delete(self, key: str) -> None:
        """Remove a file, if it exists."""
        if self.remote is not None:
            self.remote.delete(key)
        else:
            (self._folder / key).unlink(missing_ok=True)

    def sizes(self, keys: Iterable[str] = ()) -> dict[str, int]:
        """Return the files of the store with their sizes in bytes.

        Parameters
        ----------
        keys : iterable of str
            Where the files cannot be listed, the ones to ask for.
        """
        if self.remote is not None:
            return self.remote.sizes(keys)
        return dict(_list_sizes(self._folder, ""))

    def remove(self) -> None:
        """Remove the store."""
        if self.remote is not None:
            self.remote.remove()
        else:
            shutil.rmtree(self._folder, ignore_errors=False)

    def has_parts(self) -> bool:
        """Return whether workers keep something beside the arrays."""
        if self.remote is not None:
            return bool(self.remote.list_files(PARTS_FOLDER))
        folder = self._folder / PARTS_FOLDER
        return folder.is_dir() and any(folder.iterdir())

    def remove_parts(self) -> None:
        """Remove what workers kept beside the arrays until it was written there."""
        if self.remote is not None:
            self.remote.remove(PARTS_FOLDER)
        else:
            shutil.rmtree(self._folder / PARTS_FOLDER, ignore_errors=True)

    def clean(self) -> None:
        """Remove the temporary files that a killed writer left."""
        if self.remote is None and self._folder.is_dir():
            for key in filter(is_leftover_file, list(self.sizes())):
                self.delete(key)

    def open_store(
        self, *, contents: Mapping[str, bytes] | None = None, is_complete: bool = False
    ) -> Any:
        """Return what Zarr and xarray open for reading: a path, or a store.

        Parameters
        ----------
        contents : mapping or None
            Behind a URL, files that are read already, by key.
        is_complete : bool
            Whether a file that is missing behind a URL is an error, as it is in a finished cache.
        """
        if self.remote is None:
            return self.address
        return self.remote.open_store(read_only=True, is_complete=is_complete, contents=contents)

    def group(self, mode: Literal["r", "r+"] = "r") -> Any:
        """Open the store as a Zarr group."""
        if self.remote is None:
            return zarr.open_group(self.address, mode=mode, use_consolidated=False)
        # The root states the metadata of all arrays: behind a URL, each file costs a request.
        store = self.remote.open_store(read_only=mode == "r")
        return zarr.open_group(store, mode=mode, zarr_format=3, use_consolidated=True)

    def open_array(self, path: str, *, contents: Mapping[str, bytes]) -> Any:
        """Open an array of the store for reading by its own metadata, not by the root's.

        Parameters
        ----------
        path : str
            The array.
        contents : mapping
            Files that are read already, by key.
        """
        if self.remote is None:
            return zarr.open_array(f"{self.address}/{path}", mode="r")
        store = self.remote.open_store(read_only=True, contents=contents)
        return zarr.open_array(store, path=path, mode="r", zarr_format=3)

    @property
    def _folder(self) -> Path:
        return self.local or Path(self.address)


def _list_sizes(folder: str | os.PathLike[str], prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _list_sizes(entry.path, f"{prefix}{entry.name}/")
                continue
            # A writer may have removed it.
            with suppress(FileNotFoundError):
                yield f"{prefix}{entry.name}", entry.stat().st_size


def locate_store(path: str | os.PathLike[str]) -> StoreLocation:
    """Return the location of a store, from a local path or a URL such as ``s3://bucket/x.zarr``.

    Raises
    ------
    CacheError
        If the path is empty, no store has the URL's protocol, or the URL holds credentials.

    Examples
    --------
    >>> locate_store("memory://mine.zarr").address, locate_store("memory://mine.zarr").local
    ('memory://mine.zarr', None)
    """
    text = os.fspath(path)
    if not text.strip():
        raise CacheError(
            "The path of a cache is empty. If it comes from a variable, set it; then give it again."
        )
    if text.startswith("file://"):
        text = url2pathname(text.removeprefix("file://"))
    if is_url(text):
        folder = RemoteFolder(text.rstrip("/"))
        return StoreLocation(folder.address, None, folder)
    local = Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - links stay links
    return StoreLocation(str(local), local)


@contextmanager
def lock_store(location: StoreLocation) -> Iterator[None]:
    """Hold the right to write a store.

    The operating system holds the lock, on a file beside the store: the lock ends with its process,
    even with a killed one. Behind a URL the lock is an object beside the store; see
    :mod:`ima.cache.remote_lock`.

    Raises
    ------
    CacheLockedError
        If another process is writing the store.
    CacheError
        If the folder around the store cannot be written.

    Examples
    --------
    >>> with lock_store(locate_store("mine.zarr")):  # doctest: +SKIP
    ...     ...
    """
    if location.local is None:
        if location.remote is None or not location.remote.can_write:
            reason = OSError(errno.EROFS, "its server takes no files")
            raise make_unwritable_error(location, reason)
        with lock_remote_folder(location.remote):
            yield
        return
    beside = _lock_path(location.local)
    missing = [parent for parent in beside.parents if not parent.exists()]
    above = beside.parents[len(missing)]
    if not above.is_dir():
        raise make_unwritable_error(location, NotADirectoryError(0, f"{above} is not a folder"))
    # A writer that ends removes its file: a file opened just before has to be opened again.
    lock = FileLock(beside, timeout=0.1, poll_interval=0.01)
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise CacheLockedError(
            f"Another process is writing {location.address!r}. Wait until it has finished, or give "
            "another path."
        ) from None
    except OSError as error:
        raise make_unwritable_error(location, error) from error
    try:
        yield
    finally:
        beside.unlink(missing_ok=True)
        lock.release()
        if not location.local.exists():
            for parent in missing:
                # Not empty where somebody else wrote meanwhile.
                with suppress(OSError):
                    parent.rmdir()


def is_being_written(location: StoreLocation) -> bool:
    """Return whether somebody holds the right to write a store now, as far as can be seen.

    A web server does not tell, and neither does a lock that may not be read.

    Examples
    --------
    >>> is_being_written(locate_store("memory://nobody-writes.zarr"))
    False
    """
    if location.local is None:
        return location.remote is not None and is_remote_folder_locked(location.remote)
    beside = _lock_path(location.local)
    if not beside.exists():
        return False
    lock = FileLock(beside, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:
        return False
    # A writer that was killed left the file.
    lock.release()
    return False


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def make_unwritable_error(
    location: StoreLocation, error: OSError, *, needed: int = 0
) -> CacheError:
    """Return the error for a location that cannot be written.

    Parameters
    ----------
    location : StoreLocation
        The store.
    error : OSError
        What the system said.
    needed : int
        Bytes that the whole store takes; 0 if not known.

    Examples
    --------
    >>> reason = PermissionError(errno.EACCES, "Permission denied")
    >>> str(make_unwritable_error(locate_store("memory://a.zarr"), reason))
    "Cannot write a cache to 'memory://a.zarr': Permission denied. Give a path in a folder that \
you may write to."
    """
    message = f"Cannot write a cache to {location.address!r}: {describe_write_error(error)}"
    if error.errno in _NO_SPACE:
        return CacheError(f"{message} {explain_space(location, error, needed=needed)}")
    return CacheError(f"{message} Give a path in a folder that you may write to.")


def describe_write_error(error: OSError) -> str:
    """Return the reason of a failed write as a sentence.

    Examples
    --------
    >>> describe_write_error(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device.'
    """
    return f"{error.strerror or error}".rstrip(".") + "."


def explain_space(location: StoreLocation, error: OSError, *, needed: int = 0) -> str:
    """Return how much space there is and what to do; nothing if space was not the reason.

    Parameters
    ----------
    location : StoreLocation
        The store.
    error : OSError
        What stopped the writer.
    needed : int
        Bytes that the whole store takes; 0 if not known.

    Examples
    --------
    >>> denied = PermissionError(errno.EACCES, "Permission denied")
    >>> explain_space(locate_store("memory://a.zarr"), denied)
    ''
    """
    if error.errno not in _NO_SPACE:
        return ""
    if error.errno == errno.EFBIG:
        return (
            "The system limits the size of files here: raise it (ulimit -f), or take another disk."
        )
    free = ""
    if location.local is not None:
        place = next(parent for parent in location.local.parents if parent.exists())
        free = f"{shutil.disk_usage(place).free / 1e6:.1f} MB are free in {place}. "
    whole = f"The whole cache takes about {needed / 1e6:.1f} MB. " if needed else ""
    return f"{whole}{free}Free some space, or take another disk."


def build_store_metadata(
    arrays: Sequence[ArraySpec], attributes: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the files of a store without data: all metadata, and coords.

    Parameters
    ----------
    arrays : sequence of ArraySpec
        Arrays of the store.
    attributes : mapping
        Attributes of the root and of ``/samples``: either can be rebuilt from the other.

    Returns
    -------
    dict of str to bytes
        Contents per key, the same for the same arguments; the root comes last.

    Examples
    --------
    >>> files = build_store_metadata(layout.arrays(), attributes)  # doctest: +SKIP
    >>> list(files)[-1]  # doctest: +SKIP
    'zarr.json'
    """
    buffers: dict[str, Any] = {}
    memory = MemoryStore(buffers)
    provenance = {**attributes, ROOT_DIGEST_KEY: _BLANK}
    root = zarr.create_group(memory, zarr_format=3, attributes=provenance)
    groups: dict[str, zarr.Group] = {}
    for array in arrays:
        if array.group not in groups:
            groups[array.group] = root.require_group(array.group)
        target = groups[array.group].create_array(
            array.name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=array.chunks,
            shards=array.shards,
            compressors=choose_codecs(array.dtype),
            fill_value=_choose_fill_value(array.dtype),
            dimension_names=array.dims,
            attributes=dict(array.attributes),
        )
        if array.values is not None:
            target[...] = array.values
    groups["samples"].update_attributes(provenance)
    with warnings.catch_warnings():
        # xarray warns its readers where metadata is not consolidated; Zarr warns writers that
        # consolidated metadata is an extension, which readers without it ignore.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(memory)
    return _seal_metadata({key: buffer.to_bytes() for key, buffer in buffers.items()})


def _seal_metadata(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return metadata files in one serialisation, with the digest of the root in it."""
    sealed = {
        key: content for key, content in sorted(contents.items()) if key != ROOT_METADATA_FILE
    }
    document = json.loads(contents[ROOT_METADATA_FILE])
    entries = document["consolidated_metadata"]["metadata"]
    document["consolidated_metadata"]["metadata"] = dict(sorted(entries.items()))
    blank = _serialize_json(document)
    digest = hashlib.sha256(blank).hexdigest().encode()
    for path, entry in entries.items():
        sealed[f"{path}/{ROOT_METADATA_FILE}"] = serialize_node_metadata(entry).replace(
            _BLANK.encode(), digest
        )
    sealed[ROOT_METADATA_FILE] = blank.replace(_BLANK.encode(), digest)
    return sealed


def serialize_node_metadata(entry: Mapping[str, Any]) -> bytes:
    r"""Return the metadata file of a node from its entry in the root's consolidated metadata.

    Examples
    --------
    >>> serialize_node_metadata({"node_type": "group", "consolidated_metadata": {}})
    b'{\n  "node_type": "group"\n}'
    """
    return _serialize_json({key: entry[key] for key in entry if key != "consolidated_metadata"})


def _serialize_json(document: Mapping[str, Any]) -> bytes:
    """Return JSON as every metadata file of a store is written."""
    return json.dumps(document, indent=2).encode()


def write_array_rows(group: Any, *, path: str, index: slice, values: npt.NDArray[Any]) -> None:
    """Write rows of an array.

    Every chunk gets a file, even one that holds nothing but fill values: a missing file is always
    a fault and never a value.

    Parameters
    ----------
    group : zarr.Group
        The store.
    path : str
        The array, for example ``"means/resid_post/mean"``.
    index : slice
        Rows of the first dim.
    values : array
        Their values.

    Examples
    --------
    >>> group = zarr.group()
    >>> _ = group.create_array("done", shape=4, chunks=2, dtype="bool")
    >>> write_array_rows(group, path="done", index=slice(0, 2), values=np.ones(2, bool))
    >>> group["done"][:].tolist()
    [True, True, False, False]
    """
    array = group[path].with_config({"write_empty_chunks": True})
    dim = find_divided_dim(array)
    given = slice(index.start, index.start + len(values))
    rest = write_whole_shards(array, rows=given, values=values, dim=dim) if dim else [given]
    for rows in rest:
        array[rows] = values[rows.start - given.start : rows.stop - given.start]


def is_root_intact(content: bytes) -> bool:
    """Return whether the root's bytes have the digest that they state.

    Examples
    --------
    >>> is_root_intact(b'{"attributes": {"sha256": "not a digest"}}')
    False
    """
    try:
        stated = str(json.loads(content)["attributes"][ROOT_DIGEST_KEY]).encode()
    except (ValueError, KeyError, TypeError):
        return False
    blank = content.replace(stated, _BLANK.encode())
    return len(stated) == len(_BLANK) and hashlib.sha256(blank).hexdigest().encode() == stated


def write_store_metadata(location: StoreLocation, contents: Mapping[str, bytes]) -> None:
    """Write the metadata of a new store; readers of a local disk see all of it or nothing.

    Examples
    --------
    >>> write_store_metadata(locate_store("mine.zarr"), files)  # doctest: +SKIP
    """
    if location.local is None:
        *others, root = contents.items()
        with ThreadPoolExecutor(_PARALLEL_WRITES) as pool:
            list(pool.map(lambda item: location.write(*item), others))
        location.write(*root)
        return
    try:
        with replace_folder(location.local) as partial:
            for key, content in contents.items():
                target = partial / key
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    except OSError as error:
        raise make_unwritable_error(location, error) from error


def choose_codecs(dtype: str) -> list[Any]:
    """Return the compressors of an array, the last of which is a checksum of all bytes.

    Examples
    --------
    >>> choose_codecs("float32")
    [Crc32cCodec()]
    """
    # Compression shrinks activations by 6 % and doubles the time; other arrays shrink well. The
    # crc32c comes last, because zstd's own checksum does not cover its header.
    if dtype.startswith("float"):
        return [Crc32cCodec()]
    return [ZstdCodec(level=3, checksum=True), Crc32cCodec()]


def _choose_fill_value(dtype: str) -> Any:
    return {"string": "", "bool": False}.get(dtype, np.nan if dtype.startswith("float") else -1)
