from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from tinycaches import snapshot
from zarr.codecs import Crc32cCodec, ShardingCodec, ZstdCodec

import ima
from ima.cache import direct_reads, remote
from ima.cache.direct_reads import DirectArray, LostFileError, read_selection
from ima.cache.direct_tree import open_direct_tree
from ima.cache.store import StoreLocation, locate_store
from ima.cache.stored_arrays import StoredArray
from ima.errors import CacheCorruptError

ALL = slice(None)
CHECKED: dict[str, Any] = {"compressors": [Crc32cCodec()]}
#: Shape, and what is given to Zarr.
LAYOUTS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "shards of layers": ((8, 2, 6, 5), {"chunks": (4, 2, 1, 5), "shards": (4, 2, 6, 5)} | CHECKED),
    "shards with padding": (
        (7, 2, 7, 5),
        {"chunks": (4, 2, 2, 5), "shards": (4, 2, 4, 5)} | CHECKED,
    ),
    "shards divided twice": ((9, 6, 3), {"chunks": (2, 3, 3), "shards": (4, 6, 3)} | CHECKED),
    "chunks": ((7, 2, 6), {"chunks": (3, 2, 6)} | CHECKED),
    "compressed": (
        (7, 5),
        {"chunks": (3, 5), "dtype": "int32", "compressors": [ZstdCodec(), Crc32cCodec()]},
    ),
    "marks": ((7,), {"chunks": 3, "dtype": "bool", "compressors": [ZstdCodec(), Crc32cCodec()]}),
    "texts": ((7,), {"chunks": 3, "dtype": "string", "compressors": [ZstdCodec(), Crc32cCodec()]}),
}


def make(folder: Path, layout: str, **given: Any) -> tuple[Any, StoredArray | None, StoreLocation]:
    shape, settings = LAYOUTS[layout]
    settings = {"dtype": "float32"} | settings | given
    array = zarr.open_group(folder, mode="w").create_array(
        "a", shape=shape, dimension_names=[f"d{i}" for i in range(len(shape))], **settings
    )
    values: Any = np.random.default_rng(0).integers(0, 90, shape)
    if settings["dtype"] == "string":
        values = np.array([f"«{value}»" for value in values], dtype=object)
    array.with_config({"write_empty_chunks": True})[...] = values.astype(array.dtype)
    return array, parse(folder), locate_store(folder)


def parse(folder: Path) -> StoredArray | None:
    return StoredArray.parse("a", json.loads((folder / "a/zarr.json").read_text()))


def draw_selection(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Any, ...]:
    """Draw what xarray's adapter passes on: indices, ranges with positive steps, sorted lists."""
    selection: list[Any] = []
    for size in shape:
        kind = rng.integers(5)
        start, stop = sorted(rng.integers(0, size + 1, 2).tolist())
        lists = np.sort(rng.integers(0, size, rng.integers(0, 6)))
        choice = (ALL, int(rng.integers(size)), slice(start, stop, 1), slice(start, stop, 2), lists)
        selection.append(choice[kind])
    return tuple(selection)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_selection_is_what_zarr_reads(tmp_path: Path, layout: str) -> None:
    array, stored, location = make(tmp_path, layout)
    assert stored is not None
    values, rng = array[...], np.random.default_rng(1)
    for _ in range(200):
        selection = draw_selection(stored.shape, rng)
        found = read_selection(stored, selection, location=location, is_complete=True)
        arrays = [np.arange(size)[each] for each, size in zip(selection, stored.shape, strict=True)]
        expected = values[np.ix_(*map(np.atleast_1d, arrays))].reshape(found.shape)
        assert found.shape == tuple(len(each) for each in arrays if each.ndim)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, expected, err_msg=str(selection))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_indexing_through_xarray_is_that_of_numpy(tmp_path: Path, layout: str) -> None:
    array, stored, location = make(tmp_path, layout)
    assert stored is not None
    direct = DirectArray(stored, location=location, is_complete=True)
    lazy = xr.Variable(stored.dims, xr.core.indexing.LazilyIndexedArray(direct))
    loaded = xr.Variable(stored.dims, array[...])
    chosen = np.resize([True, False], array.shape[0])
    for key in (ALL, -1, slice(None, None, -2), [5, 0, 5], chosen):
        np.testing.assert_array_equal(lazy[key], loaded[key])
        last = (*[ALL] * (array.ndim - 1), key)
        if not isinstance(key, list | np.ndarray):
            np.testing.assert_array_equal(lazy[last], loaded[last])
    points = {dim: xr.Variable("point", [1, 1, 0, 1]) for dim in stored.dims}
    np.testing.assert_array_equal(lazy.isel(points), loaded.isel(points))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy)), loaded)


