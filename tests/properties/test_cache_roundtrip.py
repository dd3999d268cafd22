"""What is written to a store of any layout is read back, by ima and by plain xarray."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ima
from ima.cache.provenance import CacheParameters
from ima.cache.schema import CACHE_SCHEMA, CACHE_SCHEMA_VERSION, ArraySpec, CacheLayout
from ima.cache.store import (
    build_store_metadata,
    is_root_intact,
    locate_store,
    write_array_rows,
    write_store_metadata,
)
from ima.cache.verification import verify_cache
from ima.hook_points import HOOK_POINTS


@st.composite
def layouts(draw: st.DrawFn) -> CacheLayout:
    samples = draw(st.integers(1, 9))
    hook_points = draw(st.lists(st.sampled_from(HOOK_POINTS), min_size=1, max_size=3, unique=True))
    return CacheLayout(
        samples=samples,
        unit=draw(st.integers(1, samples)),
        layers=draw(st.integers(1, 4)),
        widths={
            hook_point: draw(st.integers(1, 12))
            for hook_point in HOOK_POINTS
            if hook_point in hook_points
        },
        tokens=draw(st.integers(0, 30)),
        dtype=draw(st.sampled_from(["float16", "float32"])),
        loss=draw(st.booleans()),
        predict=draw(st.booleans()),
    )


def attributes(layout: CacheLayout) -> dict[str, object]:
    parameters = CacheParameters(
        model="m",
        dataset="d",
        samples=layout.samples,
        hook_points=tuple(layout.widths),
        dtype=layout.dtype,
        loss=layout.loss,
        predict=layout.predict,
    ).model_dump(mode="json")
    execution = {name: parameters.pop(name) for name in ("batch_size", "device")}
    return {
        "schema": CACHE_SCHEMA,
        "schema_version": CACHE_SCHEMA_VERSION,
        "parameters": parameters,
        "layout": {
            "unit": layout.unit,
            "layers": layout.layers,
            "widths": dict(layout.widths),
            "tokens": layout.tokens,
        },
        "execution": execution,
    }


def contents(array: ArraySpec, random: np.random.Generator) -> npt.NDArray[np.generic]:
    if array.dtype == "string":
        letters = ["", "a", "ü", "日本", "\x00b", "long " * 20]
        return np.array(random.choice(letters, array.shape).tolist(), dtype=object)
    if array.dtype == "bool":
        return np.ones(array.shape, dtype=bool)
    if array.dtype.startswith("float"):
        values = random.standard_normal(array.shape).astype(array.dtype)
        values[random.random(array.shape) < 0.2] = np.nan
        return values
    if array.name == "sample":
        return np.zeros(array.shape, dtype=array.dtype)
    return random.integers(1, 100, array.shape).astype(array.dtype)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layout=layouts(), seed=st.integers(0, 2**16))
def test_what_is_written_is_read(layout: CacheLayout, seed: int) -> None:
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        location = locate_store(Path(folder) / "cache.zarr")
        arrays = layout.arrays()
        write_store_metadata(location, build_store_metadata(arrays, attributes(layout)))
        assert is_root_intact(location.read("zarr.json"))
        group = zarr.open_group(location.address, mode="r+", use_consolidated=False)
        written = {}
        for array in arrays:
            if array.values is None:
                written[array.path] = contents(array, random)
                # Unit by unit, as the writer does: a shard is never written by two units.
                step = layout.unit if array.dims[0] == "sample" else 7
                for start in range(0, array.shape[0], step):
                    rows = slice(start, start + step)
                    write_array_rows(
                        group, path=array.path, index=rows, values=written[array.path][rows]
                    )
            else:
                written[array.path] = array.values
        own = ima.open_cache(location.address)
        plain = xr.open_datatree(location.address, engine="zarr")
        for array in arrays:
            for tree in (own, plain):
                found = tree[array.path]
                assert found.dims == array.dims
                np.testing.assert_array_equal(found.to_numpy(), written[array.path])
                if array.dtype != "string":
                    assert found.dtype == array.dtype
        assert verify_cache(location.address).problems == ()


@settings(max_examples=8, deadline=None)
@given(layout=layouts())
def test_a_layout_is_the_same_bytes_every_time(layout: CacheLayout) -> None:
    first, second = (build_store_metadata(layout.arrays(), attributes(layout)) for _ in range(2))
    assert first == second
    assert list(first)[-1] == "zarr.json"


@settings(max_examples=50, deadline=None)
@given(layout=layouts())
def test_units_share_no_file(layout: CacheLayout) -> None:
    covered = [row for unit in range(layout.units) for row in range(*layout.bounds(unit))]
    assert covered == list(range(layout.samples))
    for array in layout.arrays():
        if array.dims[0] == "sample":
            assert array.files[0] == layout.unit
        assert all(whole % part == 0 for whole, part in zip(array.files, array.chunks, strict=True))
