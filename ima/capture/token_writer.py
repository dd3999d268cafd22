"""Writes the states of tokens in the background: whole shards while the model computes on.

A batch seldom ends where a shard ends. Rows wait until their shard is complete, because a shard
that is written in two parts is read and written again as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from ima.cache.store import write_array_rows


class RowWriter(Protocol):
    """Writes rows of an array, as :func:`ima.cache.store.write_array_rows` does."""

    def __call__(self, group: Any, *, path: str, index: slice, values: npt.NDArray[Any]) -> None:
        """Write rows of an array."""


class TokenWriter:
    """Writes batch after batch of token states to consecutive rows of a store.

    At most one batch and an incomplete shard per hook point wait in memory.

    Parameters
    ----------
    store : callable
        Returns the store; called when there is something to write.
    first : int
        Row of the first token.
    write_rows : callable
        Writes rows of an array.

    Examples
    --------
    >>> with TokenWriter(lambda: group, first=0) as tokens:  # doctest: +SKIP
    ...     for batch in batches:
    ...         statistics = compute_batch_statistics(model, batch, keep=len(batch))
    ...         tokens.add(statistics.states, coords=statistics.coords)
    """

    def __init__(
        self,
        store: Callable[[], Any],
        *,
        first: int,
        write_rows: RowWriter = write_array_rows,
    ) -> None:
        self._store, self._write_rows = store, write_rows
        self._first = first
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ima-tokens")
        self._writing: Future[None] | None = None
        self._states: dict[str, _WaitingRows] = {}
        self._coords: dict[str, list[npt.NDArray[Any]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._wait()
                self._pool.submit(self._finish).result()
        finally:
            self._pool.shutdown(wait=True)

    def add(
        self,
        states: Mapping[str, npt.NDArray[Any]],
        *,
        coords: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        """Take the tokens that follow; return once those before them are written.

        Parameters
        ----------
        states : mapping of str to array
            By hook point, ``(layer, token, hidden)``; nobody may change them afterwards.
        coords : mapping of str to array
            By name, ``(token,)``.
        """
        self._wait()
        for name, values in coords.items():
            self._coords.setdefault(name, []).append(values)
        group = self._store()
        self._writing = self._pool.submit(self._write, group, dict(states))

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, group: Any, states: Mapping[str, npt.NDArray[Any]]) -> None:
        for hook_point, values in states.items():
            if hook_point not in self._states:
                path = f"tokens/{hook_point}/state"
                self._states[hook_point] = _WaitingRows(
                    group, path, first=self._first, write_rows=self._write_rows
                )
            self._states[hook_point].add(values)

    def _finish(self) -> None:
        for hook_point, waiting in self._states.items():
            waiting.write(waiting.stop)
            for name, parts in self._coords.items():
                values = np.concatenate(parts)
                self._write_rows(
                    waiting.group,
                    path=f"tokens/{hook_point}/{name}",
                    index=slice(self._first, self._first + len(values)),
                    values=values,
                )


class _WaitingRows:
    """Rows of one array that wait until their shard is complete."""

    def __init__(self, group: Any, path: str, *, first: int, write_rows: RowWriter) -> None:
        self.group, self.stop, self._write_rows = group, first, write_rows
        self._path, self._start = path, first
        self._parts: list[npt.NDArray[Any]] = []
        array = group[path]
        self._height = (array.shards or array.chunks)[0]

    def add(self, values: npt.NDArray[Any]) -> None:
        """Add ``(layer, token, hidden)`` and write the shards that are complete now."""
        self._parts.append(values)
        self.stop += values.shape[1]
        complete = self.stop // self._height * self._height
        if complete > self._start:
            self.write(complete)

    def write(self, stop: int) -> None:
        """Write all rows before one."""
        taken, rest = [], []
        start = self._start
        for part in self._parts:
            end = start + part.shape[1]
            cut = min(max(stop - start, 0), part.shape[1])
            if cut:
                taken.append(part[:, :cut])
            if cut < part.shape[1]:
                rest.append(part[:, cut:])
            start = end
        if taken:
            # Each chunk holds one layer, so its rows are in one piece here.
            values = taken[0] if len(taken) == 1 else np.concatenate(taken, axis=1)
            self._write_rows(
                self.group,
                path=self._path,
                index=slice(self._start, stop),
                values=values.transpose(1, 0, 2),
            )
        self._parts, self._start = rest, stop
