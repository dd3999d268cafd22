"""Input norms: sums of squares of the inputs of linear layers, all that Wanda needs (F2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ima.capture.token_masks import TokenMasks
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
    masks = TokenMasks.from_kinds(batch.kinds)
    samples, _, positions = masks.kinds.shape
    sums = {
        name: [masks.kinds.new_zeros(0)] * hook_points.layers
        for name in hook_points.linear_in_features
    }
    on_device = {masks.kinds.device: masks}
    last: list[tuple[Tensor, int, Tensor]] = []

    def measure(value: Tensor) -> Tensor:
        if value.device not in on_device:
            on_device[value.device] = masks.to(value.device)
        here = on_device[value.device]
        # Some blocks flatten (sample, position).
        squares = value.reshape(samples, positions, value.shape[-1]).float().square()
        return torch.bmm(here.indicators, here.zero_padding(squares)).sum(dim=0)

    def add(key: tuple[str, int], value: Tensor) -> None:
        name, layer = key
        # Queries, keys and values are computed from one tensor, and so are gate and up.
        version = 0 if value.is_inference() else value._version
        if not (last and last[0][0] is value and last[0][1] == version):
            last[:] = [(value, version, measure(value))]
        added = last[0][2]
        before = sums[name][layer]
        sums[name][layer] = added if before.numel() == 0 else before + added

    linears = {
        (name, layer): block.get_submodule(name)
        for layer, block in enumerate(hook_points.blocks)
        for name in sums
    }
    with attach_input_hooks(linears, add):
        yield sums
