"""Input norms: sums of squares of the inputs of linear layers, all that Wanda needs (F2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ima.models.hook_points import attach_input_hooks

if TYPE_CHECKING:
    from ima.models import Batch
    from ima.models.hook_points import HookPoints


@contextmanager
def accumulate_input_norms(
    hook_points: HookPoints, batch: Batch
) -> Iterator[dict[str, list[Tensor]]]:
    """Add up squares of the inputs of linear layers while a model runs, per kind of token.

    Parameters
    ----------
    hook_points : HookPoints
        The blocks.
    batch : Batch
        The batch that runs; its padding does not count.

    Yields
    ------
    dict of str to list of Tensor
        By linear layer, the sums of squares ``(kind, in_features)`` in each block; empty where a
        block has not run.

    Examples
    --------
    >>> with accumulate_input_norms(model.hook_points, batch) as sums:  # doctest: +SKIP
    ...     model.forward(batch)
    >>> sums["mlp.down_proj"][0].shape  # doctest: +SKIP
    torch.Size([2, 352])
    """
    kinds = batch.kinds
    weights, padding = kinds.float(), ~kinds.any(dim=1).unsqueeze(-1)
    samples, _, positions = kinds.shape
    sums = {
        name: [kinds.new_zeros(0)] * hook_points.layers for name in hook_points.linear_in_features
    }

    def add(key: tuple[str, int], value: Tensor) -> None:
        name, layer = key
        # Some blocks flatten (sample, position).
        inputs = value.reshape(samples, positions, value.shape[-1]).float()
        inputs = inputs.masked_fill(padding.to(inputs.device), 0.0)
        added = torch.einsum("skp,spi->ki", weights.to(inputs.device), inputs.square())
        before = sums[name][layer]
        sums[name][layer] = added if before.numel() == 0 else before + added

    linears = {
        (name, layer): block.get_submodule(name)
        for layer, block in enumerate(hook_points.blocks)
        for name in sums
    }
    with attach_input_hooks(linears, add):
        yield sums
