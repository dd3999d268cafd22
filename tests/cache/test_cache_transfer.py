"""Copies of caches: to a bucket and the hub and back, stopped, damaged and refused."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from functools import partial as prepare
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import xarray as xr
import zarr
from tinybucket import Bucket, get_address, serve
from tinycaches import DAMAGEABLE, DAMAGEABLE_SETTINGS, snapshot

import ima
from ima.cache.reader import list_cache_files
from ima.cache.remote import RemoteFolder
from ima.cache.schema import is_cache_file
from ima.cache.store import locate_store
from ima.cache.transfer import pull_cache, push_cache
from ima.capture.writer import create_cache
from ima.errors import (
    CacheCorruptError,
    CacheDifferentError,
    CacheError,
    CacheIncompleteError,
    CacheUnreachableError,
)
from ima.models.frozen import FrozenModel

TOKEN = "hf_tinytokenofthetests"


@pytest.fixture(scope="module")
def other(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another small cache of the same samples: some files are the same, some have other names."""
    path = tmp_path_factory.mktemp("caches") / "other.zarr"
    settings = {**DAMAGEABLE_SETTINGS, "hook_points": ["attn_out"]}
    create_cache(model, dataset=DAMAGEABLE, path=path, **settings)
    return path


def list_puts(bucket: Bucket) -> list[str]:
    return [path.partition("x.zarr/")[2] for method, path in bucket.requests if method == "PUT"]


def test_there_and_back_every_byte_is_the_same(
    bucket: Bucket, whole: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    url, back = f"{bucket.url}/x.zarr", tmp_path / "back.zarr"
    pushed = push_cache(whole, target=url)
    assert (pushed.files, pushed.copied) == (len(files), len(files))
    assert pushed.bytes == sum(map(len, files.values()))
    # The root comes last: until then there is no cache.
    assert [key for key in list_puts(bucket) if key][-1] == "zarr.json"
    pulled = pull_cache(url, path=back)
    assert pulled.copied == len(files)
    assert snapshot(back) == files
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("back.zarr.")] == [
        "back.zarr.sha256"
    ]


def test_other_programs_check_the_digests(whole: Path, tmp_path: Path) -> None:
    push_cache(whole, target=tmp_path / "shared" / "x.zarr")
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "x.zarr.sha256"],
        cwd=tmp_path / "shared",
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_stopped_push_continues(bucket: Bucket, whole: Path, files: dict[str, bytes]) -> None:
    url = f"{bucket.url}/x.zarr"
    bucket.break_with(
        lambda method, path: (503, "SlowDown") if method == "PUT" and "/norms/" in path else None
    )
    with pytest.raises(CacheUnreachableError) as caught:
        push_cache(whole, target=url)
    text = str(caught.value)
    assert f"of '{url}': 503 Service Unavailable, 4 times." in text
    assert f"Continue with: ima cache push {whole} {url}" in text
    there = set(RemoteFolder(url).sizes())
    said = int(text.partition(f" of {len(files)} files are at")[0].rpartition(" ")[2])
    assert 0 < said <= len(there) < len(files)
    with pytest.raises(CacheError, match="No cache at"):
        ima.open_cache(url)
    bucket.heal()
    bucket.requests.clear()
    copy = push_cache(whole, target=url)
    assert copy.copied == len(files) - len(there)
    assert not there & set(list_puts(bucket))
    # Digests of the store say what is there: nothing but the lists is read back.
    read = {path for method, path in bucket.requests if method == "GET" and "/x.zarr/" in path}
    assert not read
    xr.testing.assert_identical(ima.open_cache(url).load(), ima.open_cache(whole).load())
    assert push_cache(whole, target=url).copied == 0


