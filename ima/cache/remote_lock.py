"""The lock of a store behind a URL: an object beside it, which its writer renews."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from ima.cache.remote import RemoteFolder
from ima.errors import CacheLockedError, CacheUnreachableError

#: Seconds between two signs of life of a writer.
RENEWAL = 20.0
#: Seconds without a sign of life after which another writer may take the lock over.
LEASE = 90.0
_OPERATION = "lock"
_ATTEMPTS = 3
#: What a store calls one state of an object: S3 a tag, Google a version.
_Tag = dict[str, str]


class LockObject:
    """The right to write a store, as long as its object is renewed.

    The object appears and changes by conditional requests only: of two writers, the store lets
    one. No clock is trusted for longer than it takes to look twice: a lock that seems old is
    watched, and taken over only if nobody renews it meanwhile.

    Parameters
    ----------
    folder : RemoteFolder
        The store's folder.

    Examples
    --------
    >>> lock = LockObject(RemoteFolder("memory://locked.zarr"))
    >>> lock.acquire()
    >>> LockObject(RemoteFolder("memory://locked.zarr")).acquire()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ima.errors.CacheLockedError: Another process is writing 'memory://locked.zarr': ...
    >>> lock.release()
    """

    def __init__(self, folder: RemoteFolder) -> None:
        self.folder, self.key = folder, f"{folder.name}.lock"
        self.writer, self.renewals = uuid.uuid4().hex, 0
        self.tag: _Tag | None = None
        self.renewed = time.monotonic()
        self._turn, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)

    def acquire(self) -> None:
        """Take the lock, and keep it alive until it is released.

        Raises
        ------
        CacheLockedError
            If another process holds it.
        CacheUnreachableError
            If the store does not answer, or does not take conditional requests.
        """
        while not self._put("create"):
            held = self._read()
            if held is None:
                continue
            state, tag, age = held
            if state.get("writer") == self.writer:
                # The answer to the request was lost, the request was not.
                self.tag = tag
                break
            if age < LEASE or not self._is_abandoned(tag):
                raise CacheLockedError(self._describe(state, age))
            if self._put(tag):
                break
        self._thread.start()

    def confirm(self) -> None:
        """Raise an error if the lock may be another writer's by now.

        Raises
        ------
        CacheLockedError
            If another writer has taken it over.
        """
        if time.monotonic() - self.renewed > LEASE:
            self._renew()
        if self.tag is None:
            raise CacheLockedError(
                f"Another process has taken over writing {self.folder.address!r}, because this one "
                f"gave no sign of life for {LEASE:g} s. What this one has finished is kept."
            )

    def release(self) -> None:
        """Give the lock back."""
        self._ended.set()
        self._thread.join()
        if self.tag is not None:
            import obstore

            # A lock that cannot be given back now ends by itself.
            with (
                suppress(CacheUnreachableError, FileNotFoundError),
                self.folder.explain_failure(_OPERATION, self.key),
            ):
                obstore.delete(self.folder.beside, self.key)

    def is_held(self) -> bool:
        """Return whether a writer holds the lock and gave a sign of life within its lease."""
        held = self._read()
        return held is not None and held[2] < LEASE

    def _keep_alive(self) -> None:
        while not self._ended.wait(RENEWAL) and self.tag is not None:
            # The next turn tries again; whoever took over meanwhile makes that one fail.
            with suppress(CacheUnreachableError):
                self._renew()

    def _renew(self) -> None:
        with self._turn:
            if self.tag is None:
                return
            self.renewals += 1
            if not self._put(self.tag):
                held = self._read()
                mine = held is not None and held[0].get("writer") == self.writer
                self.tag = held[1] if held is not None and mine else None

    def _put(self, mode: Any) -> bool:
        """Write the object under a condition; return whether the condition held."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._try_to_put(mode)
            except CacheUnreachableError:
                # The client does not repeat such a request by itself: it may have arrived.
                held = self._read()
                wanted = {"writer": self.writer, "renewals": self.renewals}
                if held is not None and wanted.items() <= held[0].items():
                    self.tag, self.renewed = held[1], time.monotonic()
                    return True
                if attempt == _ATTEMPTS - 1:
                    raise
        return False

    def _try_to_put(self, mode: Any) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        state = {
            "writer": self.writer,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "renewals": self.renewals,
        }
        content = json.dumps(state).encode()
        with self.folder.explain_failure(_OPERATION, self.key):
            try:
                done = obstore.put(self.folder.beside, self.key, content, mode=mode)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                if mode == "create" and isinstance(error, FileNotFoundError):
                    raise self.folder.make_bucket_error("write") from None
                return False
        self.tag, self.renewed = _get_tag(done), time.monotonic()
        return True

    def _read(self) -> tuple[dict[str, Any], _Tag, float] | None:
        """Return what the object states, its tag, and its age in seconds by our clock."""
        import obstore

        with (
            self.folder.explain_failure(_OPERATION, self.key),
            suppress(FileNotFoundError),
        ):
            answer = obstore.get(self.folder.beside, self.key)
            meta, state = answer.meta, {}
            with suppress(ValueError):
                state = json.loads(bytes(answer.bytes()))
            age = (datetime.now(UTC) - meta["last_modified"]).total_seconds()
            return state if isinstance(state, dict) else {}, _get_tag(meta), age
        return None

    def _is_abandoned(self, tag: _Tag) -> bool:
        """Return whether nobody renews the object while its writer would have done so twice."""
        end = time.monotonic() + 2 * RENEWAL
        while time.monotonic() < end:
            time.sleep(RENEWAL / 4)
            held = self._read()
            if held is None or held[1] != tag:
                return held is None
        return True

    def _describe(self, state: dict[str, Any], age: float) -> str:
        who = f"process {state.get('process', '?')} on {state.get('host', '?')}"
        return (
            f"Another process is writing {self.folder.address!r}: {who}, which gave a sign of life "
            f"{max(0, age):.0f} s ago. Wait until it has finished, or give another path. If it was "
            f"killed, its lock ends {LEASE:g} s after its last sign of life."
        )


def _get_tag(meta: Any) -> _Tag:
    return {name: str(meta[name]) for name in ("e_tag", "version") if meta[name] is not None}


@contextmanager
def lock_remote_folder(folder: RemoteFolder) -> Iterator[None]:
    """Hold the right to write a store behind a URL; see :class:`LockObject`.

    Raises
    ------
    CacheLockedError
        If another process is writing the store.
    CacheUnreachableError
        If the store does not answer.

    Examples
    --------
    >>> with lock_remote_folder(RemoteFolder("memory://mine.zarr")) as nothing:
    ...     pass
    """
    lock = LockObject(folder)
    lock.acquire()
    folder.confirm_lock = lock.confirm
    try:
        yield
    finally:
        folder.confirm_lock = None
        lock.release()


def is_remote_folder_locked(folder: RemoteFolder) -> bool:
    """Return whether a writer holds the lock of a store behind a URL; see :class:`LockObject`.

    A store that does not take files, or does not answer, tells of none.

    Examples
    --------
    >>> is_remote_folder_locked(RemoteFolder("memory://nobody-writes.zarr"))
    False
    """
    if not folder.can_write:
        return False
    with suppress(CacheUnreachableError):
        return LockObject(folder).is_held()
    return False
