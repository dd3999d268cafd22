from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from ima.cache.store import locate_store, lock_store
from ima.errors import CacheLockedError


def test_every_array_has_core_codecs_only(finished: Path) -> None:
    numeric = {"bytes", "zstd", "crc32c", "sharding_indexed"}
    for file in finished.rglob("zarr.json"):
        node = json.loads(file.read_text())
        if node["node_type"] == "group":
            continue
        allowed = {*numeric, "vlen-utf8"} if node["data_type"] == "string" else numeric
        codecs = list(node["codecs"])
        for codec in codecs:
            codecs += codec.get("configuration", {}).get("codecs", [])
        names = [codec["name"] for codec in codecs]
        assert set(names) <= allowed, file
        assert names[-1] == "crc32c", file
        assert all(c["configuration"]["checksum"] for c in codecs if c["name"] == "zstd")
        if node["data_type"].startswith("float"):
            assert node["fill_value"] == "NaN"


def test_a_lock_is_held_by_one_writer_and_leaves_nothing(tmp_path: Path) -> None:
    location = locate_store(tmp_path / "new" / "a.zarr")
    with lock_store(location):
        with (
            pytest.raises(CacheLockedError, match="Another process is writing"),
            lock_store(location),
        ):
            pass
        # The refused writer has not taken the lock away.
        assert (tmp_path / "new" / "a.zarr.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_locks_nobody_out(tmp_path: Path) -> None:
    location, held = locate_store(tmp_path / "a.zarr"), tmp_path / "held"
    child = os.fork()
    if child == 0:
        with lock_store(location):
            held.touch()
            time.sleep(60)
        os._exit(0)
    while not held.exists():
        time.sleep(0.01)
    with pytest.raises(CacheLockedError), lock_store(location):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "a.zarr.lock").exists()
    with lock_store(location):
        pass
    assert list(tmp_path.iterdir()) == [held]
