"""Synthetic caches: stores of random numbers with the layout of real ones, of any size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch

import numpy as np
import numpy.typing as npt

from ima.cache.provenance import CacheParameters, make_cache_attributes
from ima.cache.schema import ArraySpec, CacheLayout, choose_unit_size
from ima.cache.store import (
    build_store_metadata,
    locate_store,
    write_array_rows,
    write_store_metadata,
)
from ima.hook_points import TOKEN_KINDS

#: Rows that are written at once, so that a large store needs little memory.
_ROWS = 1024


def write_synthetic_cache(
    path: str | os.PathLike[str],
    *,
    samples: int,
    layers: int,
    hidden: int,
    hook_points: Sequence[str] = ("resid_post",),
    filled: Sequence[str] = ("*",),
    modality: str = "image",
    input_norms: int = 0,
    seed: int = 0,
) -> None:
    """Write a cache of random numbers.

    Each sample has a direction of its own, which its perceptual and its textual tokens share.

    Parameters
    ----------
    path : str or path
        A folder or a URL, as for :func:`ima.cache.reader.open_cache`.
    samples, layers, hidden : int
        Number of samples and of blocks, and width of all hook points.
    hook_points : sequence of str
        The hook points that the cache holds.
    filled : sequence of str
        Patterns of the arrays that get values; the files of others are missing, which opening a
        cache does not notice.
    modality : str
        Modality of the samples.
    input_norms : int
        Number of inputs of the linear layer ``mlp.down_proj``; 0: no input norms.
    seed : int
        Seed of the numbers.

    Examples
    --------
    >>> write_synthetic_cache("memory://s.zarr", samples=3, layers=2, hidden=4)
    >>> from ima.cache.reader import open_cache
    >>> open_cache("memory://s.zarr")["means/resid_post/mean"].shape
    (3, 2, 3, 4)
    """
    task = "caption"
    parameters = CacheParameters(
        model=f"synthetic/{modality}-{task}",
        dataset=f"synthetic-{modality}-{task}",
        samples=samples,
        hook_points=tuple(hook_points),
        input_norms=bool(input_norms),
    )
    layout = CacheLayout(
        samples=samples,
        unit=choose_unit_size(samples, layers=layers, hidden=hidden),
        layers=layers,
        widths=dict.fromkeys(hook_points, hidden),
        linear_in_features={"mlp.down_proj": input_norms} if input_norms else {},
        contents=True,
    )
    attributes = make_cache_attributes(
        parameters,
        model={
            "name": parameters.model,
            "setup": "ST",
            "modality": modality,
            "task": task,
            "weights_hash": "none",
            "dtype": "float32",
        },
        dataset={"name": parameters.dataset, "split": "test", "fingerprint": f"seed {seed}"},
        layout=layout,
    )
    location = locate_store(path)
    write_store_metadata(location, build_store_metadata(layout.arrays(), attributes))
    group = location.group("r+")
    known = {"modality": modality, "task": task, "references": '["words"]', "truth": "{}"}
    for array in layout.arrays():
        if array.values is not None or not any(fnmatch(array.path, each) for each in filled):
            continue
        rows = max(array.files[0], _ROWS // array.files[0] * array.files[0])
        for start in range(0, array.shape[0], rows):
            index = slice(start, min(start + rows, array.shape[0]))
            values = _draw(array, index, known=known, seed=seed)
            write_array_rows(group, path=array.path, index=index, values=values)


def _draw(
    array: ArraySpec, rows: slice, *, known: dict[str, str], seed: int
) -> npt.NDArray[np.generic]:
    shape = (rows.stop - rows.start, *array.shape[1:])
    if array.dtype == "string":
        if array.name in known:
            return np.full(shape, known[array.name], dtype=object)
        return np.array([f"{array.name} {n}" for n in range(rows.start, rows.stop)], dtype=object)
    if not array.dtype.startswith("float"):
        return np.ones(shape, array.dtype)
    rng = np.random.default_rng([seed, rows.start])
    values = rng.standard_normal(shape, dtype="float32")
    if array.name == "mean":
        kinds = array.dims.index("kind")
        shared = rng.standard_normal((*shape[:kinds], 1, *shape[kinds + 1 :]), dtype="float32")
        assert shape[kinds] == len(TOKEN_KINDS)
        return values + shared
    # Norms and sums of squares are positive.
    return np.abs(values) + np.float32(0.1)
