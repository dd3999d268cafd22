"""Copies of finished caches: to a bucket or the hub and back, with a digest of every file."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ima.cache.addresses import format_cache_command
from ima.cache.hub_target import push_to_hub
from ima.cache.reader import list_cache_files, read_cache_attributes, read_done_mask
from ima.cache.remote import RemoteFolder, format_digests, is_same_content
from ima.cache.schema import is_cache_file, is_leftover_file
from ima.cache.store import ROOT_METADATA_FILE, StoreLocation, locate_store, lock_store
from ima.cache.verification import verify_cache
from ima.errors import (
    CacheCorruptError,
    CacheDifferentError,
    CacheError,
    CacheIncompleteError,
    CacheUnreachableError,
)
from ima.files import replace_file
from ima.progress import make_progress_bar

logger = logging.getLogger("ima")

_WORKERS = 8


@dataclass(frozen=True)
class CacheCopy:
    """Result of :func:`push_cache` and :func:`pull_cache`.

    Parameters
    ----------
    source, target : str
        Where the cache was, and where it is now, too.
    files, copied : int
        Number of files of the cache, and of those that were not there yet.
    bytes : int
        Size of all files.
    """

    source: str
    target: str
    files: int
    copied: int
    bytes: int

    def record(self) -> dict[str, Any]:
        """Return the result as JSON-serialisable values."""
        return asdict(self)


def push_cache(
    path: str | os.PathLike[str],
    *,
    target: str | os.PathLike[str],
    overwrite: bool = False,
    progress: bool = True,
) -> CacheCopy:
    """Copy a finished cache to a bucket, a data set of the hub, or another folder.

    Files that are there and equal are not sent again: a stopped copy continues. The root's metadata
    comes last, so half a copy is no cache. Beside the cache comes a list of sha256 digests, which
    ``sha256sum --check`` reads. A data set of the hub gets everything in one commit.

    Parameters
    ----------
    path : str or path
        The cache.
    target : str or path
        ``s3://BUCKET/NAME.zarr``, ``gs://…``, ``hf://datasets/OWNER/NAME/FOLDER`` or a folder.
    overwrite : bool
        Whether to replace another cache, or a part of one, that is there.
    progress : bool
        Whether to show a progress bar on a terminal.

    Returns
    -------
    CacheCopy
        What was copied.

    Raises
    ------
    CacheIncompleteError
        If the cache is not finished.
    CacheCorruptError
        If it is damaged.
    CacheDifferentError
        If there is another cache at the target, or anything that is no part of a cache: that is
        never replaced. If source and target are one, or one lies in the other.
    CacheLockedError
        If another process is writing there.
    CacheUnreachableError
        If the store does not answer; the message has the command that continues.

    Examples
    --------
    >>> push_cache("mine.zarr", target="s3://bucket/mine.zarr").files  # doctest: +SKIP
    312
    """
    source, place = locate_store(path), locate_store(target)
    command = _make_command("push", source, place, overwrite=overwrite)
    _require_apart(source, place)
    attributes = _require_finished(source)
    report = verify_cache(path)
    if not report.ok:
        raise CacheCorruptError(
            f"{source.address!r} has {len(report.problems)} damaged pieces, the first: "
            f"{report.problems[0]}. Compute them again before you copy it: "
            f"{format_cache_command('verify', source.address, '--repair')}"
        )
    files = list_cache_files(attributes)
    if place.remote is not None and place.remote.protocol == "hf":
        copied, size = push_to_hub(
            place.address, source=source, files=files, overwrite=overwrite, command=command
        )
        return CacheCopy(source.address, place.address, len(files), copied, size)
    return _copy(
        source,
        place,
        files=files,
        digests={},
        overwrite=overwrite,
        progress=progress,
        command=command,
    )


def pull_cache(
    source: str | os.PathLike[str],
    *,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    progress: bool = True,
) -> CacheCopy:
    """Copy a finished cache from a bucket, a web server or the hub to a folder.

    Every file is compared with the list of digests that :func:`push_cache` left beside the cache,
    where there is one, and with the checksums in the cache itself. A stopped copy continues.

    Parameters
    ----------
    source : str or path
        ``s3://BUCKET/NAME.zarr``, ``gs://…``, ``https://…`` or ``hf://datasets/OWNER/NAME/FOLDER``.
    path : str or path
        The folder.
    overwrite : bool
        Whether to replace another cache, or a part of one, that is there.
    progress : bool
        Whether to show a progress bar on a terminal.

    Returns
    -------
    CacheCopy
        What was copied.

    Raises
    ------
    CacheIncompleteError
        If the cache is not finished.
    CacheCorruptError
        If a file does not have its digest.
    CacheDifferentError
        If there is another cache in the folder, or anything that is no part of a cache: that is
        never replaced. If source and target are one, or one lies in the other.
    CacheUnreachableError
        If the store does not answer; the message has the command that continues.

    Examples
    --------
    >>> pull_cache("https://host/mine.zarr", path="mine.zarr").copied  # doctest: +SKIP
    312
    """
    origin, place = locate_store(source), locate_store(path)
    command = _make_command("pull", origin, place, overwrite=overwrite)
    _require_apart(origin, place)
    attributes = _require_finished(origin)
    copy = _copy(
        origin,
        place,
        files=list_cache_files(attributes),
        digests=read_digests(origin),
        overwrite=overwrite,
        progress=progress,
        command=command,
    )
    report = verify_cache(place.address)
    if not report.ok:
        place.delete(ROOT_METADATA_FILE)
        raise CacheCorruptError(
            f"{origin.address!r} has {len(report.problems)} damaged pieces, the first: "
            f"{report.problems[0]}. The copy in {place.address!r} has no root and does not open. "
            f"Once the source is repaired: {command}"
        )
    return copy


def read_digests(location: StoreLocation) -> dict[str, str]:
    """Return the sha256 digests that stand beside a cache, by file; none if there is no list.

    Examples
    --------
    >>> read_digests(locate_store("s3://bucket/mine.zarr"))["zarr.json"]  # doctest: +SKIP
    '3f6c…'
    """
    name = location.address.rpartition("/")[2]
    if location.remote is not None:
        content = location.remote.find(f"{name}.sha256", beside=True)
    else:
        file = Path(f"{location.address}.sha256")
        content = file.read_bytes() if file.is_file() else None
    lines = (content or b"").decode(errors="replace").splitlines()
    found = (re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines)
    return {match[2].removeprefix(f"{name}/"): match[1] for match in found if match}


def _make_command(
    verb: str, source: StoreLocation, target: StoreLocation, *, overwrite: bool
) -> str:
    """Return the command line that makes or continues a copy."""
    option = ["--overwrite"] if overwrite else []
    return format_cache_command(verb, source.address, target.address, *option)


def _require_apart(source: StoreLocation, target: StoreLocation) -> None:
    """Refuse to copy a cache to itself, into itself, or to a folder that holds it."""
    paths = [
        str(own.local.resolve()) if own.local is not None else own.address.rstrip("/")
        for own in (source, target)
    ]
    first, second = (f"{path}/" for path in paths)
    if not (first.startswith(second) or second.startswith(first)):
        return
    how = "is the same place as" if first == second else "holds"
    outer, inner = (source, target) if second.startswith(first) else (target, source)
    name = source.address.rstrip("/").rpartition("/")[2]
    raise CacheDifferentError(
        f"{outer.address!r} {how} {inner.address!r}. Give another target, and the name of the copy "
        f"with it, for example copies/{name}."
    )


def _require_finished(location: StoreLocation) -> dict[str, Any]:
    attributes = read_cache_attributes(location)
    done = read_done_mask(location)
    if not done.all():
        raise CacheIncompleteError(
            f"{location.address!r} is not finished: {int(done.sum())} of {done.size} samples. Only "
            f"a finished cache is copied. See how to finish it: "
            f"{format_cache_command('info', location.address)}"
        )
    return attributes


def _copy(
    source: StoreLocation,
    target: StoreLocation,
    *,
    files: list[str],
    digests: Mapping[str, str],
    overwrite: bool,
    progress: bool,
    command: str,
) -> CacheCopy:
    with lock_store(target):
        there = _list_target(target)
        _require_own_target(source, target, files=files, there=there, overwrite=overwrite)
        target.clean()
        found: dict[str, tuple[str, int, bool]] = {}
        bar = make_progress_bar(
            total=len(files), description=f"copying {source.address}", unit="file", show=progress
        )

        def copy_file(key: str) -> None:
            found[key] = _copy_file(
                key, source=source, target=target, tag=there.get(key), digest=digests.get(key)
            )
            bar.update(1)

        try:
            with bar:
                # Without its root, the rest is no cache.
                _run_all(copy_file, files[:-1])
                sums = {key: digest for key, (digest, _, _) in found.items()}
                sums[ROOT_METADATA_FILE] = hashlib.sha256(
                    source.read(ROOT_METADATA_FILE)
                ).hexdigest()
                _write_digests(target, sums)
                copy_file(ROOT_METADATA_FILE)
        except (CacheUnreachableError, CacheCorruptError) as error:
            raise type(error)(
                f"{error} {len(found)} of {len(files)} files are at {target.address!r} and equal. "
                f"Continue with: {command}"
            ) from error
        except OSError as error:
            if isinstance(error, CacheError):
                raise
            raise CacheError(
                f"Copying to {target.address!r} stopped: {error.strerror or error}. {len(found)} "
                f"of {len(files)} files are there and equal. Continue with: {command}"
            ) from error
    copied = sum(is_new for _, _, is_new in found.values())
    size = sum(size for _, size, _ in found.values())
    return CacheCopy(source.address, target.address, len(files), copied, size)


def _run_all(act: Callable[[str], None], keys: list[str]) -> None:
    """Do something to many files at once; after the first error begin no more."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        futures = [pool.submit(act, key) for key in keys]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        for future in done:
            future.result()


