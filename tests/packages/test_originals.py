"""Originals from the hub of their authors, mocked at the wire by a server of this test."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ima.errors import PartError
from ima.files import read_json
from ima.packages import fetch_part, find_part, is_fetched

constants = pytest.importorskip("huggingface_hub.constants")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"\0" * 64,
    "pytorch_model.bin": b"a pickle",
    "onnx/model.onnx": b"another format",
    "README.md": b"# A model",
}


class Hub(BaseHTTPRequestHandler):
    """The few answers that a snapshot needs."""

    def do_GET(self):
        """Answer what the client asks."""
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/them/tiny"):
            siblings = [{"rfilename": name} for name in FILES]
            entries = [
                {"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in FILES.items()
            ]
            body = {"id": "them/tiny", "sha": COMMIT, "siblings": siblings}
            self._say(200, json.dumps(entries if "/tree/" in path else body).encode())
        elif path.startswith(f"/them/tiny/resolve/{COMMIT}/"):
            content = FILES[path.partition(f"{COMMIT}/")[2]]
            self._say(200, content, etag=hashlib.sha1(content).hexdigest())
        elif "gated" in path:
            self._say(403, b"{}", code="GatedRepo")
        else:
            self._say(404, b"{}", code="RepoNotFound")

    do_HEAD = do_GET

    def _say(self, status, body, *, etag=None, code=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        headers = {"X-Repo-Commit": COMMIT, "ETag": etag and f'"{etag}"', "X-Error-Code": code}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, and an empty cache of its client."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_original_has_another_name_and_other_digests(hub, tiny_part, shelf):
    part = replace(tiny_part, hub_id="them/tiny")
    folder = fetch_part(part, source="hub")
    assert folder == shelf / "tiny-hub" == find_part(part, source="hub")
    record = read_json(folder / "part.json")
    assert record["name"] == "tiny-hub"
    assert record["source"] == "hub"
    assert record["origin"] == {"hub_id": "them/tiny", "commit": COMMIT}
    # No pickles, no other formats.
    assert set(record["files"]) == {"config.json", "model.safetensors"}
    assert not is_fetched(part)


def test_a_gated_original_names_the_licence(hub, tiny_part, shelf):
    part = replace(tiny_part, hub_id="them/gated", licence="Terms")
    with pytest.raises(PartError, match=r"accepted its licence \(Terms\)"):
        fetch_part(part, source="hub")
    assert not (shelf / "tiny-hub").exists()


def test_an_original_that_vanished_names_the_mirror(hub, tiny_part, shelf):
    part = replace(tiny_part, hub_id="them/gone")
    with pytest.raises(PartError, match="HF_ENDPOINT=ADDRESS") as caught:
        fetch_part(part, source="hub")
    assert "them/gone, the original of part 'tiny'" in str(caught.value)
    assert "ima models fetch tiny" in str(caught.value)
    assert [p.name for p in shelf.iterdir()] == [".lock"]


def test_a_part_without_original_says_so(tiny_part):
    with pytest.raises(PartError, match=r"no original on a hub.*ima models fetch tiny$"):
        fetch_part(tiny_part, source="hub")
