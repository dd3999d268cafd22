"""Bootstrap resamples: which samples show the same content, how often each is drawn, its weight.

A caption and a question about one picture are not two independent samples. They show one content,
and contents are what is resampled. Counts take one byte per sample and resample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ima.errors import ParameterError
from ima.stats import FloatArray, RowIndices

ResampleCounts = npt.NDArray[np.uint8]
#: Number of samples whose weights are expanded to eight bytes at a time.
WEIGHT_BLOCK_SIZE = 256


def draw_resample_counts(n: int, *, resamples: int, seed: int | tuple[int, ...]) -> ResampleCounts:
    """Draw how often each of n samples occurs in each bootstrap resample of size n.

    Parameters
    ----------
    n : int
        Number of samples.
    resamples : int
        Number of resamples.
    seed : int or tuple of int
        Same seed, same counts.

    Returns
    -------
    ndarray
        ``(1 + draw, sample)`` uint8. Row 0 stands for the data and is all ones.

    Raises
    ------
    ParameterError
        If there are no samples or no resamples.

    Examples
    --------
    >>> counts = draw_resample_counts(4, resamples=2, seed=0)
    >>> counts[0], counts.sum(axis=1)
    (array([1, 1, 1, 1], dtype=uint8), array([4, 4, 4], dtype=uint64))
    """
    if n < 1 or resamples < 1:
        raise ParameterError(
            f"A bootstrap needs samples and resamples; got n = {n}, resamples = {resamples}."
        )
    rng = np.random.default_rng(seed)
    counts = np.ones((1 + resamples, n), np.uint8)
    uniform = np.full(n, 1 / n)
    # Drawing all rows at once would take eight bytes per count before they become one.
    for row in counts[1:]:
        row[:] = rng.multinomial(n, uniform)
    return counts


def draw_bootstrap_weights(n: int, *, resamples: int, seed: int | tuple[int, ...]) -> xr.DataArray:
    """Draw the weight of each sample in each bootstrap resample.

    A weighted mean over ``sample`` is the mean of a resample, so all resamples of a mean are one
    matrix product.

    Parameters
    ----------
    n : int
        Number of samples; each resample has as many.
    resamples : int
        Number of resamples.
    seed : int or tuple of int
        Same seed, same weights.

    Returns
    -------
    xarray.DataArray
        ``(draw, sample)``, multiples of ``1 / n``; rows sum to one.

    Examples
    --------
    >>> weights = draw_bootstrap_weights(4, resamples=3, seed=0)
    >>> weights.sum("sample").values
    array([1., 1., 1.])
    """
    weights, _ = draw_content_weights(n, None, resamples=resamples, seed=seed)
    return xr.DataArray(weights, dims=("draw", "sample"))


def draw_content_weights(
    size: int, contents: Sequence[str] | None, *, resamples: int, seed: int | tuple[int, ...]
) -> tuple[FloatArray, int]:
    """Draw the weight of each sample where samples of one content are drawn together.

    Parameters
    ----------
    size : int
        Number of samples.
    contents : sequence of str or None
        The content of each sample; None makes each sample a content of its own.
    resamples : int
        Number of resamples.
    seed : int or tuple of int
        Same seed, same weights.

    Returns
    -------
    weights : ndarray
        ``(draw, sample)``; rows sum to one.
    n : int
        Number of contents, which is the number of independent samples.

    Raises
    ------
    ParameterError
        If there are not as many contents as samples.

    Examples
    --------
    >>> weights, n = draw_content_weights(3, ["cat", "dog", "dog"], resamples=5, seed=0)
    >>> n, bool((weights[:, 1] == weights[:, 2]).all())
    (2, True)
    """
    place = number_contents(size, contents)
    n = int(place.max(initial=-1)) + 1
    counts = draw_resample_counts(n, resamples=resamples, seed=seed)[1:, place]
    return counts / counts.sum(axis=1, keepdims=True, dtype=np.int64), n


def number_contents(size: int, contents: Sequence[str] | None) -> RowIndices:
    """Give the content of each sample a number, in order of appearance.

    Parameters
    ----------
    size : int
        Number of samples.
    contents : sequence of str or None
        The content of each sample; None makes each sample a content of its own.

    Raises
    ------
    ParameterError
        If there are not as many contents as samples.

    Examples
    --------
    >>> number_contents(3, ["cat", "dog", "cat"])
    array([0, 1, 0])
    """
    if contents is None:
        return np.arange(size)
    if len(contents) != size:
        raise ParameterError(f"Each of {size} samples has one content; got {len(contents)}.")
    numbers: RowIndices = pd.factorize(np.array(contents, dtype=object))[0]
    return numbers


class BootstrapWeights:
    """Weights of samples in the data and in each resample; rows sum to one.

    Weights are computed from the counts on access: ``weights[:, columns]`` gives some of them,
    ``weights @ values`` multiplies all of them, one block of samples at a time.

    Parameters
    ----------
    counts : ndarray
        ``(1 + draw, sample)`` uint8. Row 0 stands for the data. A row of zeros counts each sample
        once.

    Examples
    --------
    >>> weights = BootstrapWeights(np.array([[1, 1], [2, 0]], np.uint8))
    >>> weights[:, [0]]
    array([[0.5],
           [1. ]])
    >>> weights @ np.array([1.0, 3.0])
    array([2., 1.])
    """

    def __init__(self, counts: ResampleCounts) -> None:
        empty = np.asarray(counts.sum(axis=1, dtype=np.int64) == 0)
        self.counts = np.where(empty[:, None], np.uint8(1), counts) if empty.any() else counts
        self.totals = self.counts.sum(axis=1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, which is one more than the number of resamples, and of samples."""
        rows, samples = self.counts.shape
        return rows, samples

    def __getitem__(self, key: Any) -> FloatArray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        weights: FloatArray = self.counts[rows][..., columns] / self.totals[rows][..., None]
        return weights

    def __matmul__(self, values: npt.NDArray[Any]) -> FloatArray:
        product: FloatArray = np.zeros((len(self), *values.shape[1:]))
        for start in range(0, self.shape[1], WEIGHT_BLOCK_SIZE):
            block = slice(start, start + WEIGHT_BLOCK_SIZE)
            product += self[:, block] @ values[block]
        return product


