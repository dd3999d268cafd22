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
alignment.curve(means, resamples=20)
cones.similarities(means, resamples=20)
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
        command = [sys.executable, "-c", MEASURED, path]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(run.stdout))
    # One layer of one kind of the larger set alone has 128 MiB in float64.
    assert peaks[1] < peaks[0] + 40
