"""The samples of a cache as a table: what each was, what the model answered, and its scores."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd

from ima.cache.reader import open_cache


def tabulate_samples(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Tabulate the samples of a cache, a row each.

    Parameters
    ----------
    path : str or path
        A finished cache: a local folder or a URL.

    Returns
    -------
    pandas.DataFrame
        The arrays of ``/samples`` as columns, such as ``id``, ``prompt``, ``references`` and
        ``loss`` (nats per token); with predictions, ``prediction`` and a column for each metric.

    Raises
    ------
    CacheError
        If there is no cache, or it is not finished.

    Examples
    --------
    >>> tabulate_samples("data/caches/mine.zarr")["prediction"][0]  # doctest: +SKIP
    'a small red circle'
    """
    group = open_cache(path)["samples"].to_dataset()
    columns = {
        str(name): array.to_numpy()
        for name, array in group.data_vars.items()
        if array.dims == ("sample",) and name != "done"
    }
    table = pd.DataFrame(columns)
    first = [name for name in ("id", "modality", "task", "prompt", "references") if name in table]
    table = table[[*first, *table.columns.drop(first)]]
    if "score" in group:
        for metric in group["metric"].to_numpy().tolist():
            values = group["score"].sel(metric=metric).to_numpy()
            table[metric] = values.astype(np.float64).round(6)
    return table
