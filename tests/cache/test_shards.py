from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from ima.cache.shards import find_divided_dim
from ima.cache.store import write_array_rows

#: Shape, chunks and shards of arrays, and the rows that are written one after another.
LAYOUTS = {
    "whole shards": ((8, 2, 6, 5), (4, 2, 1, 5), (4, 2, 6, 5), [(0, 4), (4, 8)]),
    "two shards deep": ((8, 2, 6, 5), (4, 2, 1, 5), (4, 2, 3, 5), [(0, 8)]),
    "several layers a chunk": ((8, 2, 6, 5), (4, 2, 2, 5), (4, 2, 6, 5), [(0, 8)]),
    "tokens across shards": ((12, 4, 3), (5, 1, 3), (5, 4, 3), [(0, 7), (7, 11), (11, 12)]),
    "few rows at the end": ((7, 2, 6, 5), (4, 2, 1, 5), (4, 2, 6, 5), [(0, 4), (4, 7)]),
    "few layers at the end": ((8, 2, 7, 5), (4, 2, 1, 5), (4, 2, 3, 5), [(0, 4), (4, 8)]),
}


def _make(folder: Path, layout: str, **settings: object) -> zarr.Group:
    shape, chunks, shards, _ = LAYOUTS[layout]
    group = zarr.open_group(folder, mode="w")
    given = {"compressors": [Crc32cCodec()], "fill_value": np.nan, "dtype": "float32"} | settings
    group.create_array("means", shape=shape, chunks=chunks, shards=shards, **given)
    return group


def _read(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_shards_hold_the_bytes_that_zarr_writes(tmp_path: Path, layout: str, dtype: str) -> None:
    shape, _, _, written = LAYOUTS[layout]
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    values[1] = np.nan
    ours, theirs = (_make(tmp_path / name, layout, dtype=dtype) for name in ("ours", "theirs"))
    array = theirs["means"].with_config({"write_empty_chunks": True})
    for start, stop in written:
        rows = slice(start, stop)
        write_array_rows(ours, path="means", index=rows, values=values[rows])
        array[rows] = values[rows]
    assert _read(tmp_path / "ours") == _read(tmp_path / "theirs")
    np.testing.assert_array_equal(ours["means"][:], values)


def test_whole_shards_do_not_pass_through_zarr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = _make(tmp_path, "whole shards")
    monkeypatch.setattr(zarr.Array, "__setitem__", lambda *_: pytest.fail("Zarr wrote"))
    write_array_rows(
        group, path="means", index=slice(0, 8), values=np.ones((8, 2, 6, 5), "float32")
    )
    assert (group["means"][:] == 1).all()


def test_rows_beyond_the_array_are_those_that_are_given(tmp_path: Path) -> None:
    group = _make(tmp_path, "few rows at the end")
    values = np.ones((3, 2, 6, 5), "float32")
    write_array_rows(group, path="means", index=slice(4, 8), values=values)
    np.testing.assert_array_equal(group["means"][4:], values)


def test_values_are_stored_in_the_dtype_of_the_array(tmp_path: Path) -> None:
    group = _make(tmp_path, "whole shards", dtype="float16")
    values = np.full((4, 2, 6, 5), 0.1, "float64")
    write_array_rows(group, path="means", index=slice(0, 4), values=values)
    assert (group["means"][:4] == np.float16(0.1)).all()


def test_a_transposed_view_is_stored_as_it_reads(tmp_path: Path) -> None:
    group = _make(tmp_path, "tokens across shards")
    values = np.arange(4 * 10 * 3, dtype="float32").reshape(4, 10, 3).transpose(1, 0, 2)
    write_array_rows(group, path="means", index=slice(0, 10), values=values)
    np.testing.assert_array_equal(group["means"][:10], values)


@pytest.mark.parametrize(
    "settings",
    [{"compressors": [ZstdCodec()]}, {"compressors": [ZstdCodec(), Crc32cCodec()]}],
    ids=["other codec", "two codecs"],
)
def test_other_codecs_are_left_to_zarr(tmp_path: Path, settings: dict[str, object]) -> None:
    assert find_divided_dim(_make(tmp_path, "whole shards", **settings)["means"]) is None


def test_a_store_in_memory_is_left_to_zarr() -> None:
    group = zarr.group()
    array = group.create_array(
        "means", shape=(4, 6), chunks=(4, 1), shards=(4, 6), compressors=[Crc32cCodec()], dtype="f4"
    )
    assert find_divided_dim(array) is None
