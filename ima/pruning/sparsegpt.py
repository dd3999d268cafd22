"""SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774): kept weights compensate for removed (I4).

A linear layer is pruned column by column. The inverse of the inputs' second moments distributes the
output error of a removed weight over the columns to its right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ima.errors import ParameterError
from ima.models.hook_points import attach_input_hooks, get_weight
from ima.models.linear_layers import get_linear
from ima.pruning.masks import Masks
from ima.pruning.wanda import iterate_blocks, restore_weights

if TYPE_CHECKING:
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

#: Columns that are pruned before the columns to their right are updated.
COLUMN_BLOCK_SIZE = 128
#: Fraction of the mean second moment that is added to each second moment, so that they can be
#: inverted.
DAMPING = 0.01


@torch.no_grad()
def solve_sparsegpt_layer(
    weight: Tensor,
    moments: Tensor,
    *,
    sparsity: float = 0.5,
    pattern: tuple[int, int] | None = None,
    block_size: int = COLUMN_BLOCK_SIZE,
    damping: float = DAMPING,
) -> tuple[Tensor, Tensor]:
    """Prune one linear layer and update the kept weights.

    Parameters
    ----------
    weight : Tensor
        ``(out_features, in_features)``; unchanged afterwards.
    moments : Tensor
        ``(in_features, in_features)``: products of inputs, summed over calibration tokens. A common
        factor has no effect.
    sparsity : float
        Fraction of the weights of each block of columns that is removed.
    pattern : (int, int) or None
        If (N, M), N of every M neighbouring weights are removed instead.
    block_size : int
        Columns in a block; a multiple of M.
    damping : float
        See :data:`DAMPING`.

    Returns
    -------
    weight : Tensor
        ``(out_features, in_features)`` float32, updated, zero where removed.
    kept : Tensor
        ``(out_features, in_features)`` bool.

    Raises
    ------
    ParameterError
        If the shapes do not match or the sparsity is outside [0, 1).

    Examples
    --------
    The second input equals the first, so its weight takes over:

    >>> moments = torch.ones(2, 2)
    >>> weight, kept = solve_sparsegpt_layer(torch.tensor([[1.0, 2.0]]), moments)
    >>> kept
    tensor([[False,  True]])
    >>> weight.round(decimals=2)
    tensor([[0.0000, 2.9900]])
    """
    columns = weight.shape[1]
    if moments.shape != (columns, columns):
        raise ParameterError(
            f"Weights {tuple(weight.shape)} and moments {tuple(moments.shape)} do not match."
        )
    if not 0 <= sparsity < 1:
        raise ParameterError(f"sparsity must be at least 0 and below 1; got {sparsity}.")
    w, h = weight.detach().float().clone(), moments.detach().double().clone()
    dead = h.diagonal() == 0
    h[dead, dead] = 1.0
    w[:, dead] = 0.0
    h.diagonal().add_(damping * h.diagonal().mean())
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    inverse = factor.float()
    kept = torch.ones_like(w, dtype=torch.bool)
    for start in range(0, columns, block_size):
        block = slice(start, min(start + block_size, columns))
        errors = _prune_columns(
            w[:, block], kept[:, block], inverse[block, block], sparsity, pattern
        )
        w[:, block.stop :] -= errors @ inverse[block, block.stop :]
    return w.masked_fill(~kept, 0.0), kept


def _prune_columns(
    w: Tensor, kept: Tensor, inverse: Tensor, sparsity: float, pattern: tuple[int, int] | None
) -> Tensor:
    """Prune a block of columns in place; return the scaled error of each removal."""
    diagonal = inverse.diagonal()
    if pattern is None:
        scores = (w / diagonal).square().reshape(-1)
        least = scores.argsort(stable=True)[: int(scores.numel() * sparsity)]
        kept.copy_(torch.ones_like(scores, dtype=torch.bool).scatter(0, least, False).view_as(w))
    errors = torch.zeros_like(w)
    for column in range(w.shape[1]):
        if pattern is not None and column % pattern[1] == 0:
            group = slice(column, column + pattern[1])
            scores = (w[:, group] / diagonal[group]).square()
            least = scores.argsort(dim=1, stable=True)[:, : pattern[0]]
            kept[:, group] = torch.ones_like(scores, dtype=torch.bool).scatter(1, least, False)
        pruned = torch.where(kept[:, column], w[:, column], 0.0)
        error = (w[:, column] - pruned) / diagonal[column]
        w[:, column + 1 :] -= error[:, None] * inverse[column, column + 1 :]
        w[:, column] = pruned
        errors[:, column] = error
    return errors


def _compute_input_moments(
    linears: Mapping[str, nn.Linear], batches: Sequence[Batch], run: Callable[[int], Tensor]
) -> dict[str, Tensor]:
    """Return second moments of the inputs of a block's linear layers; padding does not count."""
    moments: dict[str, Tensor] = {}
    for index, batch in enumerate(batches):
        real = (batch.modality >= 0).reshape(-1)

        def add(name: str, value: Tensor, real: Tensor = real) -> None:
            inputs = value.reshape(-1, value.shape[-1])[real.to(value.device)].float()
            moments[name] = moments.get(name, 0.0) + inputs.T @ inputs

        with attach_input_hooks(linears, add):
            run(index)
    return moments


@torch.no_grad()
def compute_sparsegpt_masks(
    model: FrozenModel,
    batches: Sequence[Batch],
    *,
    sparsity: float = 0.5,
    pattern: tuple[int, int] | None = None,
) -> Masks:
    """Prune the blocks of a model one by one, each calibrated on the output of the pruned blocks.

    Parameters
    ----------
    model : FrozenModel
        The model; unchanged afterwards.
    batches : sequence of Batch
        The calibration set, from one model or from several that share their language model.
    sparsity : float
        Fraction of the weights that is removed.
    pattern : (int, int) or None
        If (N, M), N of every M neighbouring weights are removed instead.

    Returns
    -------
    Masks
        The kept weights, with their updated values.

    Examples
    --------
    >>> masks = compute_sparsegpt_masks(model, model.encode_batches(samples))  # doctest: +SKIP
    >>> masks.updated_weights["mlp.up_proj"].shape  # doctest: +SKIP
    (12, 352, 128)
    """
    kept: dict[str, list[npt.NDArray[np.bool_]]] = {
        name: [] for name in model.hook_points.linear_in_features
    }
    updated: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in kept}
    every = [get_linear(block, name) for block in model.hook_points.blocks for name in kept]
    with restore_weights(every):
        for _, block, run in iterate_blocks(model, batches):
            linears = {name: get_linear(block, name) for name in kept}
            moments = _compute_input_moments(linears, batches, run)
            for name, linear in linears.items():
                weight, mask = solve_sparsegpt_layer(
                    get_weight(linear), moments[name], sparsity=sparsity, pattern=pattern
                )
                get_weight(linear).copy_(weight)
                kept[name].append(mask.cpu().numpy())
                updated[name].append(weight.cpu().numpy())
    attributes = {
        "method": "sparsegpt",
        "sequential": True,
        "sparsity": sparsity,
        "model": model.name,
        "weights_hash": model.weights_hash,
        "samples": sum(map(len, batches)),
    }
    return Masks(
        {name: np.stack(masks) for name, masks in kept.items()},
        attributes,
        {name: np.stack(weights) for name, weights in updated.items()},
    )
