"""Servers of the tests: a bucket on a real S3 server, faults on the way to it, and plain files."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

#: Where `make bucket` installs moto's server, whose own dependencies do not agree with ours.
SERVER = Path(os.environ.get("IMA_BUCKET_SERVER", Path(__file__).parents[1] / ".venv" / "bucket"))
KEY, SECRET = "AKIATINYBUCKETKEY", "tinybucket/secret+word"


class _Quiet:
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class FaultyProxy(_Quiet, BaseHTTPRequestHandler):
    """Pass requests on to the S3 server, count them, and put faults in their way."""

    def _pass(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = unquote(self.path.partition("?")[0])
        server.requests.append((self.command, name))
        fault = server.fault(self.command, name)
        if fault == "time-out":
            time.sleep(server.delay)
            self.close_connection = True
            return
        if fault == "lost answer":
            # The request arrives, its answer does not.
            self._send_on(body)
            self.close_connection = True
            return
        if fault is not None:
            status, code = fault
            # What S3 servers quote in their refusals.
            text = f"<Error><Code>{code}</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>"
            self._answer(status, [("Content-Type", "application/xml")], text.encode())
            return
        self._answer(*self._send_on(body))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass

    def _send_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream)  # type: ignore[attr-defined]
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), content

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class GoogleProxy(FaultyProxy):
    """Google's dialect in front of the S3 server: paths, conditions and versions differ."""

    def _send_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        tags: dict[str, str] = self.server.tags  # type: ignore[attr-defined]
        path, mark, query = self.path.partition("?")
        self.path = f"{unquote(path)}{mark}{query}"
        scope = f"{KEY}/20260101/us-east-1/s3/aws4_request"
        signed = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
        del self.headers["Authorization"]
        self.headers["Authorization"] = signed
        version = self.headers.get("x-goog-if-generation-match")
        if version == "0":
            self.headers["If-None-Match"] = "*"
        elif version:
            self.headers["If-Match"] = tags.get(version, '"gone"')
        status, headers, content = super()._send_on(body)
        for tag in [value for name, value in headers if name.lower() == "etag"]:
            number = str(int(tag.strip('"')[:12], 16))
            tags[number] = tag
            headers.append(("x-goog-generation", number))
        return status, headers, content


class Bucket:
    """A bucket of one test.

    Attributes
    ----------
    url : str
        Where its caches go.
    requests : list of tuple
        Method and path of each request so far.
    fault : callable
        From method and path to None, a status and its code, "time-out" or "lost answer".
    """

    def __init__(self, server: ThreadingHTTPServer, url: str) -> None:
        self.server: Any = server
        self.url = url

    @property
    def requests(self) -> list[tuple[str, str]]:
        return self.server.requests

    def break_with(self, fault: Callable[[str, str], Any]) -> None:
        """Put faults in the way of requests from now on."""
        self.server.fault = fault

    def heal(self) -> None:
        """Let all requests through again."""
        self.server.fault = lambda method, path: None


class _PromptServer(ThreadingHTTPServer):
    """A server that sends what it writes at once.

    Head and body of an answer are written apart. Without this, the body waits until the client
    has acknowledged the head, which takes it 40 milliseconds.
    """

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address


def serve(handler: Any, **attributes: Any) -> ThreadingHTTPServer:
    """Start a server on this machine."""
    server = _PromptServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    for name, value in attributes.items():
        setattr(server, name, value)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def get_address(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real S3 server in a process and an environment of its own."""
    if not (SERVER / "moto").is_dir():
        pytest.skip(f"no S3 server in {SERVER}: install it with `make bucket`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("s3") / "server.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "PYTHONPATH": str(SERVER)},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(600):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                log.seek(0)
                raise RuntimeError(log.read())
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()
        log.close()


@pytest.fixture
def bucket(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A new bucket behind a proxy that can fail, with its credentials in the environment."""
    from datetime import timedelta

    from ima.cache import addresses, remote

    server = serve(
        FaultyProxy, upstream=s3_port, requests=[], fault=lambda method, path: None, delay=0.9
    )
    name = f"tiny-{uuid.uuid4().hex[:12]}"
    for variable in [name for group in addresses.CREDENTIALS.values() for name in group]:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", get_address(server))
    retry = {
        "max_retries": 3,
        "retry_timeout": timedelta(seconds=20),
        "backoff": {
            "init_backoff": timedelta(milliseconds=10),
            "max_backoff": timedelta(seconds=1),
        },
    }
    monkeypatch.setattr(remote, "RETRY", {**retry, "backoff": {**retry["backoff"], "base": 2}})
    connection = http.client.HTTPConnection("127.0.0.1", s3_port)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    connection.close()
    yield Bucket(server, f"s3://{name}")
    server.shutdown()
    server.server_close()


@pytest.fixture
def google_bucket(s3_port: int, monkeypatch: pytest.MonkeyPatch, bucket: Bucket) -> Iterator[str]:
    """The URL of a bucket that speaks Google's dialect, with its credentials in the environment."""
    server = serve(
        GoogleProxy, upstream=s3_port, requests=[], fault=lambda method, path: None, tags={}
    )
    key = {
        "gcs_base_url": get_address(server),
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(key))
    yield bucket.url.replace("s3://", "gs://")
    server.shutdown()
    server.server_close()


class PlainFiles(_Quiet, SimpleHTTPRequestHandler):
    """A static file server, which sends whole files only."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.requests.append((self.command, self.path))
        server.at_once += 1
        server.most_at_once = max(server.most_at_once, server.at_once)
        time.sleep(server.delay)
        self._send()
        server.at_once -= 1

    def _send(self) -> None:
        super().do_GET()


class RangedFiles(PlainFiles):
    """A static file server that also sends parts of files, as servers of sites do."""

    def _send(self) -> None:
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        file = Path(self.translate_path(self.path))
        if asked is None or not file.is_file():
            super()._send()
            return
        content = file.read_bytes()
        if asked[1]:
            start, stop = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1) + 1
        else:
            start, stop = max(0, len(content) - int(asked[2])), len(content)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(content[start:stop])


@pytest.fixture(params=[RangedFiles, PlainFiles], ids=["parts", "whole files"])
def website(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path, Any]]:
    """The address and the folder of a static file server, and the server."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = serve(
        partial(request.param, directory=str(folder)),
        requests=[],
        delay=0,
        at_once=0,
        most_at_once=0,
    )
    yield get_address(server), folder, server
    server.shutdown()
    server.server_close()
