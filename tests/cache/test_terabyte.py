"""A cache of a terabyte, few of whose files are there, opens lazily, also as pages open it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import xarray as xr

from ima.bench.synthetic_caches import write_synthetic_cache
from ima.cache.cache_set import open_cache_set
from ima.cache.reader import open_cache
from ima.cache.store import locate_store, write_array_rows
from ima.errors import CacheCorruptError
from ima.hook_points import HOOK_POINTS
from ima.measures.alignment import compute_alignment_curves
from ima.measures.similarity import average_directions, cosine_over_pairs

TERABYTE, MIB = 10**12, 2**20
#: As many layers as the largest open models, and wider, so that few files hold a terabyte.
LAYERS, HIDDEN, SAMPLES = 126, 65_536, 2_200
PRESENT = 2
#: What pages read of the samples when they open a cache: what tells them apart, and the rest.
_NAMES = ("id", "content")
_COLUMNS = {"done": True, "modality": "image", "task": "caption", "n_perceptual": 1, "n_textual": 1}


def trace(function):
    """Return what a function returns, and the most memory that it held, in MiB."""
    tracemalloc.start()
    result = function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, peak / MIB


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.zarr"
    columns = [f"samples/{name}" for name in _NAMES]
    write_synthetic_cache(
        path, samples=SAMPLES, layers=LAYERS, hidden=HIDDEN, hook_points=HOOK_POINTS, filled=columns
    )
    group, rng = locate_store(path).group("r+"), np.random.default_rng(0)
    for name, value in _COLUMNS.items():
        kind = object if isinstance(value, str) else type(value)
        write_array_rows(
            group, path=f"samples/{name}", index=slice(0, 1), values=np.array([value], kind)
        )
        # A file for each sample, all of one content.
        first = path / "samples" / name / "c" / "0"
        for number in range(1, SAMPLES):
            first.with_name(str(number)).hardlink_to(first)
    values = rng.standard_normal((PRESENT, 2, LAYERS + 1, HIDDEN), dtype="float32")
    rows = slice(0, PRESENT)
    write_array_rows(group, path="means/resid_post/mean", index=rows, values=values)
    return path


def test_a_terabyte_opens_and_is_measured_within_little_memory(large):
    tree, peak = trace(lambda: open_cache(large))
    arrays = [tree[f"means/{name}/mean"] for name in HOOK_POINTS]
    assert sum(array.nbytes for array in arrays) > TERABYTE
    # Marks and metadata; a single sample of one hook point has 63 MiB.
    assert peak < 32
    means = tree["means/resid_post/mean"].isel(sample=slice(PRESENT))
    curves, peak = trace(lambda: compute_alignment_curves({"a": means}, resamples=5))
    assert peak < 32
    lazy = means.chunk(sample=1, layer=4)
    cosine, peak = trace(
        lambda: cosine_over_pairs(*(lazy.sel(kind=k) for k in lazy["kind"].values))
    )
    assert cosine.chunks
    assert peak < 4
    np.testing.assert_allclose(cosine, curves["all"]["estimate"][0], atol=1e-6)


def test_a_terabyte_is_one_array_of_dask(large):
    """Whatever is asked of the whole array is planned, and no number is read."""
    tree, peak = trace(lambda: xr.open_zarr(large / "means/resid_post", consolidated=False))
    assert tree["mean"].nbytes > TERABYTE / 8
    planned, more = trace(lambda: average_directions(tree["mean"].isel(layer=5, kind=0)))
    assert planned.shape == (HIDDEN,)
    assert peak + more < 200
    assert tree["mean"][PRESENT - 1, 1, 7].notnull().all()


def test_pages_open_a_terabyte(large):
    cache_set, peak = trace(lambda: open_cache_set([large]))
    assert peak < 64
    (means,) = cache_set.means.values()
    assert means.sizes["sample"] == SAMPLES
    assert cache_set.layers == list(range(LAYERS + 1))
    assert np.isfinite(means.isel(sample=0, layer=3).to_numpy()).all()
    # A file that is not there is an error, and never fill values.
    with pytest.raises(CacheCorruptError):
        means.isel(sample=SAMPLES - 1, layer=3).to_numpy()
