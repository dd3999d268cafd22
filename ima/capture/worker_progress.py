"""Which tasks of a job workers can do next, and which units they have written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ima.cache.schema import CacheLayout
from ima.capture.shared_shards import SharedShard
from ima.capture.worker_tasks import compute_unit, write_shard


class WorkerProgress:
    """Which units of a job are computed, and which shared shards are written.

    Parameters
    ----------
    units : sequence of int
        The units that are not done.
    shards : sequence of SharedShard
        All shared shards of the store.
    layout : CacheLayout
        Its sizes.
    """

    def __init__(
        self, units: Sequence[int], *, shards: Sequence[SharedShard], layout: CacheLayout
    ) -> None:
        self.todo, todo = list(units), set(units)
        self._finished = frozenset(range(layout.units)) - todo
        self._by_unit: dict[int, list[SharedShard]] = {}
        for shard in shards:
            # A shard whose units are all done was written by the run that finished them.
            for unit in () if todo.isdisjoint(shard.units) else shard.units:
                self._by_unit.setdefault(unit, []).append(shard)
        self._computed, self._written = set(self._finished), set[SharedShard]()
        self._ready: list[SharedShard] = []
        self._ended: list[int] = []
        self._next = iter(self.todo)

    def is_shared(self, unit: int) -> bool:
        """Whether a unit shares a shard with another one."""
        return unit in self._by_unit

    def add(self, result: int | SharedShard) -> None:
        """Add what a task has done: a unit is computed, or a shard is written."""
        if isinstance(result, SharedShard):
            self._written.add(result)
            self._ended += [
                unit
                for unit in result.units
                if unit not in self._finished and self._written.issuperset(self._by_unit[unit])
            ]
            return
        self._computed.add(result)
        own = self._by_unit.get(result, [])
        self._ready += [shard for shard in own if self._computed.issuperset(shard.units)]
        if not own:
            self._ended.append(result)

    def take_written(self) -> list[int]:
        """Return the units that are written since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def take_task(self) -> tuple[Callable[..., Any], tuple[Any, ...], int] | None:
        """Return what can be done next, function, arguments and priority; None if nothing can."""
        if self._ready:
            shard = self._ready.pop()
            return write_shard, (shard, self._finished.intersection(shard.units)), 1
        unit = next((unit for unit in self._next if unit not in self._computed), None)
        return None if unit is None else (compute_unit, (unit, self._by_unit.get(unit, [])), 0)
