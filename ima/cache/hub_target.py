"""The Hugging Face hub as a target: a cache becomes one commit of a data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ima.cache.addresses import HubDataset, redact
from ima.cache.remote import format_digests
from ima.cache.schema import is_cache_file
from ima.cache.store import StoreLocation
from ima.errors import CacheDifferentError, CacheError, CacheUnreachableError
from ima.files import hash_file

_HINTS = {
    "RepositoryNotFoundError": "Make the data set on the hub first; a private one, and every push, "
    "needs a token with write access in HF_TOKEN.",
    "RevisionNotFoundError": "Make the branch on the hub first.",
}


def push_to_hub(
    address: str,
    *,
    source: StoreLocation,
    files: Sequence[str],
    overwrite: bool,
    command: str,
) -> tuple[int, int]:
    """Commit the files of a cache to a data set, all at once, and a list of digests beside it.

    The hub keeps the contents of large files that an interrupted push has sent, so the next one
    continues. The commit names its parent: if somebody else has committed meanwhile, the hub
    refuses it.

    Parameters
    ----------
    address : str
        ``hf://datasets/OWNER/NAME/FOLDER``.
    source : StoreLocation
        The cache. The hub's client reads files of a local one in pieces; those of a cache behind a
        URL are held in memory until they are sent.
    files : sequence of str
        The files of the cache.
    overwrite : bool
        Whether to replace what is in the folder.
    command : str
        The command that continues, for messages.

    Returns
    -------
    copied, size : int
        Number of files that were not there yet, and bytes of all files.

    Raises
    ------
    CacheDifferentError
        If the folder holds something else.
    CacheUnreachableError
        If the hub does not answer or refuses.

    Examples
    --------
    >>> push_to_hub(  # doctest: +SKIP
    ...     "hf://datasets/me/caches/x.zarr",
    ...     source=locate_store("x.zarr"),
    ...     files=files,
    ...     overwrite=False,
    ...     command="ima cache push x.zarr hf://datasets/me/caches/x.zarr",
    ... )
    (312, 19600000)
    """
    place = HubDataset.parse(address)
    place.get_url()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    # Without a token in the environment none is sent: not even one that a log-in has stored.
    api = HfApi(token=os.environ.get("HF_TOKEN") or False)
    given: Any = {"repo_type": "dataset", "revision": place.revision}
    try:
        parent = str(api.repo_info(place.repository, **given).sha)
        there = _list_folder(api, place, given)
        kept, sums, size, additions = 0, {}, 0, []
        for key in files:
            content = source.read(key) if source.local is None else source.local / key
            length, sums[key] = _measure(content)
            size += length
            if key in there and there[key] in (sums[key], _compute_blob_id(content, length)):
                kept += 1
            else:
                additions.append(CommitOperationAdd(f"{place.path}/{key}", content))
        if kept == len(files) == len(there):
            return 0, size
        strange = [key for key in sorted(there) if not is_cache_file(key)]
        if strange:
            raise CacheDifferentError(
                f"{address!r} holds files that are no part of a cache, for example {strange[0]}. "
                "Give another folder."
            )
        if there and not overwrite:
            # A commit brings a whole cache: what is there and differs is another one.
            raise CacheDifferentError(
                f"{address!r} holds something else: {kept} of its {len(there)} files are equal. "
                "Give another folder, or replace what is there with overwrite=True (--overwrite)."
            )
        removals = [
            CommitOperationDelete(f"{place.path}/{key}") for key in sorted(there.keys() - sums)
        ]
        name = place.path.rpartition("/")[2]
        listed = format_digests(name, sums)
        api.create_commit(
            place.repository,
            operations=[*removals, *additions, CommitOperationAdd(f"{place.path}.sha256", listed)],
            commit_message=f"Add the cache {name}",
            parent_commit=parent,
            **given,
        )
    except CacheError:
        raise
    except Exception as error:
        # The hub's client raises its own errors, its HTTP library's and the system's.
        is_foreseen = isinstance(error, OSError | HfHubHTTPError)
        if not is_foreseen and not type(error).__module__.startswith("httpx"):
            raise
        reason = redact((str(error) or type(error).__name__).splitlines()[0])
        raise CacheUnreachableError(
            f"Cannot push to {address!r}: {type(error).__name__}: {reason.rstrip('.')}. "
            f"{_HINTS.get(type(error).__name__, '')} Nothing was committed; large files that the "
            f"hub has received are not sent again. Continue with: {command}".replace("  ", " ")
        ) from None
    return len(files) - kept, size


def _list_folder(api: Any, place: HubDataset, given: Any) -> dict[str, str]:
    """Return the files of the folder with the digest that the hub states for each."""
    from huggingface_hub.errors import EntryNotFoundError

    found: dict[str, str] = {}
    try:
        for entry in api.list_repo_tree(place.repository, place.path, recursive=True, **given):
            if (blob := getattr(entry, "blob_id", None)) is not None:
                lfs = getattr(entry, "lfs", None)
                found[entry.path.removeprefix(f"{place.path}/")] = lfs.sha256 if lfs else blob
    except EntryNotFoundError:
        return {}
    return found


def _measure(content: bytes | Path) -> tuple[int, str]:
    """Return the size of a file and its sha256."""
    if isinstance(content, Path):
        return content.stat().st_size, hash_file(content)
    return len(content), hashlib.sha256(content).hexdigest()


def _compute_blob_id(content: bytes | Path, size: int) -> str:
    """Return the id that git gives a file."""
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    if isinstance(content, Path):
        with content.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    else:
        digest.update(content)
    return digest.hexdigest()