def test_a_stopped_pull_continues(
    bucket: Bucket, whole: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    url, back = f"{bucket.url}/x.zarr", tmp_path / "back.zarr"
    push_cache(whole, target=url)
    bucket.break_with(
        lambda method, path: (500, "InternalError") if path.endswith("n_textual/c/1") else None
    )
    with pytest.raises(CacheUnreachableError, match=f"Continue with: ima cache pull {url} {back}"):
        pull_cache(url, path=back)
    there = set(snapshot(back))
    assert 0 < len(there) < len(files)
    assert "zarr.json" not in there
    bucket.heal()
    bucket.requests.clear()
    assert pull_cache(url, path=back).copied == len(files) - len(there)
    read = {path.partition("x.zarr/")[2] for _, path in bucket.requests if "x.zarr/" in path}
    # Opening looks at the root and at what is done; nothing else comes twice.
    assert {key for key in read & there if "samples/done" not in key} == set()
    assert snapshot(back) == files


def test_a_killed_copy_continues_and_removes_only_what_it_had_begun(
    whole: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    target = tmp_path / "x.zarr"
    for key in ("samples/id/c/0", "zarr.json"):
        begun = target / f"{key}.my-host-1-2.partial"
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.write_bytes(files[key][:9])
    (target / "film.partial").write_text("mine")
    with pytest.raises(CacheDifferentError, match=r"no part of a cache, for example film\.partial"):
        push_cache(whole, target=target, overwrite=True)
    assert len(snapshot(target)) == 3
    (target / "film.partial").unlink()
    push_cache(whole, target=target)
    assert snapshot(target) == files


def test_bytes_that_changed_on_the_way_are_refused(
    bucket: Bucket, whole: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    url, key = f"{bucket.url}/x.zarr", "norms/resid_post/mean/c/1/0/0"
    push_cache(whole, target=url)
    RemoteFolder(url).write(key, files[key][:-1] + b"?")
    with pytest.raises(CacheCorruptError, match=rf"{key} of .* does not have the digest"):
        pull_cache(url, path=tmp_path / "back.zarr")
    with pytest.raises(CacheError):
        ima.open_cache(tmp_path / "back.zarr")
    # A push finds what differs, and only this.
    assert push_cache(whole, target=url).copied == 1
    pull_cache(url, path=tmp_path / "back.zarr")
    assert snapshot(tmp_path / "back.zarr") == files


def test_without_a_list_of_digests_the_caches_own_checksums_count(
    website: Any, whole: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    address, folder, _ = website
    site = Path(shutil.copytree(whole, folder / "x.zarr"))
    pull_cache(f"{address}/x.zarr", path=tmp_path / "back.zarr")
    assert snapshot(tmp_path / "back.zarr") == files
    chunk = site / "norms/resid_post/mean/c/1/0/0"
    chunk.write_bytes(files["norms/resid_post/mean/c/1/0/0"][:-1] + b"?")
    with pytest.raises(CacheCorruptError, match="1 damaged pieces, the first: group"):
        pull_cache(f"{address}/x.zarr", path=tmp_path / "other.zarr")
    with pytest.raises(CacheError, match="No cache at"):
        ima.open_cache(tmp_path / "other.zarr")


def test_what_is_not_copied(
    whole: Path, partial: Path, copy: Path, tmp_path: Path, files: dict[str, bytes]
) -> None:
    target = tmp_path / "target.zarr"
    with pytest.raises(CacheIncompleteError, match=r"3 of 7 samples\. Only a finished cache"):
        push_cache(partial, target=target)
    (copy / "samples/id/c/0").write_bytes(b"")
    with pytest.raises(CacheCorruptError, match=r"before you copy it: .* --repair"):
        push_cache(copy, target=target)
    assert not target.exists()
    with pytest.raises(CacheError, match="its server takes no files"):
        push_cache(whole, target="https://host.example/x.zarr")
    target.mkdir()
    (target / "letters.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(CacheDifferentError, match=r"letters\.txt\. Give .*/whole\.zarr"):
            push_cache(whole, target=target, overwrite=overwrite)
        with pytest.raises(CacheDifferentError, match="is a file, and a cache is a folder"):
            push_cache(whole, target=target / "letters.txt", overwrite=overwrite)
    assert snapshot(target) == {"letters.txt": b"mine"}


def test_what_is_no_part_of_a_cache_is_never_deleted(
    whole: Path, other: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "caches"
    for name, source in {"mine.zarr": whole, "other.zarr": other}.items():
        shutil.copytree(source, folder / name)
    before = snapshot(tmp_path)
    # A cache's folder as the target: its caches would be lost.
    with pytest.raises(CacheDifferentError, match="no part of a cache, for example"):
        push_cache(whole, target=folder, overwrite=True)
    with pytest.raises(CacheDifferentError, match="no part of a cache, for example"):
        pull_cache(whole, path=folder, overwrite=True)
    mine = folder / "mine.zarr"
    for target in (folder, mine, mine / "inside.zarr"):
        for copy in (prepare(push_cache, target=target), prepare(pull_cache, path=target)):
            with pytest.raises(CacheDifferentError, match=r"holds|is the same place as"):
                copy(mine, overwrite=True)
    assert snapshot(tmp_path) == before
    # Another store of Zarr is not a cache.
    zarr.open_group(tmp_path / "foreign.zarr", mode="w", attributes={"mine": True})
    with pytest.raises(CacheError, match="not a cache of ima"):
        push_cache(whole, target=tmp_path / "foreign.zarr", overwrite=True)
    # What a stopped copy of another cache left is replaced.
    (folder / "other.zarr" / "zarr.json").unlink()
    with pytest.raises(CacheDifferentError, match="a part of another cache, for example means/"):
        push_cache(whole, target=folder / "other.zarr")
    push_cache(whole, target=folder / "other.zarr", overwrite=True)
    assert snapshot(folder / "other.zarr") == snapshot(whole)


def test_the_files_of_a_cache_have_names_of_their_own(finished: Path) -> None:
    assert [key for key in snapshot(finished) if not is_cache_file(key)] == []
    for key in ("thesis.tex", "mine.zarr/means/resid_post/mean/c/0", "means/notes.txt", "c/0", ""):
        assert not is_cache_file(key)


def test_another_cache_is_replaced_only_on_demand(
    bucket: Bucket, whole: Path, other: Path, files: dict[str, bytes]
) -> None:
    url = f"{bucket.url}/x.zarr"
    push_cache(other, target=url)
    with pytest.raises(CacheDifferentError, match=r"holds another cache.*--overwrite"):
        push_cache(whole, target=url)
    push_cache(whole, target=url, overwrite=True)
    location = locate_store(url)
    assert {key: location.read(key) for key in location.sizes()} == files


class Hub(BaseHTTPRequestHandler):
    """What a data set of the hub answers: its tree, its files, and commits."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server, path = self.server, unquote(self.path.partition("?")[0])
        self.note_token()
        if "/tree/main/" in path:
            folder = path.partition("/tree/main/")[2]
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": get_blob_id(content)}
                for name, content in server.files.items()
                if name.startswith(f"{folder}/")
            ]
            if entries:
                self.answer(200, json.dumps(entries).encode())
            else:
                self.answer(404, b"{}", code="EntryNotFound")
        elif path.startswith("/api/datasets/them/caches"):
            self.answer(200, json.dumps({"id": "them/caches", "sha": server.head}).encode())
        elif path.startswith("/datasets/them/caches/resolve/main/"):
            content = server.files.get(path.partition("/main/")[2])
            self.answer(*((404, b"") if content is None else (200, content)))
        else:
            self.answer(404, b"{}", code="RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        server, path = self.server, self.path
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.note_token()
        if path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            told = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in asked
            ]
            self.answer(200, json.dumps({"files": told}).encode())
            return
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if server.busy or header["parentCommit"] != server.head:
            self.answer(412, b'{"error": "the branch has moved"}')
            return
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                server.files[value["path"]] = base64.b64decode(value["content"])
            else:
                del server.files[value["path"]]
        server.commits.append(header["summary"])
        server.head = hashlib.sha1(body).hexdigest()
        url = f"{get_address(server)}/datasets/them/caches/commit/{server.head}"
        done = {"commitUrl": url, "commitOid": server.head, "success": True}
        self.answer(200, json.dumps(done).encode())

    def note_token(self) -> None:
        # The client asks the hub for things of its own, too.
        if "/datasets/" in self.path:
            self.server.tokens.add(self.headers.get("Authorization"))

    def answer(self, status: int, body: bytes, code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if code and status == 404:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def get_blob_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A hub on this machine, a token of the environment, and one that a log-in has stored."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = serve(Hub, files={}, commits=[], tokens=set(), head="0" * 40, busy=False)
    monkeypatch.setattr(constants, "ENDPOINT", get_address(server))
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", get_address(server))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (tmp_path / "token").write_text("hf_storedbyalogin")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


HUB_URL = "hf://datasets/them/caches/small/x.zarr"


def test_the_hubs_client_reads_the_files_of_a_local_cache_by_itself(
    hub: Any, whole: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    real, given = huggingface_hub.CommitOperationAdd, []

    def note(path_in_repo: str, path_or_fileobj: Any) -> Any:
        given.append(path_or_fileobj)
        return real(path_in_repo, path_or_fileobj)

    monkeypatch.setattr(huggingface_hub, "CommitOperationAdd", note)
    push_cache(whole, target=HUB_URL)
    # The list of digests is made here; everything else stays on the disk until it is sent.
    assert sorted(given[:-1]) == sorted(whole / key for key in files)
    assert isinstance(given[-1], bytes)


def test_a_data_set_of_the_hub_gets_one_commit_and_is_read(
    hub: Any, whole: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    pushed = push_cache(whole, target=HUB_URL)
    assert pushed.copied == len(files)
    assert hub.commits == ["Add the cache x.zarr"]
    held = {name.removeprefix("small/"): content for name, content in hub.files.items()}
    digests = held.pop("x.zarr.sha256").decode()
    assert held == {f"x.zarr/{key}": content for key, content in files.items()}
    assert len(digests.splitlines()) == len(files)
    xr.testing.assert_identical(ima.open_cache(HUB_URL).load(), ima.open_cache(whole).load())
    assert pull_cache(HUB_URL, path=tmp_path / "back.zarr").copied == len(files)
    assert snapshot(tmp_path / "back.zarr") == files
    # What is there and equal makes no commit.
    assert push_cache(whole, target=HUB_URL).copied == 0
    assert len(hub.commits) == 1
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_only_what_differs_goes_to_the_hub(
    hub: Any, whole: Path, other: Path, files: dict[str, bytes]
) -> None:
    push_cache(other, target=HUB_URL)
    with pytest.raises(CacheDifferentError, match=r"holds something else.*--overwrite"):
        push_cache(whole, target=HUB_URL)
    copied = push_cache(whole, target=HUB_URL, overwrite=True).copied
    assert 0 < copied < len(files)
    held = {k.removeprefix("small/x.zarr/"): v for k, v in hub.files.items() if "sha256" not in k}
    assert held == files
    assert len(hub.commits) == 2


def test_the_hub_refuses_or_does_not_answer(
    hub: Any, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.busy = True
    with pytest.raises(CacheUnreachableError) as caught:
        push_cache(whole, target=HUB_URL)
    assert "Nothing was committed" in str(caught.value)
    assert f"Continue with: ima cache push {whole} {HUB_URL}" in str(caught.value)
    assert hub.files == {}
    with pytest.raises(CacheUnreachableError, match="Make the data set on the hub first"):
        push_cache(whole, target="hf://datasets/them/none/x.zarr")
    # Only the environment gives a token, not an earlier log-in.
    hub.tokens.clear()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CacheUnreachableError):
        push_cache(whole, target=HUB_URL)
    assert hub.tokens == {None}


def test_what_is_copied_is_what_the_cache_consists_of(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "x.zarr")
    (tmp_path / "x.zarr/notes.txt").write_text("mine")
    push_cache(tmp_path / "x.zarr", target=tmp_path / "y.zarr")
    assert sorted(snapshot(tmp_path / "y.zarr")) == sorted(
        list_cache_files(ima.open_cache(whole).attrs)
    )
