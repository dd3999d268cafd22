"""Caches behind a URL: a bucket on a real S3 server, with faults, and a static file server."""

from __future__ import annotations

import logging
import pickle
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from tinybucket import KEY, SECRET, Bucket
from tinycaches import DAMAGEABLE, DAMAGEABLE_SETTINGS, snapshot

import ima
from ima.bench.synthetic_caches import write_synthetic_cache
from ima.cache import direct_reads, remote, remote_lock
from ima.cache.reader import describe_cache, list_cache_files
from ima.cache.remote import RemoteFolder
from ima.cache.store import StoreLocation, is_being_written, locate_store, lock_store
from ima.cache.verification import verify_cache
from ima.capture.writer import create_cache
from ima.errors import (
    CacheCorruptError,
    CacheError,
    CacheIncompleteError,
    CacheLockedError,
    CacheUnreachableError,
)
from ima.models.frozen import FrozenModel

SLOW_DOWN = (503, "SlowDown")


def read_all(location: StoreLocation) -> dict[str, bytes]:
    return {key: location.read(key) for key in location.sizes()}


def make(model: FrozenModel, url: str) -> Any:
    return create_cache(model, dataset=DAMAGEABLE, path=url, **DAMAGEABLE_SETTINGS)


def test_a_cache_in_a_bucket_has_the_bytes_of_a_local_one(
    bucket: Bucket, model: FrozenModel, whole: Path, files: dict[str, bytes]
) -> None:
    url = f"{bucket.url}/some/where/x.zarr"
    assert make(model, url) == url
    assert read_all(locate_store(url)) == files
    xr.testing.assert_identical(ima.open_cache(url).load(), ima.open_cache(whole).load())
    assert describe_cache(url)["bytes"] == sum(map(len, files.values()))
    report = verify_cache(url)
    assert report.ok
    assert report.files == len(files)
    # The lock is gone, and nothing lies beside the cache.
    assert not RemoteFolder(f"{bucket.url}/some/where").sizes().keys() - {
        f"x.zarr/{key}" for key in files
    }


def test_each_file_is_written_once_and_few_requests_open_a_cache(
    bucket: Bucket, model: FrozenModel, files: dict[str, bytes]
) -> None:
    url = f"{bucket.url}/x.zarr"
    make(model, url)
    written = [path for method, path in bucket.requests if method == "PUT"]
    once = [path for path in written if written.count(path) == 1]
    # Token states of two batches share a shard.
    assert {path.partition("x.zarr/")[2] for path in set(written) - set(once)} <= {
        key for key in files if key.startswith("tokens/")
    }
    bucket.requests.clear()
    ima.open_cache(url)
    asked = len(bucket.requests)
    coords = [array for array in _list_arrays(url) if array.values is not None]
    # The root; the list of marks of finished units, and one mark, because all are equal.
    assert asked == 1 + 1 + 1 + len(coords)


def test_requests_do_not_grow_with_the_units_but_for_the_shards_that_are_read(
    bucket: Bucket,
) -> None:
    url = f"{bucket.url}/x.zarr"
    layers, hidden, units = 9, 128, 5
    write_synthetic_cache(
        url, samples=32 * units, layers=layers, hidden=hidden, filled=("samples/*", "means/*")
    )
    coords = [array for array in _list_arrays(url) if array.values is not None]
    bucket.requests.clear()
    cache = ima.open_cache(url)
    assert len(bucket.requests) == 1 + 1 + 1 + len(coords)
    mean = cache["means/resid_post/mean"]
    bucket.requests.clear()
    first = mean.isel(layer=1).to_numpy()
    # Of each shard a layer and the index, which are too far apart for one request; then a look
    # whether the root is still the same, the first time with its bytes.
    assert len(bucket.requests) == 2 * units + 2
    for layer, more in ((0, units), (layers, units)):
        bucket.requests.clear()
        assert np.isfinite(mean.isel(layer=layer)).all()
        assert len(bucket.requests) == more + 1
    bucket.requests.clear()
    whole = mean.to_numpy()
    assert len(bucket.requests) == units + 1
    np.testing.assert_array_equal(whole[:, :, 1], first)
    bucket.requests.clear()
    assert len(set(cache["samples/id"].to_numpy())) == 32 * units
    assert len(bucket.requests) == units + 1