def label_draws(
    values: FloatArray,
    dims: tuple[str, ...],
    *,
    coords: Mapping[str, Any],
    n: int,
    means: Mapping[str, xr.DataArray] | None = None,
) -> xr.Dataset:
    """Label an estimate and its draws.

    Parameters
    ----------
    values : ndarray
        ``(1 + draw, ...)``; row 0 is the estimate.
    dims : tuple of str
        Names of the other dims.
    coords : mapping
        Labels of the other dims.
    n : int
        Number of independent samples.
    means : mapping of str to xarray.DataArray, or None
        The data sets, whose contents become an attribute for :func:`count_contents`.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(...)`` and ``draws`` ``(draw, ...)``; the attribute ``samples`` is ``n``.

    Examples
    --------
    >>> values = np.array([[0.5], [0.75]])
    >>> label_draws(values, ("layer",), coords={"layer": [0]}, n=8)["draws"].values
    array([[0.75]])
    """
    arrays = {"estimate": (dims, values[0]), "draws": (("draw", *dims), values[1:])}
    attributes: dict[str, Any] = {"samples": n}
    if means is not None:
        attributes["contents"] = frozenset().union(*name_contents(means).values())
    return xr.Dataset(arrays, coords=coords, attrs=attributes)


def name_contents(means: Mapping[str, xr.DataArray]) -> dict[str, list[str]]:
    """Name the content of each sample of several data sets.

    The coord ``id`` on ``sample`` identifies the content. Without it, each sample is a content of
    its own.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        ``(sample, ...)`` of each data set.

    Examples
    --------
    >>> name_contents({"qa": xr.DataArray([0, 0], dims="sample")})
    {'qa': ['qa/0', 'qa/1']}
    """
    return {
        name: [str(own) for own in array["id"].to_numpy()]
        if "id" in array.coords
        else [f"{name}/{at}" for at in range(array.sizes["sample"])]
        for name, array in means.items()
    }


def count_contents(curves: Iterable[xr.Dataset]) -> int:
    """Count the contents that several curves rest on; what two of them share counts once.

    Parameters
    ----------
    curves : iterable of xarray.Dataset
        The attribute ``contents`` is the set of names of a curve's contents
        (:func:`name_contents`).

    Examples
    --------
    >>> pictures, both = (xr.Dataset(attrs={"contents": frozenset(own)}) for own in ("ab", "bc"))
    >>> count_contents([pictures, both])
    3
    """
    return len(frozenset().union(*(curve.attrs["contents"] for curve in curves)))


