"""Disks that are full, limited, read-only or damaged."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faultcaches import find_command, make_words, require_refusal, require_whole_units
from tinycaches import snapshot
from zarr.storage import LocalStore

from ima.cache.reader import open_cache
from ima.cache.store import StoreLocation
from ima.cache.verification import verify_cache
from ima.errors import CacheCorruptError, CacheError

_PAGE = 4096

# One file of each kind, and what a message calls it.
KINDS = {
    "root metadata": "zarr.json",
    "metadata of a group": "means/resid_post/zarr.json",
    "metadata of an array": "norms/resid_post/mean/zarr.json",
    "chunk of numbers": "norms/resid_post/median/c/1/0/0",
    "chunk of texts": "samples/references/c/2",
    "shard of means": "means/resid_post/mean/c/2/0/0/0",
    "shard of token states": "tokens/resid_post/state/c/0/0/0",
    "coord": "means/resid_post/layer/c/0",
    "marks of finished samples": "samples/done/c/0",
}


def load_all(path: Path, *, partial: bool = False, only: str = "") -> dict[str, Any]:
    """Open a cache and load all its arrays, or one of them."""
    tree = open_cache(path, allow_partial=partial)
    return {
        f"{node.path}/{name}": variable.to_numpy()
        for node in tree.subtree
        for name, variable in node.variables.items()
        if only in ("", f"{node.path}/{name}")
    }


def test_a_full_disk_keeps_finished_units_and_the_same_command_continues(
    run_ima: Any, mount_disk: Any, sound: dict[str, bytes]
) -> None:
    # The last unit fits by half.
    pages = sum(
        -(-len(content) // _PAGE) * (0.5 if re.search(r"/c/2(/0)*$", key) else 1)
        for key, content in sound.items()
    )
    disk = mount_disk(f"size={int(pages) * _PAGE}")
    path = disk / "cache.zarr"
    code, _, err = run_ima(*make_words(path))
    require_refusal(code, err)
    assert f"Writing '{path}' stopped: No space left on device." in err
    assert re.search(rf"The whole cache takes about \d\.\d MB\. \d\.\d MB are free in {disk}", err)
    assert 0 < require_whole_units(path, sound) < 6
    assert verify_cache(path).ok
    mount_disk("size=64m")
    assert run_ima(*find_command(err, "ima cache create"))[0] == 0
    assert snapshot(path) == sound


def test_a_disk_that_is_full_at_once_is_left_as_it_was(run_ima: Any, mount_disk: Any) -> None:
    disk = mount_disk(f"size={4 * _PAGE}")
    code, _, err = run_ima(*make_words(disk / "cache.zarr"))
    require_refusal(code, err)
    assert "Cannot write a cache to" in err
    assert "Free some space, or take another disk." in err
    assert list(disk.iterdir()) == []


def refuse_after(monkeypatch: pytest.MonkeyPatch, limit: int, *, reason: int) -> None:
    """Make every store refuse writes after so many bytes."""
    written, write = [0], LocalStore.set

    async def set_limited(self: LocalStore, key: str, value: Any) -> None:
        written[0] += len(value)
        if written[0] > limit:
            raise OSError(reason, os.strerror(reason))
        await write(self, key, value)

    monkeypatch.setattr(LocalStore, "set", set_limited)


def test_a_store_that_fails_after_any_number_of_bytes_continues(
    run_ima: Any, sound: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = sum(len(content) for key, content in sound.items() if "/c/" in key)
    for number, limit in enumerate(np.random.default_rng(3).integers(1, total, 5).tolist()):
        path = tmp_path / f"{number}.zarr"
        with monkeypatch.context() as patch:
            refuse_after(patch, limit, reason=(errno.ENOSPC, errno.EDQUOT, errno.EIO)[number % 3])
            code, _, err = run_ima(*make_words(path))
        require_refusal(code, err)
        if path.exists():
            require_whole_units(path, sound)
            assert "Finished units are kept; continue with: ima cache create" in err
        else:
            assert "Cannot write a cache to" in err
        assert run_ima(*make_words(path))[0] == 0
        assert snapshot(path) == sound


def test_a_limit_on_the_size_of_files_is_named(run_ima: Any, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 2**10, before[1]))
    try:
        code, _, err = run_ima(*make_words(tmp_path / "cache.zarr"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    require_refusal(code, err)
    assert "File too large. The system limits the size of files here: raise it (ulimit -f)" in err
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_refused_and_can_still_be_read(
    run_ima: Any, mount_disk: Any, write_store: Callable[..., Path], sound: dict[str, bytes]
) -> None:
    path = write_store(mount_disk("size=64m") / "cache.zarr", units=1)
    mount_disk("ro")
    code, _, err = run_ima(*make_words(path))
    require_refusal(code, err)
    assert f"Cannot write a cache to '{path}': Read-only file system." in err
    assert "Give a path in a folder that you may write to." in err
    assert require_whole_units(path, sound) == 2
    assert load_all(path, partial=True)["/samples/id"].size == 2
    assert run_ima("cache", "verify", path)[0] == 0


def test_a_finished_cache_in_a_read_only_folder_needs_nothing(
    run_ima: Any, mount_disk: Any, write_store: Callable[..., Path], sound: dict[str, bytes]
) -> None:
    path = write_store(mount_disk("size=64m") / "cache.zarr")
    mount_disk("ro")
    assert run_ima(*make_words(path))[0] == 0
    assert snapshot(path) == sound
    code, _, err = run_ima(*make_words(path), "--overwrite")
    require_refusal(code, err)


def flip(path: Path, random: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [("flip", kind) for kind in KINDS]
    + [("cut", kind) for kind in KINDS if kind.startswith("shard")],
)
def test_damage_is_found_named_and_repaired_by_the_command_that_is_named(
    run_ima: Any, write_store: Callable[..., Path], sound: dict[str, bytes], kind: str, damage: str
) -> None:
    path, key = write_store(), KINDS[kind]
    if damage == "flip":
        flip(path / key, np.random.default_rng(len(kind)))
    else:
        (path / key).write_bytes(sound[key][: len(sound[key]) // 2])
    code, out, err = run_ima("cache", "verify", path)
    assert (code, err) == (1, "")
    assert f"(file {key})" in out
    assert {name: snapshot(path)[name] for name in sound if name != key} == {
        name: content for name, content in sound.items() if name != key
    }
    assert run_ima(*find_command(out, "ima cache verify"))[0] == 0
    assert snapshot(path) == sound


def test_the_index_of_a_shard_is_checked_too(
    run_ima: Any, write_store: Callable[..., Path], sound: dict[str, bytes]
) -> None:
    path, key = write_store(), KINDS["shard of means"]
    content = bytearray(sound[key])
    # The index is at the end: a place and a length for each chunk, then its checksum.
    content[-10] ^= 1
    (path / key).write_bytes(content)
    with pytest.raises(CacheCorruptError, match=r"Array 'means/resid_post/mean' .* is damaged"):
        load_all(path)
    code, out, _ = run_ima("cache", "verify", path)
    assert code == 1
    assert "all 4 chunks of the shard" in out
    assert run_ima(*find_command(out, "ima cache verify"))[0] == 0
    assert snapshot(path) == sound


def test_a_flipped_byte_in_any_file_is_never_read_as_a_number(
    write_store: Callable[..., Path], sound: dict[str, bytes]
) -> None:
    path, random = write_store(), np.random.default_rng(5)
    expected, refused = load_all(path), {}
    for key, content in sound.items():
        flip(path / key, random)
        array, chunk, _ = key.partition("/c/")
        try:
            found = load_all(path, only=f"/{array}" if chunk else "")
        except CacheError as error:
            refused[key] = str(error)
        else:
            # The root repeats what other metadata files hold.
            assert key.endswith("/zarr.json"), key
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values)
        (path / key).write_bytes(content)
    assert refused.keys() >= {"zarr.json", *(key for key in sound if "/c/" in key)}
    for message in refused.values():
        assert f"ima cache verify {path}" in message or "ima cache create" in message


def test_a_repair_that_stops_is_continued(
    run_ima: Any,
    write_store: Callable[..., Path],
    sound: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_store()
    flip(path / KINDS["chunk of numbers"], np.random.default_rng(0))
    with monkeypatch.context() as patch:
        refuse_after(patch, 100, reason=errno.ENOSPC)
        code, _, err = run_ima("cache", "verify", path, "--repair")
    require_refusal(code, err)
    assert f"continue with: ima cache verify {path} --repair" in err
    assert require_whole_units(path, sound) == 4
    code, out, _ = run_ima(*find_command(err, "ima cache verify"))
    assert code == 0
    assert run_ima(*find_command(out, "ima cache create"))[0] == 0
    assert snapshot(path) == sound


def test_a_cache_that_may_not_be_read_is_named(
    write_store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_store()

    def refuse(location: StoreLocation, key: str) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(StoreLocation, "find", refuse)
    with pytest.raises(CacheError, match=r"cannot be read: Permission denied\. Ask its owner"):
        open_cache(path)
