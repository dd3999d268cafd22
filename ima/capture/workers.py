"""Workers: processes that compute the units of one cache side by side, through Dask.

The process that creates the cache holds its lock, writes its metadata, hands out units and marks
them as done. Workers load model and data set by name, compute whole units and write them to the
store themselves (:mod:`ima.capture.worker_tasks`). No file is ever written by two of them
(:mod:`ima.capture.shared_shards`). A worker that dies costs the unit that it was computing, which
another one computes again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import logging
import queue
import re
import signal
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch

from ima.cache.provenance import CacheParameters
from ima.cache.reader import read_cache_attributes
from ima.cache.store import ROOT_METADATA_FILE, StoreLocation
from ima.capture.shared_shards import list_shared_shards, name_part_file
from ima.capture.work_units import mark_work_unit
from ima.capture.worker_progress import WorkerProgress
from ima.capture.worker_tasks import (
    WorkerReport,
    WorkOrder,
    find_byte_problem,
    find_reach_problem,
    inspect_job,
)
from ima.errors import CacheError, ImaError, ParameterError, SchedulerError, WorkerError

#: Seconds to wait for a scheduler, and for a first worker or one that replaces the last.
PATIENCE = 60.0
#: Seconds after which a shared folder shows a new file to every machine.
VISIBILITY = 15.0
_ANSWER, _POLL = 15.0, 1.0
_LOCAL = re.compile(r"local(?::(\d+))?")
_COMPARED = ("python", "dask", "distributed", "ima", "numpy", "torch", "transformers", "zarr")


def require_shared_address(location: StoreLocation) -> None:
    """Raise an error if no other process can reach a store.

    Raises
    ------
    CacheError
        If the store is in the memory of this process.

    Examples
    --------
    >>> from ima.cache.store import locate_store
    >>> require_shared_address(locate_store("memory://mine.zarr"))
    Traceback (most recent call last):
    ...
    ima.errors.CacheError: Workers cannot reach 'memory://mine.zarr', which is in the memory of \
