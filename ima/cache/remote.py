"""Stores behind a URL: buckets, web servers, data sets of the Hugging Face hub, and memory.

They are reached through obstore and not through s3fs, because on one local S3 server (medians of
two runs, two busy cores) obstore opened a cache in 1.1 s with 53 requests where s3fs took 4.9 s
with 106, wrote 27 and not 13 MB/s, read 65 and not 29 MB/s, and has the conditional requests that
keep a second writer out; s3fs would also pin another python-dateutil than the book's.

One module because a folder behind a URL and Zarr's store of it share requests, retries and errors.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import ObjectStore

from ima.cache.addresses import (
    CREDENTIALS,
    PROTOCOLS,
    HubDataset,
    check_address,
    format_cache_command,
    make_missing_error,
    redact,
)
from ima.errors import CacheCorruptError, CacheUnreachableError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

#: Requests that fail for the moment are sent again, with longer and longer pauses.
RETRY: dict[str, Any] = {
    "max_retries": 10,
    "retry_timeout": timedelta(minutes=3),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=15),
        "base": 2,
    },
}
#: The largest file of a cache has 16 MiB.
REQUEST_TIMEOUT = timedelta(minutes=2)
_CONNECT_TIMEOUT = timedelta(seconds=10)
#: Parts of a file that are nearer than this are asked for together.
_NEAR_BYTES = 128 * 2**10
#: Requests that are on their way at once.
_PARALLEL_REQUESTS = 64

_MEMORY: dict[str, Any] = {}
_T = TypeVar("_T")
_R = TypeVar("_R")


class RemoteStamp(NamedTuple):
    """What a store says of a file.

    Parameters
    ----------
    size : int
        Its bytes.
    tag : str or None
        What the store tells versions of the file apart by.
    modified : str
        When it was written.
    """

    size: int
    tag: str | None
    modified: str


@dataclass
class RemoteFolder:
    """The folder of a store behind a URL.

    Parameters
    ----------
    address : str
        Its URL.
    confirm_lock : callable or None
        Raises an error once another writer has taken over; None where nobody holds the lock.

    Examples
    --------
    >>> folder = RemoteFolder("memory://example.zarr")
    >>> _ = folder.write("a/b", b"12")
    >>> folder.sizes(), folder.find("a/c")
    ({'a/b': 2}, None)
    >>> folder.remove()
    """

    address: str
    confirm_lock: Callable[[], None] | None = field(default=None, compare=False)
    #: False once the server has sent a whole file where a part was asked for.
    _sends_parts: bool = field(default=True, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.protocol = self.address.partition("://")[0]
        check_address(self.address)
        if importlib.util.find_spec("obstore") is None:
            raise make_missing_error(self.address, "obstore")

    @property
    def can_write(self) -> bool:
        """Whether the store takes files."""
        return PROTOCOLS[self.protocol]

    @property
    def can_list(self) -> bool:
        """Whether the store lists its files: web servers do not."""
        return self.can_write

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.address.rpartition("/")[2]

    @cached_property
    def objects(self) -> Any:
        """The store of obstore whose root is the folder."""
        return _open_objects(self.address)

    @cached_property
    def beside(self) -> Any:
        """The store of obstore whose root is the folder around the folder."""
        protocol, _, rest = self.address.partition("://")
        return _open_objects(f"{protocol}://{rest.rpartition('/')[0]}")

    def find(self, key: str, *, beside: bool = False) -> bytes | None:
        """Return the bytes of a file, or None if it is not there."""
        import obstore

        with self.explain_failure("read", key), suppress(FileNotFoundError):
            return bytes(obstore.get(self.beside if beside else self.objects, key).bytes())
        return None

    def exists(self, key: str) -> bool:
        """Return whether a file is there."""
        return self.find_stamp(key) is not None

    def write(self, key: str, content: bytes, *, beside: bool = False) -> str | None:
        """Write a file whole or not at all, and return the digest that the store gives it."""
        import obstore

        self.check_lock()
        target = self.beside if beside else self.objects
        # One request a file: what a killed writer began is nowhere, and the digest is the file's.
        with self.explain_failure("write", key):
            tag = obstore.put(target, key, content, use_multipart=False)["e_tag"]
        return str(tag) if tag else None

    def delete(self, key: str) -> None:
        """Remove a file, if it exists."""
        import obstore

        self.check_lock()
        with self.explain_failure("delete", key), suppress(FileNotFoundError):
            obstore.delete(self.objects, key)

    def remove(self, folder: str | None = None) -> None:
        """Remove all files, the root's metadata first: what is left is no cache.

        Parameters
        ----------
        folder : str or None
            Remove only what is in a folder below this one.
        """
        import obstore

        names = sorted(self.list_files(folder), key=lambda name: name != "zarr.json")
        for start in range(0, len(names), 1000):
            with self.explain_failure("delete", names[start]), suppress(FileNotFoundError):
                obstore.delete(self.objects, names[start])
                obstore.delete(self.objects, names[start + 1 : start + 1000])

    def sizes(self, keys: Iterable[str] = ()) -> dict[str, int]:
        """Return the files with their sizes in bytes.

        Parameters
        ----------
        keys : iterable of str
            Where the store does not list its files, the ones to ask for.
        """
        if self.can_list:
            return {key: size for key, (size, _) in self.list_files().items()}
        asked = list(keys)
        stamps = self.run_parallel(self.find_stamp, asked)
        found = zip(asked, stamps, strict=True)
        return {key: stamp.size for key, stamp in found if stamp is not None}

    def list_files(self, folder: str | None = None) -> dict[str, tuple[int, str | None]]:
        """Return size and digest of each file, or of those in a folder, as the store states them.

        Parameters
        ----------
        folder : str or None
            A folder below this one.
        """
        import obstore

        with self.explain_failure("list", ""):
            return {
                entry["path"]: (entry["size"], entry["e_tag"])
                for batch in obstore.list(self.objects, prefix=folder)
                for entry in batch
            }

    def find_stamp(self, key: str) -> RemoteStamp | None:
        """Return what the store says of a file without sending it, or None if it is not there."""
        import obstore

        with self.explain_failure("look for", key), suppress(FileNotFoundError):
            entry = obstore.head(self.objects, key)
            return RemoteStamp(int(entry["size"]), entry["e_tag"], str(entry["last_modified"]))
        return None

    def check_lock(self) -> None:
        """Raise an error if another writer has taken over.

        Raises
        ------
        CacheLockedError
            If this writer must stop.
        """
        if self.confirm_lock is not None:
            self.confirm_lock()

    def find_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those of many files that are there, from requests side by side."""
        asked = list(keys)
        contents = self.run_parallel(self.find, asked)
        return {key: held for key, held in zip(asked, contents, strict=True) if held is not None}

    def find_repeated(self, keys: Sequence[str], *, folder: str) -> dict[str, bytes]:
        """Return the bytes of files of which many are equal; equal ones are read once.

        Parameters
        ----------
        keys : sequence of str
            The files.
        folder : str
            The folder that holds them; a store that lists it states their digests.
        """
        listed = self.list_files(folder) if self.can_list else {}
        first: dict[tuple[int, str | None], str] = {}
        for key in keys:
            if key in listed:
                first.setdefault(listed[key], key)
        contents = self.find_all([*first.values(), *(key for key in keys if key not in listed)])
        alone = []
        for key in keys:
            like = first.get(listed[key]) if key in listed else None
            if key in contents or like is None or like not in contents:
                continue
            # A tag that is no digest of the content says nothing about other files.
            if is_same_content(contents[like], listed[key][1]):
                contents[key] = contents[like]
            else:
                alone.append(key)
        return {**contents, **self.find_all(alone)}

    def find_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return parts of a file by one request for all that are near each other.

        Parameters
        ----------
        key : str
            The file.
        ranges : sequence of (int, int)
            First byte of each part, and the one after its last, in their order in the file.

        Returns
        -------
        list of bytes or None
            The parts, shorter where the file ends before; None if the file is not there, ends
            before a part begins, or is only sent whole.
        """
        import obstore
        from obstore.exceptions import BaseError, NotSupportedError

        if not self._sends_parts:
            return None
        merged: list[tuple[int, int]] = []
        for start, end in ranges:
            if merged and start - merged[-1][1] <= _NEAR_BYTES:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        starts, ends = zip(*merged, strict=True)
        with self.explain_failure("read", key), suppress(FileNotFoundError):
            try:
                # What it merges itself makes it panic where the file ends before a part.
                found = obstore.get_ranges(self.objects, key, starts=starts, ends=ends, coalesce=0)
            except NotSupportedError:
                self._sends_parts = False
                return None
            except BaseError as error:
                if re.search(r"status code: 416|Invalid range", str(error)):
                    return None
                raise
            parts = dict(zip(merged, map(bytes, found), strict=True))
            return [
                part[start - first : end - first]
                for start, end in ranges
                for (first, last), part in parts.items()
                if first <= start and end <= last
            ]
        return None

    @staticmethod
    def run_parallel(run: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """Return the results of a function that waits for requests, of all items side by side."""
        if len(items) < 2:
            return [run(item) for item in items]
        with ThreadPoolExecutor(min(_PARALLEL_REQUESTS, len(items))) as pool:
            try:
                return list(pool.map(run, items))
            except BaseException:
                # A store that fails for one file is not asked for all others.
                pool.shutdown(cancel_futures=True)
                raise

    def open_store(
        self,
        *,
        read_only: bool,
        is_complete: bool = False,
        contents: Mapping[str, bytes] | None = None,
    ) -> RemoteStore:
        """Open the folder for Zarr and xarray; see :class:`RemoteStore`."""
        store = RemoteStore(self.objects, read_only=read_only)
        store.folder, store.is_complete, store.contents = self, is_complete, contents or {}
        return store

    @contextmanager
    def explain_failure(self, operation: str, key: str) -> Iterator[None]:
        """Turn what a store answers into an error that names the store and the operation.

        Raises
        ------
        CacheUnreachableError
            If the store does not answer, or refuses.
        FileNotFoundError
            If it has no such file, as is.
        """
        from obstore.exceptions import BaseError

        try:
            yield
        except BaseError as error:
            if operation == "list" and "NoSuchBucket" in str(error):
                raise self.make_bucket_error(operation) from None
            raise self._make_error(operation, key, error) from None
        except FileNotFoundError:
            if operation == "write":
                raise self.make_bucket_error(operation) from None
            raise

    def make_bucket_error(self, operation: str) -> CacheUnreachableError:
        """Return the error for a bucket that does not exist."""
        return CacheUnreachableError(
            f"Cannot {operation} files of {self.address!r}: there is no such bucket. Make it "
            "first, or give another URL."
        )

    def _make_error(self, operation: str, key: str, error: Exception) -> CacheUnreachableError:
        # No more of the answer than its status: the rest can hold keys and signatures.
        text = str(error).partition("\n")[0]
        status = re.search(r"status code: (\d+ [A-Za-z -]+)", text)
        reason = status[1].strip() if status else text.rpartition(" - ")[2].rstrip(". ")
        reason = {"HTTP error: error sending request": "no answer"}.get(reason, reason)
        if not status and "timed out" in str(error).lower():
            reason = "time-out"
        tries = re.search(r"after (\d+) retries", text)
        again = f", {int(tries[1]) + 1} times" if tries and int(tries[1]) else ""
        message = (
            f"Cannot {operation} {key or 'the files'} of {self.address!r}: {redact(reason)}{again}."
        )
        if status and status[1].startswith(("401", "403")):
            names = CREDENTIALS.get(self.protocol, ())
            given = [name for name in names if os.environ.get(name)]
            message += (
                f" Credentials come from the environment only; set there: "
                f"{', '.join(given) or 'none'}; known: {', '.join(names)}."
                if names
                else " The server lets nobody in without credentials, and ima sends it none."
            )
        return CacheUnreachableError(message)


class RemoteStore(ObjectStore[Any]):
    """A store of Zarr behind a URL.

    It differs from Zarr's own in four ways: its errors name the store and the operation; a file is
    written by one request; of a complete cache, a lost file is an error, not fill values; and of a
    server that sends no parts of files it reads whole ones.

    Examples
    --------
    >>> folder = RemoteFolder("memory://example.zarr")
    >>> folder.open_store(read_only=True)
    RemoteStore(memory://example.zarr)
    """

    folder: RemoteFolder
    is_complete: bool
    #: Files that are read already.
    contents: Mapping[str, bytes]

    def __str__(self) -> str:
        return self.folder.address

    def __reduce__(self) -> tuple[Any, ...]:
        # Other processes take the credentials from their own environment.
        given = (self.folder.address, self.read_only, self.is_complete, dict(self.contents))
        return _reopen_store, given

    def with_read_only(self, read_only: bool = False) -> RemoteStore:
        """Return the same store, open for reading only or for writing."""
        return self.folder.open_store(
            read_only=read_only, is_complete=self.is_complete, contents=self.contents
        )

    @property
    def supports_listing(self) -> bool:
        """Whether the store lists its files."""
        return self.folder.can_list

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a file or a part of it; None if it is not there."""
        from obstore.exceptions import NotSupportedError

        if key in self.contents:
            return _cut(prototype.buffer.from_bytes(self.contents[key]), byte_range)
        with self.folder.explain_failure("read", key):
            try:
                found = await super().get(key, prototype, byte_range)
            except NotSupportedError:
                whole = await super().get(key, prototype)
                found = None if whole is None else _cut(whole, byte_range)
        # Each chunk of a complete cache has a file, even one that holds nothing but fill values.
        if self.is_complete and "c" in key.split("/") and (found is None or len(found) == 0):
            raise CacheCorruptError(
                f"{self.folder.address!r} lacks the file {key}, or it is empty. Copy the cache "
                "again. See what else is damaged: "
                f"{format_cache_command('verify', self.folder.address)}"
            )
        return found

    async def exists(self, key: str) -> bool:
        """Return whether a file is there."""
        with self.folder.explain_failure("look for", key):
            return await super().exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file by one request."""
        import obstore

        self._check_writable()
        self.folder.check_lock()
        with self.folder.explain_failure("write", key):
            content = value.as_buffer_like()
            await obstore.put_async(self.store, key, content, use_multipart=False)

    async def delete(self, key: str) -> None:
        """Remove a file, if it exists."""
        self.folder.check_lock()
        with self.folder.explain_failure("delete", key):
            await super().delete(key)


def _reopen_store(
    address: str, read_only: bool, is_complete: bool, contents: dict[str, bytes]
) -> RemoteStore:
    folder = RemoteFolder(address)
    return folder.open_store(read_only=read_only, is_complete=is_complete, contents=contents)


def _cut(whole: Buffer, part: ByteRequest | None) -> Buffer:
    if isinstance(part, RangeByteRequest):
        return whole[part.start : part.end]
    if isinstance(part, OffsetByteRequest):
        return whole[part.offset :]
    if isinstance(part, SuffixByteRequest):
        return whole[max(0, len(whole) - part.suffix) :]
    return whole


def is_same_content(content: bytes, tag: str | None) -> bool | None:
    """Return whether a store's digest is that of a content; None if the digest does not say.

    Examples
    --------
    >>> is_same_content(b"a", '"0cc175b9c0f1b6a831c399e269772661"'), is_same_content(b"a", '"7"')
    (True, None)
    """
    stated = (tag or "").strip('"').lower()
    if re.fullmatch(r"[0-9a-f]{32}", stated) is None:
        return None
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == stated


def format_digests(name: str, digests: Mapping[str, str]) -> bytes:
    r"""Return a list of digests as ``sha256sum --check`` reads it from the folder around the cache.

    Examples
    --------
    >>> format_digests("x.zarr", {"zarr.json": "00"})
    b'00  x.zarr/zarr.json\n'
    """
    return "".join(f"{digests[key]}  {name}/{key}\n" for key in sorted(digests)).encode()


def _open_objects(address: str) -> Any:
    from obstore import store as stores

    protocol, _, rest = address.partition("://")
    if protocol == "memory":
        return _MEMORY.setdefault(address, stores.MemoryStore())
    options: dict[str, Any] = {"timeout": REQUEST_TIMEOUT, "connect_timeout": _CONNECT_TIMEOUT}
    given: dict[str, Any] = {"client_options": options, "retry_config": RETRY}
    if protocol in ("http", "https", "hf"):
        url = HubDataset.parse(address).get_url() if protocol == "hf" else address
        if protocol == "hf" and (token := os.environ.get("HF_TOKEN")):
            options["default_headers"] = {"authorization": f"Bearer {token}"}
        options["allow_http"] = url.startswith("http://")
        return stores.HTTPStore(url, **given)
    bucket, _, prefix = rest.partition("/")
    # Without credentials a bucket is read as everybody may; obstore would ask the network for some.
    if not any(os.environ.get(name) for name in CREDENTIALS[protocol]):
        given["skip_signature"] = True
    if protocol == "gs":
        # Only the credentials themselves can name another endpoint than Google's.
        options["allow_http"] = True
        return stores.GCSStore(bucket, prefix=prefix or None, **given)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        given["endpoint"] = endpoint
        options["allow_http"] = endpoint.startswith("http://")
    if not os.environ.get("AWS_REGION"):
        given["region"] = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    return stores.S3Store(bucket, prefix=prefix or None, **given)
