"""Representation similarity: other measures of alignment beside the IMA score.

All compare two sets of vectors of the same samples, the mean perceptual and the mean textual token
of each. Unlike the cosine, none of them requires that both lie in one direction. With centred sets
X and Y::

    retrieval@1       the most similar y of x_i is y_i
    mutual k-NN       |kNN(x_i) ∩ kNN(y_i)| / k                             Huh et al. 2024
    linear CKA        HSIC(XXᵀ, YYᵀ) / √(HSIC(XXᵀ, XXᵀ) HSIC(YYᵀ, YYᵀ))     Kornblith et al. 2019
    Fréchet distance  |μ_x − μ_y|² + tr(A + B − 2 (AB)^½), over tr(A + B)   Dowson & Landau 1982
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from ima.errors import ParameterError
from ima.measures.similarity import normalize_array
from ima.stats import BoolArray, FloatArray

#: Number of cosines that are in memory at once.
_BLOCK_COSINES = 2**22


def compute_retrieval_hits(
    a: FloatArray, b: FloatArray, *, groups: npt.NDArray[Any] | None = None
) -> FloatArray:
    """Compute whether the most similar vector of the other set belongs to the same sample.

    Chance is one over the number of samples, or over that of a sample's group.

    Parameters
    ----------
    a, b : ndarray
        ``(sample, hidden)``. Similarity is the cosine after each set's mean is subtracted, because
        a shared offset would make all vectors of a set alike.
    groups : ndarray or None
        ``(sample,)``, labels. Only vectors of the same group are compared, and each group's own
        mean is subtracted: what all samples of a group share does not help. None: one group.

    Returns
    -------
    ndarray
        ``(sample,)`` in [0, 1], the mean of both directions. Ties share a hit: where m vectors are
        equally the most similar, as those of equal texts are, the sample's own one counts 1/m.

    Examples
    --------
    >>> a = np.array([[2.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> compute_retrieval_hits(a, a * 3)
    array([1., 1., 1.])
    >>> compute_retrieval_hits(a, a[[1, 0, 2]], groups=np.array([0, 1, 1])).tolist()
    [1.0, 1.0, 1.0]
    """
    _check(a, b)
    if groups is not None and len(labels := np.unique(groups)) > 1:
        hits = np.empty(len(a))
        for label in labels:
            rows = groups == label
            hits[rows] = compute_retrieval_hits(a[rows], b[rows]) if rows.sum() > 1 else 1.0
        return hits
    own, other = normalize_array(_centre(a)), normalize_array(_centre(b))
    return (_find_own_best(own, other) + _find_own_best(other, own)) / 2


def _find_own_best(a: FloatArray, b: FloatArray) -> FloatArray:
    hits = np.empty(len(a))
    step = max(1, _BLOCK_COSINES // len(b))
    for start in range(0, len(a), step):
        cosines = a[start : start + step] @ b.T
        best = cosines >= cosines.max(axis=1, keepdims=True) - 1e-12
        hits[start : start + step] = np.diagonal(best, start) / best.sum(axis=1)
    return hits


def compute_mutual_knn(a: FloatArray, b: FloatArray, *, k: int = 10) -> FloatArray:
    """Compute the fraction of a sample's k nearest neighbours that both sets agree on.

    The mutual k-nearest-neighbour metric of Huh et al. 2024 (arXiv:2405.07987). Chance is
    ``k / (n - 1)``.

    Parameters
    ----------
    a, b : ndarray
        ``(sample, hidden)``. Neighbours are nearest by cosine after each set's mean is subtracted.
    k : int
        Number of neighbours; a sample is not its own neighbour.

    Returns
    -------
    ndarray
        ``(sample,)`` in [0, 1].

    Examples
    --------
    >>> a = np.array([[2.0, 0.0], [2.0, 0.1], [-2.0, 0.0], [-2.0, 0.1]])
    >>> compute_mutual_knn(a, a * 3, k=1)
    array([1., 1., 1., 1.])
    """
    _check(a, b)
    if not 1 <= k < len(a) - 1:
        raise ParameterError(
            f"k must be between 1 and the number of samples less 2, {len(a) - 2}; got {k}."
        )
    near = [_find_nearest(vectors, k) for vectors in (a, b)]
    shared: FloatArray = (near[0] & near[1]).sum(axis=1) / k
    return shared


def _find_nearest(vectors: FloatArray, k: int) -> BoolArray:
    directions = normalize_array(_centre(vectors))
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.zeros(cosines.shape, dtype=bool)
    np.put_along_axis(near, np.argsort(-cosines, axis=1, kind="stable")[:, :k], True, axis=1)
    return near


def compute_cka(a: FloatArray, b: FloatArray) -> float:
    """Compute linear centred kernel alignment without the bias of small samples.

    Kornblith et al. 2019 (arXiv:1905.00414) with the unbiased HSIC of Song et al. 2012, as in
    Nguyen et al. 2021 (arXiv:2010.15327). It is 0 on average for unrelated sets, whatever the
    number of samples, and 1 for sets that agree up to rotation and scale.

    Parameters
    ----------
    a, b : ndarray
        ``(sample, hidden)``; at least four samples.

    Returns
    -------
    float
        At most 1; below 0 by chance.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(10, 3))
    >>> round(compute_cka(a, 2 * a[:, ::-1] + 5), 9)
    1.0
    """
    _check(a, b)
    if len(a) < 4:
        raise ParameterError(f"CKA without bias needs at least 4 samples; got {len(a)}.")
    kernels = [side @ side.T for side in (_centre(a), _centre(b))]
    own = [_compute_hsic(kernel, kernel) for kernel in kernels]
    if min(own) <= 0:
        raise ParameterError(
            "CKA compares differences between samples; all samples of one set are equal."
        )
    return float(_compute_hsic(*kernels) / np.sqrt(own[0] * own[1]))


def _compute_hsic(k: FloatArray, m: FloatArray) -> float:
    """Compute the unbiased HSIC of two kernels ``(sample, sample)`` (Song et al. 2012)."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    whole = (k * m).sum()
    means = k.sum() * m.sum() / ((n - 1) * (n - 2))
    rows = 2 / (n - 2) * (k.sum(axis=0) @ m.sum(axis=0))
    return float((whole + means - rows) / (n * (n - 3)))


def compute_frechet_distance(a: FloatArray, b: FloatArray) -> float:
    """Compute the Fréchet distance of two sets as normal distributions, relative to their spread.

    ``|mean_a - mean_b|² + tr(A + B - 2 (A B)^½)`` (Dowson & Landau 1982) over ``tr(A + B)``, with
    the covariances A and B, so that layers of different scale can be compared. The trace of the
    root is the sum of the singular values of the sets' cross product. This needs no covariance, so
    the number of samples may be below the number of dims.

    Parameters
    ----------
    a, b : ndarray
        ``(sample, hidden)``; rows need not match, nor their number.

    Returns
    -------
    float
        0 for equal sets. Fewer samples than dims increase it: compare it with the distance between
        two halves of one set.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(abs(compute_frechet_distance(a, a)), 9)
    0.0
    """
    x, y = _centre(a), _centre(b)
    spread = (x**2).sum() / (len(x) - 1) + (y**2).sum() / (len(y) - 1)
    if not spread > 0:
        raise ParameterError("A Fréchet distance needs sets with some spread.")
    # The singular values of x yᵀ are those of the product of their small QR triangles.
    small = [linalg.qr(side, mode="r")[0][: side.shape[1]] for side in (x, y)]
    product = small[0] @ small[1].T
    root = np.linalg.svd(product, compute_uv=False).sum() / np.sqrt((len(x) - 1) * (len(y) - 1))
    apart = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float((apart + spread - 2 * root) / spread)


def _check(a: FloatArray, b: FloatArray) -> None:
    if len(a) != len(b) or len(a) < 2:
        raise ParameterError(
            f"Both sets need the same samples, at least 2; got {len(a)} and {len(b)}."
        )


def _centre(vectors: FloatArray) -> FloatArray:
    centred: FloatArray = vectors - vectors.mean(axis=0)
    return centred
