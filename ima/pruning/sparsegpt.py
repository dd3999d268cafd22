"""SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774): kept weights compensate for removed (I4).

A linear layer is pruned column by column. The inverse of the inputs' second moments distributes the
output error of a removed weight over the columns to its right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ima.errors import ParameterError
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
        message = f"Weights {tuple(weight.shape)} and moments {tuple(moments.shape)} do not match."
        raise ParameterError(message)
    if not 0 <= sparsity < 1:
        message = f"sparsity must be at least 0 and below 1; got {sparsity}."
        raise ParameterError(message)
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


class _InputMoments:
    """Second moments of the inputs of a block's linear layers; padding does not count."""

    def __init__(self, model: FrozenModel, block: nn.Module) -> None:
        self.sums: dict[str, Tensor] = {}
        self.linears = {
            name: get_linear(block, name) for name in model.hook_points.linear_in_features
        }

    def add(self, batch: Batch, run: Callable[[], None]) -> None:
        """Add the inputs that arrive while a block runs on a batch."""
        real = (batch.modality >= 0).reshape(-1)
        with ExitStack() as hooks:
            for name, linear in self.linears.items():

                def receive(_: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                    inputs = args[0].reshape(-1, args[0].shape[-1])[real.to(args[0].device)].float()
                    self.sums[name] = self.sums.get(name, 0.0) + inputs.T @ inputs

                hooks.callback(linear.register_forward_pre_hook(receive).remove)
            run()


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
    linears = [get_linear(block, name) for block in model.hook_points.blocks for name in kept]
    with restore_weights(linears):
        for _, block, run in iterate_blocks(model, batches):
            moments = _InputMoments(model, block)
            for index, batch in enumerate(batches):
                moments.add(batch, partial(run, index))
            for name, linear in moments.linears.items():
                weight, mask = solve_sparsegpt_layer(
                    linear.weight, moments.sums[name], sparsity=sparsity, pattern=pattern
                )
                linear.weight.copy_(weight)
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
