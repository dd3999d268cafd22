"""Commands that write no cache: space, rights and memory that the system refuses them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ima.cli.faults import describe_refusal


def fill_disk(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


def test_a_command_on_a_full_disk_says_so_and_keeps_the_old_files(
    run_ima: Any, mount_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    disk, records = mount_disk("size=64k"), tmp_path / "run.claims.json"
    records.write_text("[]")
    words = ("claims", "collect", records, "--out", disk / "claims.json")
    words += ("--table", disk / "claims.md")
    assert run_ima(*words)[0] == 0
    before = {file.name: file.read_bytes() for file in disk.iterdir()}
    fill_disk(disk / "ballast")
    code, _, err = run_ima(*words)
    assert code == 1
    assert err.startswith("Error: No space left on device")
    assert "Free some space, then run the same command again." in err
    assert "fault of ima" not in err
    (disk / "ballast").unlink()
    assert {file.name: file.read_bytes() for file in disk.iterdir()} == before


def exhaust_torch() -> None:
    torch.empty(2**48, dtype=torch.uint8)


def exhaust_numpy() -> None:
    np.empty(2**48, dtype=np.uint8).fill(0)


@pytest.mark.parametrize("exhaust", [exhaust_torch, exhaust_numpy])
def test_a_command_without_memory_names_what_to_lower(
    run_ima: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exhaust: Callable[[], None]
) -> None:
    monkeypatch.setattr("ima.data.folder_check.check_data_folder", lambda *_, **__: exhaust())
    code, _, err = run_ima("data", "check", tmp_path)
    assert code == 1
    assert err.startswith("Error: Memory ran out: ")
    assert "fewer samples, a smaller batch size or a smaller model" in err


def test_other_errors_are_faults_of_ours() -> None:
    assert describe_refusal(RuntimeError("shapes do not fit")) is None
    assert describe_refusal(FileNotFoundError(2, "No such file or directory")) is None
