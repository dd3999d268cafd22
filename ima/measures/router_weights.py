"""Do the routers of modalities differ? A permutation test over learned tokens (OneLLM).

A router gives each learned token of its modality a weight for each expert. The statistic is the
fraction of the variance of these weights that lies between modalities. The null exchanges the
modalities of the tokens at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.errors import ParameterError
from ima.stats import FloatArray


@dataclass(frozen=True)
class RouterDifference:
    """How much of the variance of router weights lies between modalities.

    Parameters
    ----------
    share : float
        The fraction, from 0 (all modalities have the same mean weights) to 1.
    null : float
        Its mean over permutations.
    null_high : float
        The value that 5 % of the permutations reach.
    p : float
        Fraction of permutations, the observed order included, with at least this share.
    n : int
        Number of learned tokens of all modalities: what is permuted.
    """

    share: float
    null: float
    null_high: float
    p: float
    n: int

    def __str__(self) -> str:
        return (
            f"{self.share:.2f} (permuted: {self.null:.2f}, 95 % below {self.null_high:.2f}; "
            f"p = {self.p:.4f}, n = {self.n} tokens)"
        )


def compare_routers(
    weight: xr.DataArray, *, permutations: int = 9999, seed: int = 0
) -> RouterDifference:
    """Test whether router weights differ between modalities by more than between tokens.

    Parameters
    ----------
    weight : xarray.DataArray
        ``(modality, query, expert)``, from
        :func:`ima.models.universal_connector.read_router_weights`.
    permutations : int
        Number of random orders of all tokens.
    seed : int
        Seed of the random orders.

    Returns
    -------
    RouterDifference
        The share is 0 where all weights are equal.

    Raises
    ------
    ParameterError
        If there are fewer than two modalities or two tokens of each.

    Examples
    --------
    >>> rows = [[[1.0, 0.0]] * 4, [[0.0, 1.0]] * 4]
    >>> dims = ("modality", "query", "expert")
    >>> print(compare_routers(xr.DataArray(rows, dims=dims), permutations=99))
    1.00 (permuted: 0.16, 95 % below 0.25; p = 0.0500, n = 8 tokens)
    """
    values = weight.transpose("modality", "query", "expert").to_numpy().astype(np.float64)
    modalities, queries, _ = values.shape
    if modalities < 2 or queries < 2:
        raise ParameterError(
            f"A comparison of routers needs 2 modalities with 2 tokens each; got {modalities} with "
            f"{queries}."
        )
    rows = values.reshape(modalities * queries, -1)
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(len(rows)), (permutations, 1)), axis=1)
    shares = _compute_shares(rows, orders, queries=queries)
    share = float(_compute_shares(rows, np.arange(len(rows))[None], queries=queries)[0])
    # Sums of floats depend on their order.
    reached = int((shares >= share - 1e-12).sum())
    return RouterDifference(
        share=share,
        null=float(shares.mean()),
        null_high=float(np.quantile(shares, 0.95)),
        p=(1 + reached) / (1 + permutations),
        n=len(rows),
    )


def _compute_shares(rows: FloatArray, orders: npt.NDArray[np.int64], *, queries: int) -> FloatArray:
    """Return the share of the variance between groups of rows, for each order of the rows."""
    centred = rows - rows.mean(axis=0)
    total = float((centred**2).sum())
    if total == 0:
        return np.zeros(len(orders))
    groups = centred[orders].reshape(len(orders), -1, queries, rows.shape[1]).mean(axis=2)
    shares: FloatArray = queries * (groups**2).sum(axis=(1, 2)) / total
    return shares
