"""Measures stream: the memory for states does not grow with the number of samples."""

from __future__ import annotations

import tracemalloc

import numpy as np
import xarray as xr
import zarr

from ima.measures import alignment, cones

MIB = 2**20


def store_means(path, *, samples, hidden, chunk):
    root = zarr.create_group(path, zarr_format=3)
    array = root.create_array(
        "mean",
        shape=(samples, 2, 2, hidden),
        chunks=(chunk, 2, 1, hidden),
        dtype="float32",
        dimension_names=("sample", "kind", "layer", "hidden"),
    )
    rng = np.random.default_rng(0)
    for start in range(0, samples, chunk):
        array[start : start + chunk] = rng.random((chunk, 2, 2, hidden), dtype="float32")
    # As pages open caches: without Dask, even where it is installed.
    means = xr.open_zarr(path, chunks=None, consolidated=False)["mean"]
    return {"a": means.assign_coords(kind=["perceptual", "textual"], layer=[0, 1])}


def measure_peak(means, *, resamples):
    """Return the most bytes that both measures hold at once."""
    tracemalloc.start()
    alignment.compute_alignment_curve(means, resamples=resamples)
    cones.compute_similarity_terms(means, resamples=resamples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_peak_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    few, many = (
        measure_peak(
            store_means(tmp_path / f"{n}.zarr", samples=n, hidden=1024, chunk=64), resamples=20
        )
        for n in (256, 1024)
    )
    # One layer of one kind of the larger set alone has 8 MiB in float64.
    assert many < few + 5 * MIB


def test_resamples_take_one_byte_per_sample(tmp_path):
    few, many = (
        measure_peak(
            store_means(tmp_path / f"{n}.zarr", samples=n, hidden=4, chunk=1024), resamples=400
        )
        for n in (1024, 2560)
    )
    # 1536 more samples: .6 MiB for each set of counts, and 4.7 MiB if they had eight bytes each.
    assert many < few + 3 * MIB
