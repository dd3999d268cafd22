"""Processes that are killed, run beside each other, or live under a clock that goes backwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faultcaches import find_command, make_words, require_whole_units
from tinycaches import snapshot
from tinysamples import image_set

from ima.cache.reader import open_cache
from ima.cache.store import locate_store, lock_store
from ima.cache.verification import verify_cache
from ima.capture.writer import create_cache
from ima.errors import CacheCorruptError, CacheError, CacheLockedError
from ima.models.frozen import FrozenModel

KILLS = 100
READ_SETTINGS: dict[str, Any] = {
    "samples": 24,
    "keep_tokens": 5,
    "batch_size": 1,
    "unit": 1,
    "hook_points": ("resid_post",),
    "progress": False,
}


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a hundred writers, on a machine that may be busy
def test_a_hundred_kills_end_with_the_bytes_of_an_undisturbed_run(
    tiny_zoo: Path, tmp_path: Path
) -> None:
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parent}", "OMP_NUM_THREADS": "1"}
    script = [sys.executable, here / "killer.py", tmp_path, str(KILLS), "20261122"]
    run = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["states"]) == KILLS
    # After each kill, all units that were finished are still there, with every byte.
    assert [state for state in report["states"] if state["lost"] or state["differing"]] == []
    assert len({state["done"] for state in report["states"]}) > 10
    assert report["differing"] == []
    # Neither locks nor half-written folders stay behind.
    stores = {f"killed-{number}.zarr" for number in range(report["stores"])} | {"whole.zarr"}
    assert set(report["left"]) == stores | {"counts"}


def fork(function: Callable[[], None]) -> int:
    """Run a function in a process of its own; its exit status is 1 after an error."""
    process = os.fork()
    if process == 0:
        try:
            function()
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return process


def test_a_second_writer_is_refused_while_the_first_one_runs(
    run_ima: Any, write_store: Callable[..., Path], sound: dict[str, bytes], tmp_path: Path
) -> None:
    path, held = write_store(units=1), tmp_path / "held"

    def hold() -> None:
        with lock_store(locate_store(path)):
            held.touch()
            time.sleep(60)

    writer = fork(hold)
    while not held.exists():
        time.sleep(0.01)
    before = snapshot(path)
    for words in (make_words(path), make_words(path, "--overwrite")):
        code, _, err = run_ima(*words)
        assert code == 1
        assert err.startswith(f"Error: Another process is writing '{path}'. Wait until it has")
    assert snapshot(path) == before
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    assert run_ima(*make_words(path))[0] == 0
    assert snapshot(path) == sound


def test_of_many_writers_one_writes_at_a_time(model: FrozenModel, tmp_path: Path) -> None:
    settings = {**READ_SETTINGS, "samples": 6}
    alone, path = tmp_path / "alone.zarr", tmp_path / "shared.zarr"
    create_cache(model, dataset=image_set(6), path=alone, **settings)

    def insist() -> None:
        while True:
            try:
                create_cache(model, dataset=image_set(6), path=path, **settings)
            except CacheLockedError:
                continue
            return

    writers = [fork(insist) for _ in range(4)]
    assert [os.waitpid(writer, 0)[1] for writer in writers] == [0, 0, 0, 0]
    assert snapshot(path) == snapshot(alone)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["alone.zarr", "shared.zarr"]


def test_a_reader_beside_a_writer_sees_whole_units_only(model: FrozenModel, tmp_path: Path) -> None:
    samples = image_set(READ_SETTINGS["samples"])
    whole = tmp_path / "whole.zarr"
    create_cache(model, dataset=samples, path=whole, **READ_SETTINGS)
    expected = open_cache(whole).load()
    path = tmp_path / "growing.zarr"
    writer = fork(lambda: create_cache(model, dataset=samples, path=path, **READ_SETTINGS) and None)
    seen: list[int] = []
    before: list[str] = []
    while not seen or seen[-1] < READ_SETTINGS["samples"]:
        try:
            tree = open_cache(path, allow_partial=True)
        except CacheError as error:
            before.append(str(error))
            continue
        done = tree["samples"].sizes["sample"]
        for name in ("means/resid_post/mean", "norms/resid_post/median", "samples/id"):
            np.testing.assert_array_equal(tree[name], expected[name][:done])
        states = tree["tokens/resid_post"].to_dataset().load()
        rows = states.sizes["token"]
        kept = expected["tokens/resid_post"].to_dataset().isel(token=slice(rows))
        np.testing.assert_array_equal(states["state"], kept["state"])
        assert set(states["sample"].to_numpy().tolist()) == set(range(min(done, 5)))
        seen.append(done)
    assert os.waitpid(writer, 0)[1] == 0
    assert all("No cache at" in message for message in before)
    assert seen == sorted(seen)
    assert len(set(seen)) > 3


def test_a_reader_of_a_cache_that_is_replaced_gets_an_error_and_no_mixture(
    model: FrozenModel, write_store: Callable[..., Path]
) -> None:
    path = write_store()
    opened = open_cache(path)
    create_cache(
        model,
        dataset=image_set(2),
        path=path,
        samples=2,
        hook_points=("resid_post",),
        overwrite=True,
    )
    with pytest.raises(CacheError, match=r"was replaced or removed after it was opened\. Open it"):
        opened["means/resid_post/mean"].load()


def test_a_reader_of_a_cache_under_repair_gets_an_error_and_no_nan(
    write_store: Callable[..., Path],
) -> None:
    path = write_store()
    opened = open_cache(path)
    # A repair that was stopped: the unit is not done, and its damaged file is gone.
    (path / "samples/done/c/1").unlink()
    (path / "norms/resid_post/mean/c/1/0/0").unlink()
    with pytest.raises(CacheCorruptError, match=r"lost norms/resid_post/mean"):
        opened["norms/resid_post/mean"].load()


def test_a_clock_that_goes_backwards_changes_nothing(
    run_ima: Any,
    write_store: Callable[..., Path],
    sound: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_store(units=1)
    # What was written so far is from tomorrow, and time runs backwards from now on.
    tomorrow = time.time() + 86_400
    for file in path.rglob("*"):
        os.utime(file, (tomorrow, tomorrow))
    now = [time.time()]

    def run_backwards() -> float:
        now[0] -= 60
        return now[0]

    opened = open_cache(path, allow_partial=True)
    monkeypatch.setattr(time, "time", run_backwards)
    assert run_ima(*make_words(path))[0] == 0
    assert require_whole_units(path, sound) == 6
    assert opened["norms/resid_post/mean"].sizes["sample"] == 2
    assert np.isfinite(opened["norms/resid_post/mean"]).all()
    assert verify_cache(path).ok
    assert snapshot(path) == sound


def test_an_unfinished_cache_names_the_command_that_finishes_it(
    run_ima: Any, write_store: Callable[..., Path], sound: dict[str, bytes]
) -> None:
    path = write_store(units=2)
    code, out, _ = run_ima("cache", "verify", path)
    assert code == 0
    assert "4 of 6 samples finished, 0 damaged pieces" in out
    assert run_ima(*find_command(out, "ima cache create"))[0] == 0
    assert snapshot(path) == sound
