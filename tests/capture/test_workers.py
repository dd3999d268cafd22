"""Workers: the bytes of one writer, whatever happens to them, and what their errors say."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tinycaches import MODEL, SETTINGS, snapshot

from ima.cache.provenance import CacheParameters
from ima.cache.reader import read_done_mask
from ima.cache.store import locate_store, lock_store
from ima.cache.verification import verify_cache
from ima.capture import shared_shards, worker_tasks, workers, writer
from ima.capture.writer import create_cache
from ima.data.samples import open_samples
from ima.errors import (
    ActivationError,
    CacheDifferentError,
    CacheError,
    CacheLockedError,
    ParameterError,
    SchedulerError,
    UnknownNameError,
    WorkerError,
)

DATASET = "mini-image-caption"


def make(path: Path | str, scheduler: str = "", **settings: Any) -> None:
    given = {**SETTINGS, **settings}
    create_cache(MODEL, dataset=DATASET, path=path, scheduler=scheduler, progress=False, **given)


@pytest.fixture(scope="module")
def alone(tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of the cache that one process makes."""
    path = tmp_path_factory.mktemp("alone") / "cache.zarr"
    make(path)
    return snapshot(path)


@pytest.fixture
def address(threads: Any) -> str:
    return str(threads.scheduler_address)


def test_workers_leave_the_bytes_of_one_process(
    alone: dict[str, bytes], address: str, tmp_path: Path
) -> None:
    path = tmp_path / "cache.zarr"
    make(path, address)
    assert snapshot(path) == alone
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache.zarr"]
    assert [entry.name for entry in path.glob(".*")] == []
    # A finished cache is looked at and left.
    make(path, address)
    assert snapshot(path) == alone


def test_workers_write_a_bucket_with_the_same_bytes(
    alone: dict[str, bytes], address: str, bucket: Any
) -> None:
    url = f"{bucket.url}/cache.zarr"
    make(url, address)
    location = locate_store(url)
    assert location.find_all(location.sizes()) == alone
    # The lock is given back, and a second client is refused while somebody holds it.
    with lock_store(location), pytest.raises(CacheLockedError, match="Another process is writ"):
        make(url, address, overwrite=True)


@pytest.mark.parametrize("first", ["alone", "workers"])
def test_workers_and_one_process_continue_each_others_caches(
    alone: dict[str, bytes],
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
) -> None:
    path, compute = tmp_path / "cache.zarr", worker_tasks.compute_work_unit

    def stop(unit: int, **arguments: Any) -> None:
        if unit == 2:
            message = "disk full"
            raise OSError(28, message)
        (compute if first == "workers" else write)(unit, **arguments)

    write = writer.write_work_unit
    with monkeypatch.context() as patch:
        if first == "workers":
            # Unit 2 starts when the others are computed.
            patch.setattr(worker_tasks, "compute_work_unit", stop)
        else:
            patch.setattr(writer, "write_work_unit", stop)
        with pytest.raises(CacheError, match=r"disk full.*continue with: ima cache create"):
            make(path, address if first == "workers" else "", keep_tokens=2)
    done = read_done_mask(locate_store(path))
    assert 0 < done.sum() < 7
    assert verify_cache(path).unexpected == ()
    make(path, "" if first == "workers" else address, keep_tokens=2)
    expected = tmp_path / "expected.zarr"
    make(expected, keep_tokens=2)
    assert snapshot(path) == snapshot(expected)


