"""SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774): weights make up for those removed (I4).

Rows of a linear layer are pruned column by column; what a removed weight did to the outputs is
spread over the columns to its right by the inverse of the inputs' second moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ima.errors import ParameterError
from ima.pruning.masks import Masks
from ima.pruning.wanda import iterate_blocks, restore_weights

if TYPE_CHECKING:
    from ima.models import Batch
    from ima.models.frozen import FrozenModel

#: Columns that are pruned before the columns behind them hear of it.
COLUMN_BLOCK_SIZE = 128
#: Of the mean second moment, added to each, so that the inverse exists.
DAMPING = 0.01


@torch.no_grad()
def solve_sparsegpt_layer(
    weight: Tensor,
    moments: Tensor,
    *,
    sparsity: float = 0.5,
    pattern: tuple[int, int] | None = None,
    block: int = COLUMN_BLOCK_SIZE,
    damping: float = DAMPING,
) -> tuple[Tensor, Tensor]:
    """Prune one linear layer and update what is left.

    Parameters
    ----------
    weight : Tensor
        ``(out_features, in_features)``; not changed.
    moments : Tensor
        ``(in_features, in_features)``: sums over calibration tokens of the products of inputs. A
        common factor changes nothing.
    sparsity : float
        Share of the weights of each block of columns that is removed.
    pattern : (int, int) or None
        So many of so many neighbours are removed instead, as in 2:4.
    block : int
        Columns at a time; a multiple of the pattern's length.
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
        If the sizes differ or the share is not in [0, 1).
    """
    columns = weight.shape[1]
    if moments.shape != (columns, columns):
        message = f"Weights {tuple(weight.shape)} and moments {tuple(moments.shape)} do not fit."
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
    for start in range(0, columns, block):
        part = slice(start, min(start + block, columns))
        errors = _columns(w[:, part], kept[:, part], inverse[part, part], sparsity, pattern)
        w[:, part.stop :] -= errors @ inverse[part, part.stop :]
    return w.masked_fill(~kept, 0.0), kept


def _columns(
    w: Tensor, kept: Tensor, inverse: Tensor, sparsity: float, pattern: tuple[int, int] | None
) -> Tensor:
    """Prune a block of columns in place; return what each weight's removal costs, scaled."""
    diagonal = inverse.diagonal()
    if pattern is None:
        scores = (w / diagonal).square().reshape(-1)
        count = int(scores.numel() * sparsity)
        kept.copy_(kept & _without_least(scores, count).reshape(w.shape))
    errors = torch.zeros_like(w)
    for at in range(w.shape[1]):
        if pattern is not None and at % pattern[1] == 0:
            ahead = slice(at, at + pattern[1])
            scores = (w[:, ahead] / diagonal[ahead]).square()
            least = scores.argsort(dim=1, stable=True)[:, : pattern[0]]
            kept[:, ahead] = torch.ones_like(scores, dtype=torch.bool).scatter(1, least, False)
        held = torch.where(kept[:, at], w[:, at], 0.0)
        error = (w[:, at] - held) / diagonal[at]
        w[:, at + 1 :] -= error[:, None] * inverse[at, at + 1 :]
        w[:, at] = held
        errors[:, at] = error
    return errors


def _without_least(scores: Tensor, count: int) -> Tensor:
    kept = torch.ones_like(scores, dtype=torch.bool)
    kept[scores.argsort(stable=True)[:count]] = False
    return kept


class _Moments:
    """Sums of products of the inputs of a block's linear layers; padding counts nowhere."""

    def __init__(self, model: FrozenModel, block: nn.Module) -> None:
        self.sums: dict[str, Tensor] = {}
        self.linears: dict[str, Any] = {
            name: block.get_submodule(name) for name in model.anatomy.linears
        }

    def add(self, batch: Batch, run: Any) -> None:
        """Add what enters while a block runs on a batch."""
        real = (batch.modality >= 0).reshape(-1)
        with ExitStack() as hooks:
            for name, linear in self.linears.items():

                def receive(_: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                    rows = args[0].reshape(-1, args[0].shape[-1])[real.to(args[0].device)].float()
                    self.sums[name] = self.sums.get(name, 0.0) + rows.T @ rows

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
    """Prune the blocks of a model, one after the other, each fed by the pruned ones.

    Parameters
    ----------
    model : FrozenModel
        Unchanged afterwards.
    batches : sequence of Batch
        The calibration set as the language model reads it: of one model, or of several that share
        their language model.
    sparsity : float
        Share of the weights that is removed.
    pattern : (int, int) or None
        So many of so many neighbours instead.

    Returns
    -------
    Masks
        What was kept, and what it became.
    """
    kept: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in model.anatomy.linears}
    values: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in kept}
    with restore_weights(model):
        for _, block, run in iterate_blocks(model, batches):
            moments = _Moments(model, block)
            for number, batch in enumerate(batches):
                moments.add(batch, partial(run, number))
            for name, linear in moments.linears.items():
                weight, mask = solve_sparsegpt_layer(
                    linear.weight, moments.sums[name], sparsity=sparsity, pattern=pattern
                )
                linear.weight.copy_(weight)
                kept[name].append(mask.cpu().numpy())
                values[name].append(weight.cpu().numpy())
    about = {
        "method": "sparsegpt",
        "sequential": True,
        "sparsity": sparsity,
        "model": model.name,
        "weights_hash": model.weights_hash,
        "samples": sum(map(len, batches)),
    }
    stacked = {name: np.stack(weights) for name, weights in values.items()}
    return Masks({name: np.stack(masks) for name, masks in kept.items()}, about, stacked)
