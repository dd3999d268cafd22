"""Do matched pairs fit? Other measures of alignment, beside the IMA score.

All compare two sets of vectors of the same samples, row by row: the mean perceptual and the mean
textual token of each. None of them asks that both lie in one direction, as the cosine does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import linalg

from ima.errors import ParameterError
from ima.measures.similarity import FloatArray, normalize_array


def compute_retrieval_hits(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return whether the most similar vector of the other set is the sample's own (retrieval@1).

    Chance is one over the number of samples.

    Parameters
    ----------
    a, b : ndarray
        ``(sample, hidden)``; similarity is the cosine after each set's mean is taken away, because
        a shared offset would make all vectors of a set alike.

    Returns
    -------
    ndarray
        ``(sample,)`` in [0, 1], the mean of both directions. Where several vectors are equally the
        most similar, as those of equal texts are, the own one counts as one of them.

    Examples
    --------
    >>> a = np.array([[2.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> retrieval(a, a * 3)
    array([1., 1., 1.])
    """
    _check(a, b)
    cosines = normalize_array(_centred(a)) @ normalize_array(_centred(b)).T
    return (_own_first(cosines) + _own_first(cosines.T)) / 2


def _own_first(cosines: FloatArray) -> FloatArray:
    best = cosines >= cosines.max(axis=1, keepdims=True) - 1e-12
    found: FloatArray = np.diag(best) / best.sum(axis=1)
    return found


def compute_mutual_knn(a: FloatArray, b: FloatArray, *, k: int = 10) -> FloatArray:
    """Return which share of a sample's k nearest neighbours is the same in both sets.

    The mutual k-nearest-neighbour metric of Huh et al. 2024 (arXiv:2405.07987). Chance is
    ``k / (n - 1)``.

    Parameters
    ----------
    a, b : ndarray
        ``(sample, hidden)``; nearest by cosine, each set's mean taken away.
    k : int
        Number of neighbours, a sample itself not counted.

    Returns
    -------
    ndarray
        ``(sample,)`` in [0, 1].
    """
    _check(a, b)
    if not 1 <= k < len(a) - 1:
        message = f"k must be between 1 and the number of samples less 2, {len(a) - 2}; got {k}."
        raise ParameterError(message)
    near = [_nearest(vectors, k) for vectors in (a, b)]
    shared: FloatArray = (near[0] & near[1]).sum(axis=1) / k
    return shared


def _nearest(vectors: FloatArray, k: int) -> npt.NDArray[np.bool_]:
    directions = normalize_array(_centred(vectors))
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.zeros(cosines.shape, dtype=bool)
    np.put_along_axis(near, np.argsort(-cosines, axis=1, kind="stable")[:, :k], True, axis=1)
    return near


def compute_cka(a: FloatArray, b: FloatArray) -> float:
    """Return linear centred kernel alignment, without the bias that few samples bring.

    Kornblith et al. 2019 (arXiv:1905.00414) with the unbiased HSIC of Song et al. 2012, as in
    Nguyen et al. 2021 (arXiv:2010.15327): 0 on average for sets that have nothing to do with each
    other, whatever the number of samples; 1 for sets that agree up to rotation and scale.

    Parameters
    ----------
    a, b : ndarray
        ``(sample, hidden)``; at least four samples.

    Returns
    -------
    float
        At most 1; below 0 by chance.
    """
    _check(a, b)
    if len(a) < 4:
        message = f"CKA without bias needs at least 4 samples; got {len(a)}."
        raise ParameterError(message)
    kernels = [side @ side.T for side in (_centred(a), _centred(b))]
    own = [_hsic(kernel, kernel) for kernel in kernels]
    if min(own) <= 0:
        message = "CKA compares differences between samples; in one set there are none."
        raise ParameterError(message)
    return float(_hsic(*kernels) / np.sqrt(own[0] * own[1]))


def _hsic(k: FloatArray, m: FloatArray) -> float:
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    whole = (k * m).sum()
    means = k.sum() * m.sum() / ((n - 1) * (n - 2))
    rows = 2 / (n - 2) * (k.sum(axis=0) @ m.sum(axis=0))
    return float((whole + means - rows) / (n * (n - 3)))


def compute_frechet_distance(a: FloatArray, b: FloatArray) -> float:
    """Return the Fréchet distance of two sets seen as normal distributions, as a share of spread.

    ``|mean_a - mean_b|² + tr(A + B - 2 (A B)^½)`` (Dowson & Landau 1982) over ``tr(A + B)``, with
    the covariances A and B, so that layers of different scale can be compared. The trace of the
    root is the sum of the singular values of the sets' cross product, which needs no covariance:
    the number of samples may be below the number of dims.

    Parameters
    ----------
    a, b : ndarray
        ``(sample, hidden)``; rows need not match, nor their number.

    Returns
    -------
    float
        0 for equal sets. Fewer samples than dims make it larger: compare it with the distance of
        two halves of one set.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(abs(frechet(a, a)), 9)
    0.0
    """
    x, y = _centred(a), _centred(b)
    spread = (x**2).sum() / (len(x) - 1) + (y**2).sum() / (len(y) - 1)
    if not spread > 0:
        message = "A Fréchet distance needs sets with some spread."
        raise ParameterError(message)
    # The singular values of x yᵀ are those of the small triangles of both.
    small = [linalg.qr(side, mode="r")[0][: side.shape[1]] for side in (x, y)]
    product = small[0] @ small[1].T
    root = np.linalg.svd(product, compute_uv=False).sum() / np.sqrt((len(x) - 1) * (len(y) - 1))
    apart = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float((apart + spread - 2 * root) / spread)


def _check(a: FloatArray, b: FloatArray) -> None:
    if len(a) != len(b) or len(a) < 2:
        message = f"Both sets need the same samples, at least 2; got {len(a)} and {len(b)}."
        raise ParameterError(message)


def _centred(vectors: FloatArray) -> FloatArray:
    centred: FloatArray = vectors - vectors.mean(axis=0)
    return centred