def _copy_file(
    key: str, *, source: StoreLocation, target: StoreLocation, tag: str | None, digest: str | None
) -> tuple[str, int, bool]:
    """Bring a file over unless it is there; return its digest, its size, and whether it is new."""
    if tag is not None and digest is not None and target.remote is None:
        # The list of digests says what the file holds: it need not be read from far away.
        held = target.find(key)
        if held is not None and hashlib.sha256(held).hexdigest() == digest:
            return digest, len(held), False
    content = source.read(key)
    sha256 = hashlib.sha256(content).hexdigest()
    if digest is not None and sha256 != digest:
        raise CacheCorruptError(
            f"The file {key} of {source.address!r} does not have the digest that is stated beside "
            f"the cache: sha256 {digest[:12]}… stated, {sha256[:12]}… found."
        )
    if tag is not None and _holds(target, key, content, tag):
        return sha256, len(content), False
    if target.remote is None:
        target.write(key, content)
    else:
        stated = target.remote.write(key, content)
        if not _holds(target, key, content, stated or ""):
            raise CacheCorruptError(
                f"The file {key} of {target.address!r} is not what was sent there: its digest "
                "differs."
            )
    return sha256, len(content), True


def _holds(target: StoreLocation, key: str, content: bytes, tag: str) -> bool:
    """Return whether a file of the target has a content: by its digest, else by reading it."""
    same = is_same_content(content, tag)
    return target.find(key) == content if same is None else same


