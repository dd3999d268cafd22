"""Shards that units share: who writes which rows, and the same bytes as one writer leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinycaches import snapshot

from ima.cache import schema
from ima.cache.schema import CacheLayout
from ima.cache.store import (
    build_store_metadata,
    locate_store,
    write_array_rows,
    write_store_metadata,
)
from ima.capture.shared_shards import (
    PartialRows,
    list_shared_shards,
    name_part_file,
    write_shared_shard,
)
from ima.errors import CacheCorruptError

WIDTHS = {"ln1": 3, "resid_post": 5}


def make_layout(lengths: list[int], *, unit: int) -> tuple[CacheLayout, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    layout = CacheLayout(len(lengths), unit, layers=2, widths=WIDTHS, tokens=int(offsets[-1]))
    return layout, offsets


def set_heights(monkeypatch: pytest.MonkeyPatch, heights: tuple[int, int]) -> None:
    given = dict(zip(WIDTHS.values(), heights, strict=True))
    monkeypatch.setattr(
        schema,
        "count_tokens_per_shard",
        lambda tokens, *, layers, width, itemsize: min(tokens, given[width]),
    )


def make_store(path: Path, layout: CacheLayout):
    location = locate_store(path)
    write_store_metadata(location, build_store_metadata(layout.arrays(), {}))
    return location


def list_writes(layout: CacheLayout, offsets: np.ndarray):
    """Yield unit, path, rows and values as a writer does, in batches of one sample."""
    rng = np.random.default_rng(0)
    for unit in range(layout.units):
        for sample in range(*layout.bounds(unit)):
            rows = slice(int(offsets[sample]), int(offsets[sample + 1]))
            n = rows.stop - rows.start
            for hook_point, width in WIDTHS.items():
                path, layers = f"tokens/{hook_point}", 3 if hook_point == "resid_post" else 2
                yield unit, f"{path}/state", rows, rng.random((n, layers, width), "float32")
                yield unit, f"{path}/sample", rows, np.full(n, sample, "int32")
                for name in ("position", "modality", "token_id"):
                    yield unit, f"{path}/{name}", rows, np.arange(n)


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    unit=st.integers(1, 4),
    heights=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    order=st.randoms(use_true_random=False),
    finished=st.integers(0, 2),
)
def test_units_in_any_order_leave_the_bytes_of_one_writer(
    tmp_path_factory, lengths, unit, heights, order, finished
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        set_heights(patch, heights)
        layout, offsets = make_layout(lengths, unit=min(unit, len(lengths)))
        alone, shared = (make_store(folder / name, layout) for name in ("alone", "shared"))
        group, done = alone.group("r+"), range(min(finished, layout.units))
        shards = list_shared_shards(layout, offsets=offsets)
        writers = {
            number: PartialRows(number, [shard for shard in shards if number in shard.units])
            for number in range(layout.units)
        }
        writes = list(list_writes(layout, offsets))
        for _, path, rows, values in writes:
            write_array_rows(group, path=path, index=rows, values=values)
        group = shared.group("r+")
        # An earlier run has finished the first units by itself.
        for number, path, rows, values in writes:
            if number in done:
                write_array_rows(group, path=path, index=rows, values=values)
        others = [number for number in range(layout.units) if number not in done]
        order.shuffle(others)
        for chosen in others:
            for number, path, rows, values in writes:
                if number == chosen:
                    writers[number].write(group, path=path, index=rows, values=values)
            writers[chosen].save(shared)
        order.shuffle(shards)
        for shard in shards:
            write_shared_shard(shared, shard, finished=done)
        shared.remove_parts()
        assert snapshot(Path(shared.address)) == snapshot(Path(alone.address))


def test_no_file_is_written_by_two_units(tmp_path, monkeypatch) -> None:
    set_heights(monkeypatch, (4, 7))
    layout, offsets = make_layout([5, 3, 9, 2, 8], unit=2)
    location = make_store(tmp_path / "shared", layout)
    group, shards = location.group("r+"), list_shared_shards(layout, offsets=offsets)
    written: dict[str, int] = {}
    for unit in range(layout.units):
        rows = PartialRows(unit, [shard for shard in shards if unit in shard.units])
        for number, path, index, values in list_writes(layout, offsets):
            if number == unit:
                rows.write(group, path=path, index=index, values=values)
        rows.save(location)
        times = {key: (tmp_path / "shared" / key).stat().st_mtime_ns for key in location.sizes()}
        assert {key: times[key] for key in written} == written
        written = times
    assert {name_part_file(unit) for unit in range(3)} <= written.keys()


def test_rows_that_are_lost_or_damaged_are_an_error(tmp_path) -> None:
    layout, offsets = make_layout([5, 3], unit=1)
    location = make_store(tmp_path / "shared", layout)
    (shard,) = list_shared_shards(layout, offsets=offsets)[:1]
    with pytest.raises(CacheCorruptError, match=r"\.parts/0\.npz .*Remove this file; the same"):
        write_shared_shard(location, shard, finished=())
    location.write(name_part_file(0), b"no zip")
    with pytest.raises(CacheCorruptError, match=r"\.parts/0\.npz"):
        write_shared_shard(location, shard, finished=())


def test_a_cache_without_tokens_shares_nothing() -> None:
    layout = CacheLayout(4, 2, layers=1, widths={"ln1": 8})
    assert list_shared_shards(layout, offsets=np.zeros(5, int)) == []