def test_threads_read_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array, stored, location = make(tmp_path, "shards with padding")
    assert stored is not None
    monkeypatch.setattr(direct_reads, "_PARALLEL_BYTES", 0)
    monkeypatch.setattr(direct_reads, "_THREADS", 3)
    for selection in ((ALL,) * 4, (ALL, ALL, 5, ALL), (6, ALL, ALL, ALL)):
        found = read_selection(stored, selection, location=location, is_complete=True)
        np.testing.assert_array_equal(found, array[selection])
    (tmp_path / "a/c/1/0/0/0").write_bytes(b"no shard at all" * 30)
    with pytest.raises(ValueError, match=r"checksum of the index of a/c/1/0/0/0"):
        read_selection(stored, (ALL,) * 4, location=location, is_complete=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_flipped_byte_that_is_read_is_an_error(tmp_path: Path, layout: str) -> None:
    array, stored, location = make(tmp_path, layout)
    assert stored is not None
    file = tmp_path / "a/c" / "/".join("0" * array.ndim)
    content = file.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a/c/0"):
            read_selection(stored, (ALL,) * array.ndim, location=location, is_complete=True)
    for length in (1, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"a/c/0"):
            read_selection(stored, (ALL,) * array.ndim, location=location, is_complete=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_file_is_an_error_or_fill_values(tmp_path: Path, layout: str) -> None:
    array, stored, location = make(tmp_path, layout)
    assert stored is not None
    shutil.rmtree(tmp_path / "a/c/1" if array.ndim > 1 else tmp_path / "a/c")
    with pytest.raises(LostFileError, match=r"a/c/"):
        read_selection(stored, (ALL,) * array.ndim, location=location, is_complete=True)
    found = read_selection(stored, (ALL,) * array.ndim, location=location, is_complete=False)
    np.testing.assert_array_equal(found, array[...])


def test_chunks_that_a_shard_lacks_are_fill_values(tmp_path: Path) -> None:
    array, _, location = make(tmp_path, "shards of layers")
    values = array[...]
    values[:, :, 2] = 0
    # Zarr leaves chunks of nothing but fill values out of a shard, and the others move up.
    array[...] = values
    stored = parse(tmp_path)
    assert stored is not None
    assert (tmp_path / "a/c/0/0/0/0").stat().st_size < stored.file_bytes
    found = read_selection(stored, (ALL,) * 4, location=location, is_complete=True)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    "given",
    [
        {"compressors": None},
        {"compressors": [ZstdCodec()]},
        {"fill_value": 0, "shards": None, "chunk_key_encoding": {"name": "v2", "separator": "."}},
        {
            "chunks": (4, 2, 6, 5),
            "shards": None,
            "compressors": None,
            "serializer": ShardingCodec(chunk_shape=(4, 2, 1, 5), index_location="start"),
        },
    ],
)
def test_other_arrays_are_left_to_zarr(tmp_path: Path, given: Any) -> None:
    assert make(tmp_path, "shards of layers", **given)[1] is None


def test_a_cache_opens_as_xarray_opens_it(finished: Path) -> None:
    root = json.loads((finished / "zarr.json").read_text())
    location = locate_store(finished)

    def make_array(stored: StoredArray) -> DirectArray:
        return DirectArray(stored, location=location, is_complete=True)

    direct = open_direct_tree(location.address, root, make_array=make_array)
    assert direct is not None
    plain = xr.open_datatree(finished, engine="zarr", chunks=None)
    xr.testing.assert_identical(direct.load(), plain.load())
    for node in plain.subtree:
        assert list(direct[node.path].variables) == list(node.variables)
        assert {name: each.dtype for name, each in direct[node.path].variables.items()} == {
            name: each.dtype for name, each in node.variables.items()
        }


def test_a_cache_with_an_array_that_only_zarr_reads_opens_too(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "copy.zarr"
    shutil.copytree(finished, path)
    monkeypatch.setattr(StoredArray, "parse", classmethod(lambda cls, path, metadata: None))
    xr.testing.assert_identical(ima.open_cache(path).load(), ima.open_cache(finished).load())
    (path / "norms/resid_post/mean/c/1/0/0").unlink()
    # Zarr would read it as NaN.
    with pytest.raises(CacheCorruptError, match=r"lacks 1 of its \d+ files"):
        ima.open_cache(path)


def test_no_array_of_a_cache_passes_through_zarr(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("__getitem__", "get_basic_selection", "get_orthogonal_selection"):
        monkeypatch.setattr(zarr.Array, name, lambda *_: pytest.fail("Zarr read"))
    tree = ima.open_cache(finished).load()
    assert len([key for key in snapshot(finished) if key.endswith("/zarr.json")]) > 50
    assert np.isfinite(tree["means/resid_post/mean"]).all()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name.startswith("shards")])
@pytest.mark.parametrize("near", [0, 10**6])
def test_parts_of_shards_behind_a_url(
    tmp_path: Path, layout: str, near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_reads, "_SMALL_FILE_BYTES", 0)
    monkeypatch.setattr(remote, "_NEAR_BYTES", near)
    array, stored, location = make(tmp_path, layout)
    assert stored is not None
    url = locate_store(f"memory://{tmp_path}")
    # Zarr has left chunks out of one shard: this one has another order.
    values = array[...]
    values[:1] = np.where(np.arange(values.shape[1]).reshape(-1, *[1] * (array.ndim - 2)) < 1, 0, 1)
    values[:2, :3] = 0
    array[...] = values
    for key in location.sizes():
        url.write(key, location.read(key))
    direct, rng = DirectArray(stored, location=url, is_complete=True), np.random.default_rng(2)
    for _ in range(60):
        selection = draw_selection(stored.shape, rng)
        arrays = [np.arange(size)[each] for each, size in zip(selection, stored.shape, strict=True)]
        found = direct._read(selection)
        expected = values[np.ix_(*map(np.atleast_1d, arrays))].reshape(found.shape)
        np.testing.assert_array_equal(found, expected)
    url.remove()