def _list_target(target: StoreLocation) -> dict[str, str]:
    """Return the files at the target with the digests that the store states, if any."""
    if target.remote is not None:
        return {key: tag or "" for key, (_, tag) in target.remote.list_files().items()}
    folder = Path(target.address)
    if not folder.is_dir():
        if folder.exists():
            raise CacheDifferentError(
                f"{target.address!r} is a file, and a cache is a folder. Give another target."
            )
        return {}
    # What a killed writer had begun is removed before the copy begins.
    return {key: "" for key in target.sizes() if not is_leftover_file(key)}


def _require_own_target(
    source: StoreLocation,
    target: StoreLocation,
    *,
    files: list[str],
    there: Mapping[str, str],
    overwrite: bool,
) -> None:
    """Refuse a target that holds anything but this cache or a part of it.

    Another cache, or a part of one, is deleted on demand; what is no part of a cache never is.
    """
    root = target.find(ROOT_METADATA_FILE) if ROOT_METADATA_FILE in there else None
    other = sorted(set(there) - set(files))
    differs = root is not None and root != source.read(ROOT_METADATA_FILE)
    strange = [key for key in other if not is_cache_file(key)]
    if strange:
        raise CacheDifferentError(
            f"{target.address!r} holds files that are no part of a cache, for example "
            f"{strange[0]}. Give another target, for example "
            f"{target.address.rstrip('/')}/{source.address.rstrip('/').rpartition('/')[2]}."
        )
    if differs:
        # A store that is no cache of ima is refused here.
        read_cache_attributes(target)
    if not (differs or other):
        return
    if overwrite:
        # The root goes first: from now on there is no cache until all of the new one is there.
        for key in [*([ROOT_METADATA_FILE] if root is not None else []), *other]:
            target.delete(key)
        return
    what = "another cache" if differs else f"a part of another cache, for example {other[0]}"
    raise CacheDifferentError(
        f"{target.address!r} holds {what}. Give another target, or replace what is there with "
        "overwrite=True (--overwrite)."
    )


def _write_digests(target: StoreLocation, digests: Mapping[str, str]) -> None:
    name = target.address.rpartition("/")[2]
    content = format_digests(name, digests)
    if isinstance(target.remote, RemoteFolder):
        target.remote.write(f"{name}.sha256", content, beside=True)
        return
    with replace_file(Path(f"{target.address}.sha256")) as partial:
        partial.write_bytes(content)
