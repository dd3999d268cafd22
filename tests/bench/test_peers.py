from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ima.bench import peers
from ima.bench.records import BenchRecord
from ima.errors import ModelError, PartAbsentError, UnknownNameError

RECORD = BenchRecord("library: a 1.0, cache", "tiny", 0.2, "s", 1.5, None, 7, "cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_BENCH_PEERS", str(tmp_path))
    return tmp_path


def test_a_library_that_is_not_installed_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("IMA_BENCH_PEERS", str(tmp_path / "absent"))
    with pytest.raises(PartAbsentError, match="make bench-peers"):
        peers.benchmark_peer("nnsight")
    with pytest.raises(UnknownNameError, match="Unknown library 'x'"):
        peers.benchmark_peer("x")


def test_records_come_from_a_process_that_finds_the_libraries(folder):
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if '-m' in sys.orig_argv:\n"
        "    print('a library prints')\n"
        f"    print({json.dumps([asdict(RECORD)])!r})\n"
        "    sys.stdout.flush()\n"
        "    os._exit(0)\n"
    )
    assert peers.benchmark_peer("nnsight") == [RECORD]


def test_a_library_that_fails_says_so(folder):
    (folder / "nnsight.py").write_text("raise RuntimeError('made for another torch')")
    with pytest.raises(
        ModelError, match=r"'nnsight' failed: .*made for another torch.*bench-peers"
    ):
        peers.benchmark_peer("nnsight", shape="tiny", repeats=1)


def test_ours_is_compared_with_what_transformers_returns():
    plain, ours = peers.time_peer("transformers", shape="tiny", threads=1, repeats=1)
    assert plain.name.startswith(f"{peers.PEER_PREFIX}transformers ")
    assert (plain.limit, plain.against) == (None, "forward pass of the decoder")
    assert (ours.limit, ours.against) == (1.05, plain.name)


def test_a_library_with_other_states_is_refused(monkeypatch):
    peer = peers.PEERS["transformers"]

    def make(model, batch, folder):
        run = peer.make(model, batch, folder)
        return replace(run, read=lambda states: {("resid_post", 1): states[2]})

    monkeypatch.setitem(peers.PEERS, "transformers", replace(peer, make=make))
    with pytest.raises(ModelError, match=r"other states .* 'resid_post', layer 1"):
        peers.time_peer("transformers", shape="tiny", threads=1, repeats=1)


def test_the_libraries_share_our_packages():
    root = Path(__file__).parents[2]
    ours, theirs = (
        dict(line.split("==") for line in (root / name).read_text(encoding="utf-8").split())
        for name in ("constraints.txt", "ima/bench/peers.txt")
    )
    assert {"torch", "transformers"} <= set(ours)
    assert not set(ours) & set(theirs)
    assert set(peers.PEERS) - set(theirs) == {"transformers"}


@pytest.mark.slow
@pytest.mark.parametrize("name", peers.PEERS)
def test_installed_libraries_return_the_same_states(name):
    if not peers.find_peers_folder().is_dir():
        pytest.skip("make bench-peers")
    plain, ours = peers.benchmark_peer(name, shape="tiny", repeats=1)
    assert min(plain.ratio, ours.ratio) > 0
