"""Workers of the tests: threads of this process, and processes that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: Loaded by each worker process: says which unit it computes, and waits before those it shall.
PRELOAD = """
import os, time
from pathlib import Path
from ima.capture import worker_tasks

compute = worker_tasks.compute_work_unit
folder = Path(os.environ["TINYWORKERS"])


def observe(unit, **arguments):
    with (folder / "computed").open("a") as file:
        file.write(f"{unit} {os.getpid()}\\n")
    while (folder / f"wait-{unit}").exists():
        (folder / f"waiting-{unit}").write_text(str(os.getpid()))
        time.sleep(0.02)
    compute(unit, **arguments)


def dask_setup(worker):
    worker_tasks.compute_work_unit = observe
"""


@pytest.fixture(scope="session")
def threads() -> Iterator[Any]:
    """Two workers in this process."""
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        dashboard_address=":0",
        memory_limit=0,
        silence_logs=50,
    )
    with cluster:
        yield cluster


class WorkerProcesses:
    """A scheduler and its workers, each a process.

    Parameters
    ----------
    folder : Path
        For their files: ``wait-3`` makes the unit 3 wait, ``waiting-3`` then holds its process,
        ``computed`` has a line for each unit that a worker begins.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes: dict[int, Any] = {}
        (folder / "preload.py").write_text(PRELOAD)

    def start(self, *words: str, **environment: str) -> int:
        tests = str(Path(__file__).parent)
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]),
                    "TINYWORKERS": str(self.folder),
                    **environment,
                },
                stdout=log,
                stderr=log,
            )
        self.processes[process.pid] = process
        return process.pid

    def start_scheduler(self) -> int:
        process = self.start(
            "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
            "--dashboard-address", ":0", "--scheduler-file", str(self.file),
        )  # fmt: skip
        self.wait_for("scheduler.json")
        return process

    def start_worker(self, **environment: str) -> int:
        address = json.loads(self.file.read_text())["address"]
        return self.start(
            "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny",
            "--no-dashboard", "--memory-limit", "0", "--local-directory", str(self.folder),
            "--preload", str(self.folder / "preload.py"), **environment,
        )  # fmt: skip

    def wait_for(self, name: str, *, seconds: float = 300) -> str:
        end = time.monotonic() + seconds
        while not (self.folder / name).exists() or not (self.folder / name).read_text():
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.02)
        return (self.folder / name).read_text()

    def list_computed(self) -> list[int]:
        return [int(line.split()[0]) for line in self.wait_for("computed").splitlines()]

    def kill(self, process: int) -> None:
        self.processes[process].kill()
        self.processes[process].wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[WorkerProcesses]:
    """A scheduler without workers yet, in a process of its own."""
    folder = tmp_path / "workers"
    folder.mkdir()
    started = WorkerProcesses(folder)
    started.start_scheduler()
    yield started
    for process in started.processes.values():
        process.kill()
        process.wait()
