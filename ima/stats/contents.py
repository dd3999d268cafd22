"""Identity of samples: which data sets show the same things, so that they are drawn together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ima.stats.resampling import BootstrapWeights, ResampleCounts, draw_resample_counts


def list_sample_contents(means: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """List the samples of several data sets, the same id for the same content.

    A caption and a question about one picture are not two independent samples. The coord ``id`` on
    ``sample`` says which content a sample is of; without it every sample is its own.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        ``(sample, ...)`` of each data set.

    Returns
    -------
    pandas.DataFrame
        A row per data set and sample with columns ``dataset``, ``sample`` (row of the data set),
        ``owner`` (number of the content) and ``stratum`` (number of the group of data sets that
        share contents, directly or through others).
    """
    parts = []
    for name, array in means.items():
        n = array.sizes["sample"]
        known = "id" in array.coords
        ids = (
            [str(i) for i in array["id"].to_numpy()] if known else [f"{name}/{i}" for i in range(n)]
        )
        parts.append(pd.DataFrame({"dataset": name, "sample": range(n), "id": ids}))
    listed = pd.concat(parts, ignore_index=True)
    listed["owner"] = pd.factorize(listed.pop("id"))[0]
    stratum = {name: number for number, name in enumerate(means)}
    for _, group in listed.groupby("owner"):
        sharing = {stratum[name] for name in group["dataset"]}
        if len(sharing) > 1:
            stratum = {n: min(sharing) if s in sharing else s for n, s in stratum.items()}
    listed["stratum"] = listed["dataset"].map(stratum)
    return listed


def draw_joint_counts(
    listed: pd.DataFrame, *, resamples: int, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Draw contents within strata: how often each occurs in the data and in every resample.

    Parameters
    ----------
    listed : pandas.DataFrame
        From :func:`list_sample_contents`, or part of it.
    resamples : int
        Number of resamples.
    seed : int
        Same seed, same draws.

    Returns
    -------
    counts : ndarray
        ``(1 + draw, row)`` for the rows of `listed`; row 0 is all ones.
    owners : ndarray
        ``(row,)``, the content of each row.
    """
    counts, owners = _joint_counts(listed, resamples=resamples, seed=seed)
    return counts.astype(np.float64), owners


def _joint_counts(
    listed: pd.DataFrame, *, resamples: int, seed: int
) -> tuple[ResampleCounts, npt.NDArray[np.int64]]:
    out = np.empty((1 + resamples, len(listed)), np.uint8)
    for number, (_, group) in enumerate(listed.groupby("stratum", sort=True)):
        owners, place = np.unique(group["owner"].to_numpy(), return_inverse=True)
        drawn = draw_resample_counts(len(owners), resamples=resamples, seed=(seed, number))
        out[:, listed.index.get_indexer(group.index)] = drawn[:, place]
    return out, listed["owner"].to_numpy()


def draw_dataset_weights(
    means: Mapping[str, xr.DataArray], *, resamples: int, seed: int
) -> tuple[dict[str, BootstrapWeights], dict[str, npt.NDArray[np.int64]], int]:
    """Draw weights for each data set, jointly where data sets show the same contents.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        ``(sample, ...)`` of each data set.
    resamples : int
        Number of resamples.
    seed : int
        Same seed, same weights.

    Returns
    -------
    weights : dict of str to Weights
        ``(1 + draw, sample)``, rows sum to one; row 0 is uniform.
    owners : dict of str to ndarray
        ``(sample,)``, the number of each sample's content.
    n : int
        Number of contents: of independent samples.
    """
    listed = list_sample_contents(means)
    counts, owners = _joint_counts(listed, resamples=resamples, seed=seed)
    weights, owned = {}, {}
    for name in means:
        rows = (listed["dataset"] == name).to_numpy()
        weights[name] = BootstrapWeights(counts[:, rows])
        owned[name] = owners[rows]
    return weights, owned, int(listed["owner"].nunique())