def test_computed_units_of_a_stopped_run_are_not_computed_again(
    alone: dict[str, bytes], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows of shared shards lie in files, also where no unit is done yet."""
    path, began = tmp_path / "cache.zarr", []
    compute = worker_tasks.compute_work_unit

    def count(unit: int, **arguments: Any) -> None:
        began.append(unit)
        compute(unit, **arguments)

    def stop(*_: Any, **__: Any) -> None:
        message = "Input/output error"
        raise OSError(5, message)

    with monkeypatch.context() as patch:
        patch.setattr(worker_tasks, "compute_work_unit", count)
        # The first two units share a shard of four samples, the third one has no tokens.
        patch.setattr(worker_tasks, "write_shared_shard", stop)
        with pytest.raises(CacheError, match="Input/output error"):
            make(path, address)
        assert {file.name for file in (path / ".parts").iterdir()} == {"0.npz", "1.npz"}
        patch.setattr(worker_tasks, "write_shared_shard", shared_shards.write_shared_shard)
        began.clear()
        make(path, address)
    assert snapshot(path) == alone
    assert set(began) <= {2}


def test_a_unit_that_is_marked_but_not_counted_is_kept(
    tiny_zoo: Path,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ctrl-C between the mark of the first unit and the count of finished samples."""
    path, mark = tmp_path / "cache.zarr", workers.mark_work_unit

    def stop(unit: int, **arguments: Any) -> None:
        mark(unit, **arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "mark_work_unit", stop)
    with caplog.at_level("WARNING", logger="ima"), pytest.raises(KeyboardInterrupt):
        # One unit, so that no worker computes another one after the test.
        make(path, address, samples=3, keep_tokens=0, logit_lens=0)
    assert "Stopped: 3 of 3 samples are finished and kept. Continue with:" in caplog.text
    assert read_done_mask(locate_store(path)).all()


def test_a_run_that_is_stopped_while_its_workers_end_says_what_is_kept(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, connect = tmp_path / "cache.zarr", writer.connect_workers

    @contextmanager
    def stop(scheduler: str) -> Iterator[Any]:
        with connect(scheduler) as team:
            yield team
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "connect_workers", stop)
    with caplog.at_level("WARNING", logger="ima"), pytest.raises(KeyboardInterrupt):
        make(path, address, samples=3, keep_tokens=0, logit_lens=0)
    assert "Stopped: 3 of 3 samples are finished and kept. Continue with:" in caplog.text
    # Of a run that is stopped before it replaces a cache there is nothing to say.
    caplog.clear()
    monkeypatch.setattr(writer, "write_work_unit", raise_interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(path, samples=3, overwrite=True, keep_tokens=0, logit_lens=0)
    # Another library may say, at this moment, that its client has left.
    assert not [record for record in caplog.records if record.name.startswith("ima")]


def raise_interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_workers_compute_with_the_threads_of_the_run_that_they_continue(
    tiny_zoo: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, found = tmp_path / "cache.zarr", set()
    compute, write = worker_tasks.compute_work_unit, writer.write_work_unit

    def stop(unit: int, **arguments: Any) -> None:
        if unit == 1:
            raise KeyboardInterrupt
        write(unit, **arguments)

    def observe(unit: int, **arguments: Any) -> None:
        found.add(torch.get_num_threads())
        compute(unit, **arguments)

    monkeypatch.setattr(writer, "write_work_unit", stop)
    monkeypatch.setattr(worker_tasks, "compute_work_unit", observe)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(KeyboardInterrupt):
            make(path)
    finally:
        torch.set_num_threads(before)
    make(path, address)
    assert found == {3}


def test_a_second_client_is_refused(address: str, tmp_path: Path) -> None:
    path = tmp_path / "cache.zarr"
    with (
        lock_store(locate_store(path)),
        pytest.raises(CacheLockedError, match="Another process is writing"),
    ):
        make(path, address)
    assert not path.exists()


def test_two_clients_at_once_leave_one_cache(
    alone: dict[str, bytes], address: str, tmp_path: Path
) -> None:
    path, outcomes = tmp_path / "cache.zarr", []

    def run() -> None:
        try:
            make(path, address)
        except CacheLockedError as error:
            outcomes.append(error)
        else:
            outcomes.append(None)

    both = [threading.Thread(target=run) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert None in outcomes
    assert snapshot(path) == alone


def test_other_settings_are_refused_and_replaced_on_request(
    alone: dict[str, bytes], address: str, tmp_path: Path
) -> None:
    path = tmp_path / "cache.zarr"
    make(path, samples=5)
    with pytest.raises(CacheDifferentError, match="samples: the cache has 5, requested 7"):
        make(path, address)
    make(path, address, overwrite=True)
    assert snapshot(path) == alone


def test_errors_of_the_model_are_those_of_one_process(
    tiny_zoo: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache.zarr"
    with pytest.raises(UnknownNameError, match="Unknown data set 'nothing'"):
        create_cache(MODEL, dataset="nothing", path=path, scheduler=address, samples=2)

    def spoil(*_: Any, **__: Any) -> None:
        message = "Hook point 'ln1', layer 2: NaN"
        raise ActivationError(message)

    monkeypatch.setattr(worker_tasks, "compute_work_unit", spoil)
    with pytest.raises(ActivationError, match="layer 2: NaN"):
        make(path, address)
    assert list(tmp_path.iterdir()) == []


def test_some_workers_without_the_model_are_named(
    tiny_zoo: Path, threads: Any, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import get_worker

    inspect, lacking = (
        worker_tasks.make_job_attributes,
        next(iter(threads.workers.values())).address,
    )

    def lack(job: Any) -> Any:
        if get_worker().address == lacking:
            message = "'dinov2' is not fetched. Fetch it: ima models fetch dinov2"
            raise ParameterError(message)
        return inspect(job)

    monkeypatch.setattr(worker_tasks, "make_job_attributes", lack)
    with pytest.raises(WorkerError) as raised:
        make(tmp_path / "cache.zarr", address)
    assert str(raised.value) == (
        f"1 of 2 workers cannot do their part:\n  worker {lacking}: 'dinov2' is not fetched. "
        "Fetch it: ima models fetch dinov2"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dataset": {"fingerprint": "other"}}, "would write other bytes: dataset.fingerprint"),
        ({"execution": {"packages": {"torch": "1.0"}}}, "execution.packages.torch: the cache has"),
    ],
)
def test_workers_that_would_write_other_bytes_are_refused(
    tiny_zoo: Path,
    threads: Any,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    text: str,
) -> None:
    from distributed import get_worker

    attributes, other = (
        worker_tasks.make_job_attributes,
        next(iter(threads.workers.values())).address,
    )

    def differ(job: Any) -> Any:
        own = attributes(job)
        if get_worker().address == other:
            for section, values in change.items():
                own[section] = {**own[section], **values}
        return own

    monkeypatch.setattr(worker_tasks, "make_job_attributes", differ)
    with pytest.raises(WorkerError, match=text):
        make(tmp_path / "cache.zarr", address)


def test_machines_that_compute_differently_are_refused(
    tiny_zoo: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = iter(["AVX2", "AVX512"])
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: next(kinds))
    with pytest.raises(WorkerError, match=r"AVX.* the last bits of their numbers differ"):
        make(tmp_path / "cache.zarr", address)


def test_a_path_that_workers_do_not_see_is_named(
    tiny_zoo: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "VISIBILITY", 0.0)
    locate = worker_tasks.locate_store
    monkeypatch.setattr(
        worker_tasks, "locate_store", lambda path: locate(str(path).replace("shared", "elsewhere"))
    )
    path = tmp_path / "shared" / "cache.zarr"
    with pytest.raises(WorkerError, match=f"does not see '{path}'. Give a path in a folder that"):
        make(path, address)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_was_replaced_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text("{}")
    order = worker_tasks.WorkOrder(None, None, str(tmp_path), {}, "digest", visibility=0.0)  # type: ignore[arg-type]
    assert "sees another cache at" in worker_tasks.find_reach_problem(order)
    with pytest.raises(WorkerError, match="A worker sees another cache"):
        worker_tasks.write_shard(order, SimpleNamespace(), ())  # type: ignore[arg-type]


def fake_team(**answers: Any) -> workers.WorkerTeam:
    own = {"python": "3.11.9", "ima": "0.1.0", "torch": "2.13.0"}
    versions = {"client": {"packages": own}, "workers": answers.pop("versions", {})}
    client = SimpleNamespace(
        status="running",
        scheduler=SimpleNamespace(address="tcp://host:1"),
        wait_for_workers=answers.pop("wait", lambda *_, **__: None),
        nthreads=lambda: answers["threads"],
        get_versions=lambda **_: versions,
    )
    return workers.WorkerTeam(client, name="tcp://host:1")


def plan(team: workers.WorkerTeam) -> None:
    team.plan_work(None, unit=None, location=locate_store("mine.zarr"))  # type: ignore[arg-type]


def test_workers_of_other_versions_are_refused() -> None:
    packages = {"python": "3.11.9", "torch": "2.12.0"}
    team = fake_team(threads={"tcp://a:2": 1}, versions={"tcp://a:2": {"packages": packages}})
    text = (
        "Worker tcp://a:2 has other versions than this process: ima is missing (here 0.1.0), torch "
        "2.12.0 (here 2.13.0). Install the same on all machines: pip install --constraint"
    )
    with pytest.raises(WorkerError, match=re.escape(text)):
        plan(team)


def test_workers_with_several_threads_are_refused() -> None:
    with pytest.raises(WorkerError, match=r"tcp://a:2 has 8 threads.* --nthreads 1"):
        plan(fake_team(threads={"tcp://a:2": 8}))


def test_a_scheduler_without_workers_says_how_to_start_some() -> None:
    def wait(*_: Any, **__: Any) -> None:
        raise TimeoutError

    with pytest.raises(SchedulerError, match=r"has no workers.*dask worker tcp://host:1 --nthr"):
        plan(fake_team(wait=wait))


@pytest.mark.parametrize(
    ("scheduler", "error", "text"),
    [
        ("tcp://127.0.0.1:1", SchedulerError, r"No scheduler answers at 'tcp://127.0.0.1:1'"),
        ("nowhere/scheduler.json", SchedulerError, r"there is no such file\. Start one"),
        ("ftp://host", SchedulerError, r"No scheduler answers at 'ftp://host'"),
        ("local:0", ParameterError, r"at least one worker: local:1"),
    ],
)
def test_a_scheduler_that_does_not_answer_is_named(
    scheduler: str, error: type[Exception], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_ANSWER", 0.5)
    with pytest.raises(error, match=text), workers.connect_workers(scheduler):
        pass


def test_dask_speaks_again_once_the_workers_are_left(address: str) -> None:
    logger = logging.getLogger("distributed")
    before = logger.level
    try:
        logger.setLevel(logging.WARNING)
        with workers.connect_workers(address):
            assert logger.level == logging.CRITICAL
        assert logger.level == logging.WARNING
        with pytest.raises(SchedulerError), workers.connect_workers("nowhere/scheduler.json"):
            pass
        assert logger.level == logging.WARNING
    finally:
        logger.setLevel(before)


def test_dask_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(SchedulerError, match=r"pip install 'ima\[workers\]'"),
        workers.connect_workers("local:2"),
    ):
        pass


def test_workers_need_names_and_a_store_that_they_reach(address: str, tmp_path: Path) -> None:
    samples = open_samples(DATASET, n=7)
    with pytest.raises(ParameterError, match="names of the model and of the data set"):
        create_cache(MODEL, dataset=samples, path=tmp_path / "x.zarr", scheduler=address)
    with pytest.raises(CacheError, match="in the memory of this process"):
        create_cache(MODEL, dataset=DATASET, path="memory://x.zarr", scheduler=address)


@pytest.mark.slow
@pytest.mark.timeout(900)  # each process imports torch, on a machine that may be busy
def test_a_killed_worker_costs_one_unit_and_a_dead_scheduler_none_that_is_done(
    alone: dict[str, bytes], processes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long as a worker of this test may take to start.
    monkeypatch.setattr(workers, "PATIENCE", 300.0)
    path, units = tmp_path / "cache.zarr", 3
    for _ in range(2):
        processes.start_worker()
    # Whoever begins the second unit waits in it, and is killed there.
    (processes.folder / "wait-1").touch()

    def kill() -> None:
        victim = int(processes.wait_for("waiting-1"))
        (processes.folder / "wait-1").unlink()
        processes.kill(victim)

    killing = threading.Thread(target=kill)
    killing.start()
    make(path, str(processes.file))
    killing.join()
    assert snapshot(path) == alone
    computed = processes.list_computed()
    assert len(computed) == units + 1
    assert computed.count(1) == 2
    # Again, and the scheduler dies while the last unit is computed.
    (processes.folder / "wait-2").touch()
    scheduler = next(iter(processes.processes))

    def end() -> None:
        processes.wait_for("waiting-2")
        while read_done_mask(locate_store(path)).sum() < 6:
            time.sleep(0.05)
        processes.kill(scheduler)

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(SchedulerError) as raised:
        make(path, str(processes.file), overwrite=True, keep_tokens=0)
    ending.join()
    assert re.search(
        r"The scheduler '.*scheduler.json' has stopped answering\. 6 of 7 samples are finished and "
        r"kept\. Continue with: ima cache create .* --scheduler .*scheduler\.json",
        str(raised.value),
    )
    make(path, keep_tokens=0)
    assert verify_cache(path).done == 7


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_starts_workers_of_its_own_and_ends_them_when_it_is_stopped(
    alone: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "cache.zarr"
    settings = CacheParameters(model=MODEL, dataset=DATASET, **SETTINGS)
    words = settings.command(str(path)).split()[1:]
    words = [sys.executable, "-m", "ima.cli", *words, "--scheduler", "local:2"]
    run = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not path.exists() or not read_done_mask(locate_store(path)).any():
        assert run.poll() is None
    # As a terminal does: to all processes.
    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=300)
    if run.returncode:
        assert "samples are finished and kept. Continue with: ima cache create" in err
        assert "Traceback" not in err
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert snapshot(path) == alone
    assert f"{path} holds 7 samples" in done.stdout
