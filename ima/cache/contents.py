"""Contents of the samples of a cache: which samples, in any data set, show the same."""

from __future__ import annotations

import xarray as xr

from ima.data.worlds import load_worlds


def list_contents(cache: xr.DataTree, *, name: str) -> list[str]:
    """List the content of each sample of a cache.

    A caption and a question about one picture are one content, and not two independent samples. In
    caches of a world, samples with one id have one content. Elsewhere an id means nothing outside
    its data set: two folders may both number their samples from 0. There, only the field
    ``content`` of the samples tells what they share.

    Parameters
    ----------
    cache : xarray.DataTree
        From :func:`ima.cache.reader.open_cache`.
    name : str
        Name of the data set among those that are compared.

    Returns
    -------
    list of str
        One content per sample.

    Examples
    --------
    >>> list_contents(open_cache("caption.zarr"), name="caption")[:2]  # doctest: +SKIP
    ['test-000000', 'test-000001']
    """
    samples = cache["samples"]
    ids = [str(each) for each in samples["id"].to_numpy()]
    if "content" in samples:
        contents = [str(each) for each in samples["content"].to_numpy()]
        return [own or f"{name}/{id}" for own, id in zip(contents, ids, strict=True)]
    dataset = str(cache.attrs["parameters"]["dataset"]).partition(":")[0]
    if any(dataset in world.datasets for world in load_worlds().values()):
        return ids
    return [f"{name}/{each}" for each in ids]
