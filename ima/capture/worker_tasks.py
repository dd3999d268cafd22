"""What a worker does: it loads a job by its names, computes units and writes shared shards.

These functions run in the worker's process; :mod:`ima.capture.workers` calls them there.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ima.cache.provenance import CacheParameters, list_attribute_differences
from ima.cache.schema import CacheLayout
from ima.cache.store import ROOT_METADATA_FILE, locate_store
from ima.capture.jobs import make_job_attributes, prepare_capture_job, use_threads
from ima.capture.shared_shards import PartialRows, SharedShard, write_shared_shard
from ima.capture.work_units import CaptureJob, compute_work_unit
from ima.errors import WorkerError

#: Seconds between two looks at a store that has not appeared.
_POLL = 1.0
#: A model whose layers have hooks runs one batch at a time.
_turn = threading.Lock()


@dataclass(frozen=True)
class WorkOrder:
    """What a worker needs to compute units of a store.

    Parameters
    ----------
    parameters : CacheParameters
        The settings.
    unit : int or None
        Samples per unit of a cache that is there already.
    address : str
        The store.
    attributes : mapping
        Its attributes, which the worker's own must equal.
    root : str
        Digest of its root: another store at this address is not written.
    visibility : float
        Seconds to wait for the root to appear.
    """

    parameters: CacheParameters
    unit: int | None
    address: str
    attributes: Mapping[str, Any]
    root: str
    visibility: float


@dataclass(frozen=True)
class WorkerReport:
    """What a worker says of a job.

    Parameters
    ----------
    attributes : mapping
        Attributes of the store that it would make.
    layout : CacheLayout
        Sizes of that store.
    offsets : array (sample + 1)
        First stored token of each sample, and the one after the last.
    arithmetic : str
        The processor's instructions, or the accelerator, that it computes with.
    """

    attributes: Mapping[str, Any]
    layout: CacheLayout
    offsets: npt.NDArray[np.int64]
    arithmetic: str


def inspect_job(parameters: CacheParameters, unit: int | None) -> WorkerReport:
    """Load model and samples on a worker and say what they are.

    Examples
    --------
    >>> inspect_job(parameters, None).layout.units  # doctest: +SKIP
    7
    """
    with _turn:
        # Data or weights may have changed since this worker's last job.
        _open_job.cache_clear()
        job = _open_job(parameters, unit)
        arithmetic = torch.backends.cpu.get_cpu_capability()
        if job.model.device.type == "cuda":
            arithmetic = torch.cuda.get_device_name(job.model.device)
        return WorkerReport(make_job_attributes(job), job.layout, job.offsets, arithmetic)


def compute_unit(order: WorkOrder, unit: int, shards: Sequence[SharedShard]) -> int:
    """Compute and write a unit on a worker, without marking it as done.

    Parameters
    ----------
    order : WorkOrder
        The job and its store.
    unit : int
        The unit.
    shards : sequence of SharedShard
        The token shards that it shares with other units.

    Raises
    ------
    WorkerError
        If the worker would write other bytes, or does not see the store.

    Examples
    --------
    >>> compute_unit(order, 0, [])  # doctest: +SKIP
    0
    """
    location = locate_store(order.address)
    with _turn, use_threads(order.attributes["execution"]["threads"]):
        job = _open_job(order.parameters, order.unit)
        problem = find_byte_problem(order.attributes, make_job_attributes(job))
        problem = problem or find_reach_problem(order)
        if problem:
            raise WorkerError(f"A worker {problem}")
        rows = PartialRows(unit, shards)
        compute_work_unit(unit, job=job, store=lambda: location.group("r+"), write_rows=rows.write)
        rows.save(location)
    return unit


def write_shard(order: WorkOrder, shard: SharedShard, finished: Collection[int]) -> SharedShard:
    """Write a shared shard on a worker, once all its units are computed.

    Examples
    --------
    >>> write_shard(order, shard, finished=())  # doctest: +SKIP
    """
    problem = find_reach_problem(order)
    if problem:
        raise WorkerError(f"A worker {problem}")
    write_shared_shard(locate_store(order.address), shard, finished=finished)
    return shard


def find_reach_problem(order: WorkOrder) -> str:
    """Return what keeps this process from the store of an order; empty if nothing does.

    Examples
    --------
    >>> order = WorkOrder(None, None, "/nowhere/mine.zarr", {}, "", visibility=0)
    >>> print(find_reach_problem(order))
    does not see '/nowhere/mine.zarr'. Give a path in a folder that all machines share, under the \
same name, or a URL (s3://, gs://).
    """
    end, location = time.monotonic() + order.visibility, locate_store(order.address)
    while True:
        try:
            content = location.find(ROOT_METADATA_FILE)
        except OSError as error:
            return f"cannot read {order.address!r}: {error}"
        if content is not None and hashlib.sha256(content).hexdigest() == order.root:
            return ""
        if time.monotonic() >= end:
            break
        time.sleep(min(_POLL, order.visibility))
    if content is None:
        return (
            f"does not see {order.address!r}. Give a path in a folder that all machines share, "
            "under the same name, or a URL (s3://, gs://)."
        )
    return (
        f"sees another cache at {order.address!r} than the one that is being made. Somebody has "
        "replaced it, or the path names a folder of that machine only."
    )


@lru_cache(maxsize=1)
def _open_job(parameters: CacheParameters, unit: int | None) -> CaptureJob:
    return prepare_capture_job(
        parameters, model=parameters.model, dataset=parameters.dataset, unit=unit
    )


def find_byte_problem(expected: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return why a worker would write other bytes than its store needs; empty if it would not.

    Parameters
    ----------
    expected : mapping
        Attributes of the store.
    own : mapping
        Attributes of the store that the worker would make.

    Examples
    --------
    >>> find_byte_problem({"execution": {"device": "cpu"}}, {"execution": {"device": "cuda"}})
    "would write other bytes: execution.device: the cache has 'cpu', requested 'cuda'."
    """
    lines = list_attribute_differences(expected, own, execution=True)
    return "would write other bytes: " + "; ".join(lines) + "." if lines else ""