this process. Give a path in a folder that all machines share, or a URL (s3://, gs://).
    """
    if location.address.startswith("memory://"):
        raise CacheError(
            f"Workers cannot reach {location.address!r}, which is in the memory of this process. "
            "Give a path in a folder that all machines share, or a URL (s3://, gs://)."
        )


@contextmanager
def connect_workers(scheduler: str) -> Iterator[WorkerTeam]:
    """Connect to the workers of a scheduler, or start some on this machine.

    Parameters
    ----------
    scheduler : str
        ``"local:2"``, the address of a scheduler, or its scheduler file.

    Raises
    ------
    SchedulerError
        If Dask is not installed or the scheduler does not answer.
    ParameterError
        If the number of local workers is not positive.

    Examples
    --------
    >>> with connect_workers("local:2") as team:  # doctest: +SKIP
    ...     team.plan_work(parameters, unit=None, location=location)
    """
    if importlib.util.find_spec("distributed") is None:
        raise SchedulerError(
            f"Cannot use the scheduler {scheduler!r}: dask.distributed is not installed. Workers "
            "need the extra `workers`: pip install 'ima[workers]'"
        )
    from distributed import Client

    local = _LOCAL.fullmatch(scheduler)
    logger = logging.getLogger("distributed")
    with ExitStack() as opened:
        # What Dask says of lost connections and ended workers is said by our errors.
        opened.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        where: dict[str, Any] = {"address": scheduler}
        if local:
            where["address"] = opened.enter_context(_start_local_workers(int(local[1] or 1)))
        elif scheduler.endswith(".json"):
            where = {"scheduler_file": scheduler}
        try:
            # Dask would wait for a scheduler file that nobody has written.
            missing = "scheduler_file" in where and not Path(scheduler).is_file()
            client = None if missing else Client(**where, timeout=_ANSWER, set_as_default=False)
        except (OSError, ValueError, ImportError) as error:
            raise _make_silence_error(scheduler, _shorten(error)) from error
        if client is None:
            raise _make_silence_error(scheduler, "there is no such file")
        yield WorkerTeam(opened.enter_context(client), name=scheduler)


def _make_silence_error(scheduler: str, reason: str) -> SchedulerError:
    return SchedulerError(
        f"No scheduler answers at {scheduler!r}: {reason}. Start one, and workers for it: "
        "dask scheduler; dask worker ADDRESS --nthreads 1 --memory-limit 0. Or start workers on "
        "this machine only: --scheduler local:2"
    )


@contextmanager
def _start_local_workers(number: int) -> Iterator[Any]:
    from distributed import LocalCluster

    if number < 1:
        raise ParameterError("--scheduler local:N needs at least one worker: local:1.")
    threads = str(max(1, torch.get_num_threads() // number))
    with _keep_interrupts():
        cluster = LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            # Any free port: two commands on one machine must not ask for the same.
            dashboard_address=":0",
            # The operating system shares the memory; a model may need most of it.
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            env=dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads),
        )
    with cluster:
        yield cluster


@contextmanager
def _keep_interrupts() -> Iterator[None]:
    """Keep Ctrl-C, which a terminal sends to all processes, from those that are started here.

    They inherit the mask of signals. This process ends them in order.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It would unblock the signal for the processes that come after it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shorten(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")[:200]


class WorkerTeam:
    """The workers of a scheduler.

    Parameters
    ----------
    client : distributed.Client
        A connection to the scheduler.
    name : str
        What the user calls it.
    """

    def __init__(self, client: Any, *, name: str) -> None:
        self.client, self.name = client, name

    def plan_work(
        self, parameters: CacheParameters, *, unit: int | None, location: StoreLocation
    ) -> TeamWork:
        """Ask every worker for its part of a job, and return the work if all agree.

        Parameters
        ----------
        parameters : CacheParameters
            The settings.
        unit : int, optional
            Samples per unit of a cache that is there already.
        location : StoreLocation
            The store.

        Raises
        ------
        SchedulerError
            If there are no workers.
        WorkerError
            If workers have other versions, lack the model or the data, or do not agree.
        """
        self._require_workers()
        self._require_versions()
        reports = self.ask(inspect_job, parameters, unit)
        first, *others = reports
        for address in others:
            problem = find_byte_problem(reports[first].attributes, reports[address].attributes)
            if not problem and reports[address].arithmetic != reports[first].arithmetic:
                problem = (
                    f"computes with {reports[address].arithmetic}, another with "
                    f"{reports[first].arithmetic}: the last bits of their numbers differ. Take "
                    "machines of one kind, or start all workers with the variable "
                    "ATEN_CPU_CAPABILITY=default."
                )
            if problem:
                raise WorkerError(f"Worker {address} {problem}")
        return TeamWork(self, reports[first], parameters=parameters, unit=unit, location=location)

    def list_workers(self) -> dict[str, int]:
        """Return the number of threads of each worker, by address."""
        if self.client.status != "running":
            raise self.make_lost_error()
        try:
            return {str(address): int(n) for address, n in self.client.nthreads().items()}
        except (OSError, TimeoutError) as error:
            raise self.make_lost_error() from error

    def make_lost_error(self) -> SchedulerError:
        """Return the error for a scheduler that has stopped answering."""
        return SchedulerError(f"The scheduler {self.name!r} has stopped answering.")

    def _get_start_command(self) -> str:
        # Dask would give a worker with one thread the memory of one core.
        return f"dask worker {self.client.scheduler.address} --nthreads 1 --memory-limit 0"

    def _require_workers(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise SchedulerError(
                f"The scheduler {self.name!r} has no workers, after {PATIENCE:g} s. Start some: "
                f"{self._get_start_command()}"
            ) from None
        for address, threads in self.list_workers().items():
            if threads != 1:
                raise WorkerError(
                    f"Worker {address} has {threads} threads for tasks, and a model runs one batch "
                    f"at a time. Start it with: {self._get_start_command()}"
                )

    def _require_versions(self) -> None:
        found = self.client.get_versions(packages=list(_COMPARED))
        own = found["client"]["packages"]
        for address, worker in found["workers"].items():
            differing = [
                f"{name} {worker['packages'].get(name) or 'is missing'} (here {own.get(name)})"
                for name in _COMPARED
                if worker["packages"].get(name) != own.get(name)
            ]
            if differing:
                raise WorkerError(
                    f"Worker {address} has other versions than this process: "
                    f"{', '.join(differing)}. Install the same on all machines: "
                    "pip install --constraint constraints.txt '.[models,remote,workers]'"
                )

    def ask(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Call a function on every worker and return what each answers.

        Raises
        ------
        ImaError
            What all workers raise, or a WorkerError that lists what some of them raise.
        """
        run, asked = uuid.uuid4().hex, {}
        for address in self.list_workers():
            asked[address] = self.client.submit(
                function,
                *arguments,
                workers=[address],
                key=f"{function.__name__}-{run}-{address}",
            )
        answers, errors = {}, {}
        for address, future in asked.items():
            try:
                answer = self._wait(future, address)
            except ImaError as error:
                errors[address] = error
            else:
                if answer is not None:
                    answers[address] = answer
        if errors and (len(errors) < len(asked) or len(set(map(str, errors.values()))) > 1):
            lines = "\n".join(f"  worker {address}: {e}" for address, e in errors.items())
            raise WorkerError(
                f"{len(errors)} of {len(asked)} workers cannot do their part:\n{lines}"
            )
        if errors:
            raise next(iter(errors.values()))
        if not answers:
            raise SchedulerError(f"The scheduler {self.name!r} has lost all its workers.")
        return answers

    def _wait(self, future: Any, address: str) -> Any:
        """Return the result of a worker; None if the worker is gone."""
        from distributed.client import FutureCancelledError

        while True:
            try:
                return future.result(timeout=_POLL)
            except TimeoutError:
                if address not in self.list_workers():
                    return None
            except FutureCancelledError as error:
                raise self.make_lost_error() from error


class TeamWork:
    """One job of a team: the units of a store.

    Parameters
    ----------
    team : WorkerTeam
        The workers.
    report : WorkerReport
        What they say of the job.
    parameters, unit, location
        As for :meth:`WorkerTeam.plan_work`.
    """

    def __init__(
        self,
        team: WorkerTeam,
        report: WorkerReport,
        *,
        parameters: CacheParameters,
        unit: int | None,
        location: StoreLocation,
    ) -> None:
        self.team, self.location = team, location
        self.layout, self.attributes, self.offsets = (
            report.layout,
            report.attributes,
            report.offsets,
        )
        self._parameters, self._unit = parameters, unit

    def write_units(
        self, units: Sequence[int], *, store: Callable[[], Any], tell: Callable[[int], None]
    ) -> Generator[int]:
        """Let workers write units, and mark them as done; yield each.

        Raises
        ------
        SchedulerError
            If the scheduler stops answering, or all workers are gone.
        WorkerError
            If a worker cannot do its part, or a unit ends each worker that computes it.
        """
        group, content = store(), self.location.read(ROOT_METADATA_FILE)
        order = WorkOrder(
            self._parameters,
            self._unit,
            self.location.address,
            # Those of a store that is continued: the number of threads is the first run's.
            read_cache_attributes(self.location),
            hashlib.sha256(content).hexdigest(),
            visibility=VISIBILITY,
        )
        problems = [
            f"Worker {address} {problem}"
            for address, problem in self.team.ask(find_reach_problem, order).items()
            if problem
        ]
        if problems:
            raise WorkerError("\n".join(problems))
        shards = list_shared_shards(self.layout, offsets=self.offsets)
        progress = WorkerProgress(units, shards=shards, layout=self.layout)
        for unit in self._list_computed(progress):
            progress.add(unit)
            tell(unit)
        for unit in self._run(order, progress, tell=tell):
            mark_work_unit(unit, layout=self.layout, group=group)
            if progress.is_shared(unit):
                self.location.delete(name_part_file(unit))
            yield unit
        if shards:
            self.location.remove_parts()

    def _list_computed(self, progress: WorkerProgress) -> list[int]:
        """Return the units of a stopped run that are computed but not done."""
        return [
            unit
            for unit in progress.todo
            if progress.is_shared(unit) and self.location.exists(name_part_file(unit))
        ]

    def _run(
        self, order: WorkOrder, progress: WorkerProgress, *, tell: Callable[[int], None]
    ) -> Iterator[int]:
        """Hand out tasks, a few more than there are workers, and yield units that are written."""
        client, run = self.team.client, uuid.uuid4().hex
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        running: dict[str, Any] = {}
        workers, numbers = len(self.team.list_workers()), itertools.count()
        looked = alive = time.monotonic()
        try:
            yield from progress.take_written()
            while True:
                while len(running) < 2 * max(1, workers) and (task := progress.take_task()):
                    function, arguments, priority = task
                    key = f"{function.__name__}-{run}-{next(numbers)}"
                    running[key] = client.submit(
                        function, order, *arguments, key=key, priority=priority
                    )
                    running[key].add_done_callback(ended.put)
                if not running:
                    return
                with suppress(queue.Empty):
                    future = ended.get(timeout=_POLL)
                    del running[future.key]
                    result = self._take_result(future)
                    progress.add(result)
                    if isinstance(result, int):
                        tell(result)
                    yield from progress.take_written()
                now = time.monotonic()
                if now - looked > _POLL:
                    workers, looked = len(self.team.list_workers()), now
                    alive = now if workers else alive
                    if now - alive > PATIENCE:
                        raise SchedulerError(
                            f"The scheduler {self.team.name!r} has lost all its workers."
                        )
        finally:
            with suppress(Exception):
                client.cancel(list(running.values()), force=True)

    def _take_result(self, future: Any) -> Any:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            return future.result()
        except FutureCancelledError as error:
            raise self.team.make_lost_error() from error
        except KilledWorker as error:
            raise WorkerError(
                f"{error.allowed_failures + 1} workers died while they computed the same unit, the "
                f"last one {error.last_worker.address}. Most often their memory ran out: give a "
                "smaller --batch-size or --unit, start fewer workers on a machine, or start them "
                "with --memory-limit 0."
            ) from None