def list_sample_contents(means: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """List the samples of several data sets with a number for the content of each.

    Parameters
    ----------
    means : mapping of str to xarray.DataArray
        ``(sample, ...)`` of each data set, with contents named by :func:`name_contents`.

    Returns
    -------
    pandas.DataFrame
        One row per data set and sample, with the columns ``dataset``, ``sample`` (row in the data
        set), ``content`` (number of the content) and ``stratum`` (number of the group of data sets
        that share contents, directly or through other data sets).

    Examples
    --------
    >>> ids = {"caption": ["cat", "dog"], "qa": ["dog", "dog"]}
    >>> data = {k: xr.DataArray([0, 0], {"id": ("sample", v)}, "sample") for k, v in ids.items()}
    >>> list_sample_contents(data)[["dataset", "sample", "content", "stratum"]].values.tolist()
    [['caption', 0, 0, 0], ['caption', 1, 1, 0], ['qa', 0, 1, 0], ['qa', 1, 1, 0]]
    """
    parts = [
        pd.DataFrame({"dataset": name, "sample": range(len(ids)), "id": ids})
        for name, ids in name_contents(means).items()
    ]
    samples = pd.concat(parts, ignore_index=True)
    samples["content"] = pd.factorize(samples.pop("id"))[0]
    # Data sets and contents are the nodes of a graph, and each sample joins two of them.
    datasets = pd.Categorical(samples["dataset"], categories=list(means)).codes
    ends = (datasets, len(means) + samples["content"].to_numpy())
    size = len(means) + samples["content"].nunique()
    _, component = connected_components(coo_array((np.ones(len(samples)), ends), (size, size)))
    # A stratum has the number of its first data set.
    _, first, place = np.unique(component[: len(means)], return_index=True, return_inverse=True)
    samples["stratum"] = first[place][datasets]
    return samples


def draw_joint_counts(
    samples: pd.DataFrame, *, resamples: int, seed: int
) -> tuple[ResampleCounts, RowIndices]:
    """Draw how often each sample occurs when contents are resampled within strata.

    Parameters
    ----------
    samples : pandas.DataFrame
        From :func:`list_sample_contents`, or some of its rows.
    resamples : int
        Number of resamples.
    seed : int
        Same seed, same draws.

    Returns
    -------
    counts : ndarray
        ``(1 + draw, row)`` uint8 for the rows of `samples`. Row 0 is all ones.
    contents : ndarray
        ``(row,)``, the content of each row.

    Examples
    --------
    >>> samples = pd.DataFrame({"content": [0, 1, 1], "stratum": [0, 0, 0]})
    >>> counts, _ = draw_joint_counts(samples, resamples=5, seed=0)
    >>> bool((counts[:, 1] == counts[:, 2]).all())  # one content is drawn as a whole
    True
    """
    counts = np.empty((1 + resamples, len(samples)), np.uint8)
    for number, (_, group) in enumerate(samples.groupby("stratum", sort=True)):
        contents, place = np.unique(group["content"].to_numpy(), return_inverse=True)
        drawn = draw_resample_counts(len(contents), resamples=resamples, seed=(seed, number))
        counts[:, samples.index.get_indexer(group.index)] = drawn[:, place]
    return counts, samples["content"].to_numpy()


def draw_dataset_weights(
    means: Mapping[str, xr.DataArray], *, resamples: int, seed: int
) -> tuple[dict[str, BootstrapWeights], dict[str, RowIndices], int]:
    """Draw the weights of each data set's samples; data sets of the same contents share draws.

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
    weights : dict of str to BootstrapWeights
        ``(1 + draw, sample)``; rows sum to one, row 0 is uniform.
    contents : dict of str to ndarray
        ``(sample,)``, the number of each sample's content.
    n : int
        Number of contents, which is the number of independent samples.

    Examples
    --------
    >>> means = {"a": xr.DataArray(np.zeros(4), dims="sample")}
    >>> weights, contents, n = draw_dataset_weights(means, resamples=2, seed=0)
    >>> weights["a"].shape, contents["a"].tolist(), n
    ((3, 4), [0, 1, 2, 3], 4)
    """
    samples = list_sample_contents(means)
    counts, contents = draw_joint_counts(samples, resamples=resamples, seed=seed)
    rows = {name: (samples["dataset"] == name).to_numpy() for name in means}
    weights = {name: BootstrapWeights(counts[:, own]) for name, own in rows.items()}
    n = int(samples["content"].nunique())
    return weights, {name: contents[own] for name, own in rows.items()}, n
