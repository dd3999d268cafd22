"""Token states reach the store whole, in any batches, and errors reach the caller."""

from __future__ import annotations

import numpy as np
import pytest

from ima.cache.schema import CacheLayout
from ima.cache.store import build_store_metadata, locate_store, write_store_metadata
from ima.capture import token_writer
from ima.capture.token_writer import TokenWriter

LAYERS, WIDTH, TOKENS = 3, 4, 50


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Return a store whose shards hold seven or eight tokens."""
    monkeypatch.setattr("ima.cache.schema._SHARD_BYTES", 7 * LAYERS * WIDTH * 2)
    monkeypatch.setattr("ima.cache.schema._INNER_CHUNK_BYTES", 1)
    layout = CacheLayout(
        samples=5, unit=5, layers=LAYERS, widths={"ln1": WIDTH}, tokens=TOKENS, loss=False
    )
    location = locate_store(tmp_path / "states.zarr")
    write_store_metadata(location, build_store_metadata(layout.arrays(), {}))
    return location.group("r+")


def make_states(tokens: int) -> np.ndarray:
    numbers = np.random.default_rng(0).standard_normal((LAYERS, tokens, WIDTH))
    return numbers.astype("float16")


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("size", [1, 5, 8, 23, 47])
def test_every_row_is_written_whatever_the_batches(group, first, size):
    states, sample = make_states(TOKENS - first), np.arange(TOKENS - first, dtype="int32")
    with TokenWriter(lambda: group, first=first) as writer:
        for start in range(0, TOKENS - first, size):
            rows = slice(start, start + size)
            writer.add({"ln1": states[:, rows]}, coords={"sample": sample[rows]})
    height = group["tokens/ln1/state"].shards[0]
    assert 7 <= height < 10
    stored = group["tokens/ln1/state"][first:]
    np.testing.assert_array_equal(stored, states.transpose(1, 0, 2))
    np.testing.assert_array_equal(group["tokens/ln1/sample"][first:], sample)


def test_a_shard_is_written_once(group, monkeypatch):
    written = []
    write = token_writer.write_array_rows

    def record(group, *, path, index, values):
        if path.endswith("/state"):
            written.append((index.start, index.stop))
        write(group, path=path, index=index, values=values)

    monkeypatch.setattr(token_writer, "write_array_rows", record)
    states = make_states(TOKENS)
    with TokenWriter(lambda: group, first=0) as writer:
        for start in range(0, TOKENS, 3):
            rows = slice(start, start + 3)
            coords = {"sample": np.arange(TOKENS, dtype="int32")[rows]}
            writer.add({"ln1": states[:, rows]}, coords=coords)
    height = group["tokens/ln1/state"].shards[0]
    assert [start % height for start, _ in written] == [0] * len(written)
    assert [stop for _, stop in written[:-1]] == [start for start, _ in written[1:]]


def test_what_fails_in_the_background_is_raised(group):
    def fail(*_args, **_kwargs):
        raise OSError("no space left")

    coords = {"sample": np.zeros(9, dtype="int32")}
    writer = TokenWriter(lambda: group, first=0, write_rows=fail)
    writer.add({"ln1": make_states(9)}, coords=coords)
    with pytest.raises(OSError, match="no space left"):
        writer.add({"ln1": make_states(9)}, coords=coords)
    with pytest.raises(OSError, match="no space left"), writer:
        pass


def test_an_error_of_the_caller_ends_the_writing(group):
    coords = {"sample": np.zeros(2, dtype="int32")}

    def stop():
        with TokenWriter(lambda: group, first=0) as writer:
            writer.add({"ln1": make_states(2)}, coords=coords)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        stop()
    # Rows that waited for their shard are left out: the unit is computed again.
    assert (group["tokens/ln1/state"][:2] != make_states(2).transpose(1, 0, 2)).all()
