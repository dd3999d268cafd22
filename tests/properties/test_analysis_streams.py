"""Analysing a cache streams: twice the samples, the same memory for their states."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import zarr

MEASURED = """
import resource, sys
import xarray as xr
from ima.measures import alignment, cones
means = {"a": xr.open_zarr(sys.argv[1], consolidated=False)["mean"]}
means["a"] = means["a"].assign_coords(kind=["perceptual", "textual"], layer=[0, 1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resamples = int(sys.argv[2])
alignment.curve(means, resamples=resamples)
cones.similarities(means, resamples=resamples)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_peak_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    hidden, peaks = 8192, []
    for n in (512, 2048):
        path = tmp_path / f"{n}.zarr"
        root = zarr.create_group(path, zarr_format=3)
        array = root.create_array(
            "mean",
            shape=(n, 2, 2, hidden),
            chunks=(64, 2, 1, hidden),
            dtype="float32",
            dimension_names=("sample", "kind", "layer", "hidden"),
        )
        rng = np.random.default_rng(0)
        for start in range(0, n, 64):
            array[start : start + 64] = rng.standard_normal((64, 2, 2, hidden), dtype="float32")
        command = [sys.executable, "-c", MEASURED, path, "20"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(run.stdout))
    # One layer of one kind of the larger set alone has 128 MiB in float64.
    assert peaks[1] < peaks[0] + 40


def test_resamples_take_a_byte_for_each_sample(tmp_path):
    peaks = []
    for n in (4096, 16384):
        path = tmp_path / f"{n}.zarr"
        root = zarr.create_group(path, zarr_format=3)
        array = root.create_array(
            "mean",
            shape=(n, 2, 2, 4),
            chunks=(4096, 2, 1, 4),
            dtype="float32",
            dimension_names=("sample", "kind", "layer", "hidden"),
        )
        array[:] = np.random.default_rng(0).standard_normal((n, 2, 2, 4), dtype="float32")
        command = [sys.executable, "-c", MEASURED, path, "1000"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(run.stdout))
    # 12288 samples more: 12 MiB for each set of counts, and 94 MiB if they had eight bytes each.
    assert peaks[1] < peaks[0] + 60
