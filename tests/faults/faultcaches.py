"""A sound cache made by the command line, one that was stopped, and a small disk."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tinycaches import MODEL, snapshot

from ima import cli
from ima.cache.provenance import parse_cache_layout
from ima.cache.reader import read_cache_attributes, read_done_mask
from ima.cache.store import locate_store

SAMPLES, UNIT = 6, 2


def make_words(path: Path | str, *more: str, dataset: str = "mini-image-caption") -> list[str]:
    """Return the arguments that make the cache of these tests."""
    words = ["cache", "create", "--model", MODEL, "--dataset", dataset, "--samples", str(SAMPLES)]
    words += ["--out", str(path), "--hook-points", "resid_post", "--keep-tokens", "3"]
    return [*words, "--batch-size", "2", "--unit", str(UNIT), *more]


def find_command(text: str, start: str) -> list[str]:
    """Return the arguments of the command of ours that a message names, on one line."""
    lines = [line for line in text.splitlines() if start in line]
    assert lines, f"no {start!r} in {text!r}"
    return shlex.split(lines[-1][lines[-1].index(start) :].partition(" — ")[0])[1:]


def require_refusal(code: int, err: str) -> None:
    """The command ended with an error of one message, and not with a fault of its own."""
    assert code == 1
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    assert "fault of ima" not in err


def require_whole_units(path: Path, sound: dict[str, bytes]) -> int:
    """Check that every file of the finished units is as it should be; return their samples."""
    location = locate_store(path)
    layout = parse_cache_layout(read_cache_attributes(location))
    done = read_done_mask(location)
    units = {unit for unit in range(layout.units) if done[layout.bounds(unit)[0]]}
    for array in layout.arrays():
        for index in array.list_file_indices():
            if array.dims[0] in ("sample", "unit") and index[0] in units:
                key = f"{array.path}/c/{'/'.join(map(str, index))}"
                assert (path / key).read_bytes() == sound[key], key
    return int(done.sum())


@pytest.fixture(scope="session")
def sound(tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of the cache that nothing disturbed."""
    path = tmp_path_factory.mktemp("sound") / "cache.zarr"
    with pytest.raises(SystemExit) as stop:
        cli.main(make_words(path))
    assert stop.value.code == 0
    return snapshot(path)


@pytest.fixture
def write_store(sound: dict[str, bytes], tmp_path: Path) -> Callable[..., Path]:
    """Write a copy of the sound cache, whole or with its first unit only."""

    def write(path: Path = tmp_path / "cache.zarr", *, units: int | None = None) -> Path:
        for key, content in sound.items():
            (path / key).parent.mkdir(parents=True, exist_ok=True)
            (path / key).write_bytes(content)
        layout = parse_cache_layout(read_cache_attributes(locate_store(path)))
        for array in layout.arrays() if units is not None else ():
            for index in array.list_file_indices():
                if array.dims[0] in ("sample", "unit") and index[0] >= units:
                    (path / f"{array.path}/c/{'/'.join(map(str, index))}").unlink()
        return path

    return write


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a disk of its own in memory, or change its options; skip without the right to."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = []

    def mount(options: str) -> Path:
        given = f"remount,{options}" if mounted else options
        words = ["mount", "-t", "tmpfs", "-o", given, "tmpfs", str(disk)]
        found = shutil.which("mount")
        if found is None or subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("mounting a disk takes the rights of root")
        mounted.append(disk)
        return disk

    yield mount
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)
