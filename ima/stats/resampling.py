"""Weights of samples in bootstrap resamples, one byte each: they grow with samples, slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ima.errors import ParameterError

FloatArray = npt.NDArray[np.float64]
ResampleCounts = npt.NDArray[np.uint8]
#: Samples whose weights are numbers of eight bytes at a time.
WEIGHT_BLOCK_SIZE = 256


class BootstrapWeights:
    """How often each sample occurs in the data and in every resample, as weights that sum to one.

    Columns are made when they are asked for: ``weights[:, columns]``, and the products of all of
    them with values, ``weights @ values``, a block at a time.

    Parameters
    ----------
    counts : ndarray
        ``(1 + draw, sample)`` uint8; row 0 is the data themselves. A resample without any of these
        samples takes each of them once.

    Examples
    --------
    >>> weights = Weights(np.array([[1, 1], [2, 0]], np.uint8))
    >>> weights[:, [0]]
    array([[0.5],
           [1. ]])
    >>> weights @ np.array([1.0, 3.0])
    array([2., 1.])
    """

    def __init__(self, counts: ResampleCounts) -> None:
        empty: npt.NDArray[np.bool_] = np.asarray(counts.sum(axis=1, dtype=np.int64) == 0)
        self.counts = np.where(empty[:, None], np.uint8(1), counts) if empty.any() else counts
        self.totals = self.counts.sum(axis=1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def shape(self) -> tuple[int, int]:
        """Resamples and one more, and samples."""
        rows, samples = self.counts.shape
        return rows, samples

    def __getitem__(self, key: Any) -> FloatArray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        found: FloatArray = self.counts[rows][..., columns] / self.totals[rows][..., None]
        return found

    def __matmul__(self, values: npt.NDArray[Any]) -> FloatArray:
        found: FloatArray = np.zeros((len(self), *values.shape[1:]))
        for start in range(0, self.shape[1], WEIGHT_BLOCK_SIZE):
            part = slice(start, start + WEIGHT_BLOCK_SIZE)
            found += self[:, part] @ values[part]
        return found


def draw_resample_counts(n: int, *, resamples: int, seed: int | tuple[int, ...]) -> ResampleCounts:
    """Draw how often each of n samples occurs in the data and in every resample of as many.

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
        ``(1 + draw, sample)`` uint8; row 0 is all ones.
    """
    if n < 1 or resamples < 1:
        message = f"A bootstrap needs samples and resamples; got n = {n}, resamples = {resamples}."
        raise ParameterError(message)
    rng = np.random.default_rng(seed)
    found = np.ones((1 + resamples, n), np.uint8)
    even = np.full(n, 1 / n)
    # Row by row: all rows at once would be eight bytes each before they become one.
    for row in found[1:]:
        row[:] = rng.multinomial(n, even)
    return found
