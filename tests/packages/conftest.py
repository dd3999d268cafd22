"""Fixtures of the parts' tests: a shelf of its own, and a registry whose clients are planted."""

from __future__ import annotations

import pytest
from tinyparts import Registry, describe, digest, make_tarball, make_wheel

from ima.packages import PackageMember, Part, clients

CONVERSION = "tinyconversion"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty folder of parts."""
    root = tmp_path / "parts"
    monkeypatch.setenv("IMA_PARTS", str(root))
    return root


@pytest.fixture
def registry(tmp_path, monkeypatch, shelf):
    """A registry of this test, in place of pip's and npm's."""
    folder = tmp_path / "registry"
    folder.mkdir()
    planted = Registry(folder)
    monkeypatch.setattr(clients, "run_pip", planted.bring)
    monkeypatch.setattr(clients, "run_npm", planted.bring)
    return planted


@pytest.fixture
def tiny_part(registry, tmp_path, monkeypatch):
    """A part of a wheel and a tarball, whose conversion joins two members."""
    (tmp_path / f"{CONVERSION}.py").write_text(
        "def convert(members, folder):\n"
        "    text = members['tiny/weights.txt'].read_text() + members['icons'].read_text()\n"
        "    (folder / 'inner').mkdir()\n"
        "    (folder / 'inner' / 'joined.txt').write_text(text)\n"
        "def fail(members, folder):\n"
        "    (folder / 'half.txt').write_text('half')\n"
        "    raise ValueError('odd weights')\n"
        "def fill(members, folder):\n"
        "    (folder / 'half.txt').write_text('half')\n"
        "    raise OSError(28, 'No space left on device')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    wheel = make_wheel(registry.folder / "tiny-1.0-py3-none-any.whl", {"tiny/weights.txt": b"12"})
    tarball = make_tarball(registry.folder / "art-tiny-2.0.tgz", {"icons.json": b"{}"})
    return Part(
        name="tiny",
        kind="model",
        description="a tiny model",
        made_by="us",
        licence="MIT",
        archives=(
            describe(wheel, package="tiny"),
            describe(tarball, package="@art/tiny", version="2.0"),
        ),
        members=(
            PackageMember("tiny/weights.txt", 2, digest(b"12"), package="tiny"),
            PackageMember("package/icons.json", 2, digest(b"{}"), "@art/tiny", name="icons"),
        ),
        convert=f"{CONVERSION}:convert",
        fetched_size=10,
    )