def test_requests_are_under_way_side_by_side(website: Any) -> None:
    address, folder, server = website
    write_synthetic_cache(
        folder / "x.zarr", samples=320, layers=2, hidden=8, filled=("samples/done", "means/*")
    )
    cache = ima.open_cache(f"{address}/x.zarr")
    server.delay = 0.1
    server.most_at_once = 0
    assert np.isfinite(cache["means/resid_post/mean"].isel(layer=1)).all()
    # All ten shards, where the machine is not too busy to send the requests within a tenth of a s.
    assert server.most_at_once >= 5


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_shard_in_a_bucket_is_never_read_as_numbers(
    bucket: Bucket, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_reads, "_SMALL_FILE_BYTES", 0)
    url, key = f"{bucket.url}/x.zarr", "means/resid_post/mean/c/1/0/0/0"
    write_synthetic_cache(
        url, samples=64, layers=4, hidden=8, filled=("samples/done", "means/*"), seed=3
    )
    location = locate_store(url)
    content = bytearray(location.read(key))
    if damage == "flip":
        content[2 * len(content) // 5 + 7] ^= 4
    else:
        del content[len(content) // 2 :]
    location.write(key, bytes(content))
    mean = ima.open_cache(url)["means/resid_post/mean"]
    with pytest.raises(
        CacheCorruptError, match=rf"Array 'means/resid_post/mean' of '{url}' is damaged: .*{key}"
    ):
        mean.isel(layer=2).load()
    if damage == "flip":
        assert np.isfinite(mean.isel(layer=0)).all()


@pytest.mark.parametrize("change", ["replaced", "removed", "copied anew"])
def test_a_reader_of_a_bucket_notices_that_its_cache_is_replaced(
    bucket: Bucket, change: str
) -> None:
    url = f"{bucket.url}/x.zarr"

    def write(seed: int, layers: int) -> None:
        write_synthetic_cache(
            url, samples=8, layers=layers, hidden=4, filled=("samples/done", "means/*"), seed=seed
        )

    write(0, 2)
    mean = ima.open_cache(url)["means/resid_post/mean"]
    before = mean[:4].to_numpy()
    if change == "copied anew":
        write(0, 2)
        np.testing.assert_array_equal(mean[:4], before)
        return
    if change == "replaced":
        write(1, 2)
    else:
        locate_store(url).delete("zarr.json")
    with pytest.raises(CacheError, match=r"was replaced or removed after it was opened\. Open it"):
        mean[:4].load()


def test_equal_files_of_a_store_whose_tags_are_no_digests_are_all_read() -> None:
    folder = RemoteFolder("memory://marks.zarr")
    for number in range(3):
        folder.write(f"c/{number}", b"same")
    assert folder.find_repeated(["c/0", "c/1", "c/2", "c/3"], folder="c") == {
        f"c/{number}": b"same" for number in range(3)
    }
    folder.remove()


def test_a_bucket_of_google(
    google_bucket: str, model: FrozenModel, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lock, "RENEWAL", 0.1)
    url = f"{google_bucket}/some/x.zarr"
    with lock_store(locate_store(url)):
        # Renewed by its version, of which Google has one where S3 has a tag.
        time.sleep(0.5)
        with pytest.raises(CacheLockedError):
            make(model, url)
    make(model, url)
    assert read_all(locate_store(url)) == files
    assert ima.open_cache(url)["means/resid_post/mean"].load().notnull().all()
    locate_store(url).remove()
    assert RemoteFolder(f"{google_bucket}/some").sizes() == {}


def _list_arrays(url: str) -> Any:
    from ima.cache.provenance import parse_cache_layout
    from ima.cache.reader import read_cache_attributes

    return parse_cache_layout(read_cache_attributes(locate_store(url))).arrays()


@pytest.mark.parametrize("fault", [(500, "InternalError"), SLOW_DOWN, "time-out", "lost answer"])
def test_a_request_that_fails_once_is_sent_again(
    bucket: Bucket,
    model: FrozenModel,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    fault: Any,
) -> None:
    monkeypatch.setattr(remote, "REQUEST_TIMEOUT", timedelta(seconds=0.6))
    seen: set[str] = set()

    def fail_first(method: str, path: str) -> Any:
        # Time-outs take time: not every file has one.
        chosen = (
            isinstance(fault, tuple) or "norms/resid_post/mean/" in path or path.endswith(".lock")
        )
        if not chosen or (method, path) in seen:
            return None
        seen.add((method, path))
        return fault

    bucket.break_with(fail_first)
    url = f"{bucket.url}/x.zarr"
    make(model, url)
    assert len(seen) > 3
    assert verify_cache(url).ok
    bucket.heal()
    assert read_all(locate_store(url)) == files


def test_a_store_that_fails_for_good_keeps_finished_units_and_says_how_to_continue(
    bucket: Bucket, model: FrozenModel, files: dict[str, bytes]
) -> None:
    url = f"{bucket.url}/x.zarr"
    bucket.break_with(
        lambda method, path: SLOW_DOWN if method == "PUT" and "samples/done/c/1" in path else None
    )
    with pytest.raises(CacheUnreachableError) as caught:
        make(model, url)
    text = str(caught.value)
    assert f"Cannot write samples/done/c/1 of '{url}': 503 Service Unavailable, 4 times." in text
    assert "2 of 4 samples are finished and kept. Continue with: ima cache create --model" in text
    assert f"--out {url}" in text
    bucket.heal()
    with pytest.raises(CacheIncompleteError, match="2 of 4 samples"):
        ima.open_cache(url)
    np.testing.assert_array_equal(
        ima.open_cache(url, allow_partial=True)["samples/id"], ["s0", "s1"]
    )
    bucket.requests.clear()
    make(model, url)
    # The finished unit is not written again.
    assert not [p for m, p in bucket.requests if m == "PUT" and p.endswith("samples/done/c/0")]
    assert read_all(locate_store(url)) == files


def test_a_store_that_never_answers_is_an_error_of_one_line(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.break_with(lambda method, path: (500, "InternalError"))
    url = f"{bucket.url}/x.zarr"
    for act in (ima.open_cache, describe_cache, verify_cache):
        with pytest.raises(CacheUnreachableError) as caught:
            act(url)
        assert str(caught.value).replace("look for", "read") == (
            f"Cannot read zarr.json of '{url}': 500 Internal Server Error, 4 times."
        )
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(CacheUnreachableError, match=r"zarr\.json of .*: no answer, 4 times\."):
        ima.open_cache(url)


def test_reading_later_names_the_file(bucket: Bucket, model: FrozenModel) -> None:
    url = f"{bucket.url}/x.zarr"
    make(model, url)
    mean = ima.open_cache(url)["means/resid_post/mean"]
    bucket.break_with(lambda method, path: SLOW_DOWN)
    with pytest.raises(CacheUnreachableError, match=r"read means/resid_post/mean/c/./.*503"):
        mean.load()
    bucket.heal()
    assert np.isfinite(mean.load()).all()


def test_a_bucket_that_lets_nobody_in_names_the_variables(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.break_with(lambda method, path: (403, "SignatureDoesNotMatch"))
    with pytest.raises(CacheUnreachableError) as caught:
        ima.open_cache(f"{bucket.url}/x.zarr")
    assert "403 Forbidden." in str(caught.value)
    assert "set there: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; known: " in str(caught.value)


def test_credentials_are_in_no_message_log_or_traceback(
    bucket: Bucket,
    model: FrozenModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import traceback

    monkeypatch.setenv("AWS_SESSION_TOKEN", "tinybucketsessiontoken")
    caplog.set_level(logging.DEBUG)
    url, shown = f"{bucket.url}/x.zarr", []
    faults = [(403, "SignatureDoesNotMatch"), (400, "Bad"), (500, "Bad"), "lost answer"]
    for fault in faults:
        bucket.break_with(lambda method, path, fault=fault: fault)
        for act in (ima.open_cache, verify_cache, lambda url: make(model, url)):
            with pytest.raises(CacheUnreachableError) as caught:
                act(url)
            shown.append("".join(traceback.format_exception(caught.value)))
    shown += [caplog.text, repr(locate_store(url)), str(locate_store(url).open_store())]
    for secret in (KEY, SECRET, "tinybucketsessiontoken"):
        assert not [text for text in shown if secret in text]


def test_another_process_opens_the_store_with_its_own_credentials(
    bucket: Bucket, model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket.url}/x.zarr"
    make(model, url)
    tree = ima.open_cache(url)
    sent = pickle.dumps(tree["means/resid_post/mean"])
    monkeypatch.setenv("HF_TOKEN", "hf_tinytokenofthetests")
    sent += pickle.dumps(locate_store("hf://datasets/them/caches/x.zarr").open_store())
    for secret in (KEY, SECRET, "hf_tinytokenofthetests"):
        assert secret.encode() not in sent
    xr.testing.assert_identical(pickle.loads(sent).load(), tree["means/resid_post/mean"].load())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://me:word@host/x.zarr", r"'https://…@host/x.zarr' holds a password"),
        ("https://host/x.zarr?signature=word", r"'https://host/x.zarr\?…' holds a password"),
        ("s3://key:word@bucket/x.zarr", r"AWS_SECRET_ACCESS_KEY"),
        ("ftp://host/x.zarr", r"protocol 'ftp'.*s3, gs, memory, https, http, hf"),
        ("s3://bucket", r"names no folder. Give one: s3://bucket/NAME.zarr"),
        ("hf://models/them/x", r"Write: hf://datasets/OWNER/NAME/FOLDER"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(CacheError, match=message) as caught:
        ima.open_cache(url)
    assert "word" not in str(caught.value).replace("password", "")


def test_without_the_extra_the_message_has_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CacheError, match=r"need the extra `remote`: pip install 'ima\[remote\]'"):
        ima.open_cache("s3://bucket/x.zarr")


def test_a_bucket_that_does_not_exist(bucket: Bucket, model: FrozenModel) -> None:
    with pytest.raises(CacheUnreachableError, match="there is no such bucket"):
        ima.open_cache(f"{bucket.url}-none/x.zarr")
    with pytest.raises(CacheUnreachableError, match="there is no such bucket"):
        make(model, f"{bucket.url}-none/x.zarr")


def test_one_writer_and_a_killed_one_locks_nobody_out(
    bucket: Bucket, model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lock, "RENEWAL", 0.2)
    # Stores say the time of a change in whole seconds: a shorter lease might seem to be over.
    monkeypatch.setattr(remote_lock, "LEASE", 2.0)
    url = f"{bucket.url}/x.zarr"
    first = remote_lock.LockObject(RemoteFolder(url))
    first.acquire()
    time.sleep(2.2)
    # It has renewed its lock all the time.
    with pytest.raises(CacheLockedError, match=r"process \d+ on .*sign of life [01] s ago"):
        make(model, url)
    # Killed: no sign of life any more, and the object stays.
    first._ended.set()
    first._thread.join()
    assert locate_store(url).remote.find("x.zarr.lock", beside=True) is not None
    assert is_being_written(locate_store(url))
    with pytest.raises(CacheLockedError):
        make(model, url)
    time.sleep(2.1)
    assert not is_being_written(locate_store(url))
    make(model, url)
    # The first one wakes up: it writes nothing more.
    with pytest.raises(CacheLockedError, match="has taken over writing"):
        first.confirm()


def test_a_lock_that_only_looks_old_is_not_taken_over(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_lock, "RENEWAL", 0.3)
    # A clock that is ahead: every lock looks old.
    monkeypatch.setattr(remote_lock, "LEASE", -60.0)
    folder = RemoteFolder(f"{bucket.url}/x.zarr")
    with (
        remote_lock.lock_remote_folder(folder),
        pytest.raises(CacheLockedError),
        remote_lock.lock_remote_folder(folder),
    ):
        pass


def test_a_writer_that_lost_its_lock_stops_and_removes_nothing(
    bucket: Bucket, model: FrozenModel, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ima.capture import writer

    url = f"{bucket.url}/x.zarr"
    write = writer.write_work_unit
    monkeypatch.setattr(remote_lock, "LEASE", 0.0)

    def lose(unit: int, **arguments: Any) -> None:
        # Somebody else replaces the lock while this unit is computed.
        RemoteFolder(url).write("x.zarr.lock", b'{"writer": "other"}', beside=True)
        write(unit, **arguments)

    monkeypatch.setattr(writer, "write_work_unit", lose)
    with pytest.raises(CacheLockedError, match="has taken over writing"):
        make(model, url)
    assert locate_store(url).remote.find("x.zarr.lock", beside=True) == b'{"writer": "other"}'


def test_two_writers_at_once(bucket: Bucket) -> None:
    location, held, errors = locate_store(f"{bucket.url}/x.zarr"), [], []
    start, refused = threading.Barrier(4), threading.Event()

    def write() -> None:
        start.wait()
        try:
            with lock_store(locate_store(location.address)):
                held.append(1)
                refused.wait(20)
        except CacheLockedError as error:
            errors.append(error)
            if len(errors) == 3:
                refused.set()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    assert len(errors) == 3


def test_a_static_file_server_is_read_and_not_written(
    website: Any, whole: Path, files: dict[str, bytes], model: FrozenModel
) -> None:
    address, folder, server = website
    shutil.copytree(whole, folder / "x.zarr")
    url = f"{address}/x.zarr"
    cache = ima.open_cache(url)
    # Opening asks for no data and for no list of files.
    asked = {path for _, path in server.requests}
    assert not {path for path in asked if path.endswith("/") or "/mean/c/" in path}
    xr.testing.assert_identical(cache.load(), ima.open_cache(whole).load())
    assert describe_cache(url)["bytes"] == sum(map(len, files.values()))
    assert verify_cache(url).files == len(files)
    # A finished cache needs no writing.
    assert make(model, url) == url
    with pytest.raises(CacheError, match=r"Cannot write a cache to .*its server takes no files"):
        make(model, f"{address}/y.zarr")
    (folder / "x.zarr/norms/resid_post/mean/c/1/0/0").unlink()
    damaged = ima.open_cache(url)
    assert np.isfinite(damaged["norms/resid_post/mean"][:2].load()).all()
    with pytest.raises(CacheCorruptError, match=r"lacks the file norms/resid_post/mean/c/1/0/0"):
        damaged["norms/resid_post/mean"].load()
    (problem,) = verify_cache(url).problems
    assert problem.file == "norms/resid_post/mean/c/1/0/0"
    with pytest.raises(CacheError, match="found nothing"):
        ima.open_cache(f"{address}/y.zarr")


def test_the_attributes_determine_all_files(finished: Path) -> None:
    listed = list_cache_files(ima.open_cache(finished).attrs)
    assert listed[-1] == "zarr.json"
    assert sorted(listed) == sorted(snapshot(finished))
