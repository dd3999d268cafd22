"""Input norms: sums of squares of the inputs of linear layers, all that Wanda needs (F2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ima.models import Batch
    from ima.models.hook_points import HookPoints


class InputNormAccumulator:
    """Sums of squares of each input of every linear layer of the blocks, per kind of token.

    Parameters
    ----------
    hook_points : HookPoints
        The blocks.
    batch : Batch
        The batch that will run; its padding does not count.
    """

    def __init__(self, hook_points: HookPoints, batch: Batch) -> None:
        self.hook_points, kinds = hook_points, batch.kinds
        self.weights = kinds.float()
        self.padding = ~kinds.any(dim=1).unsqueeze(-1)
        self.sums: dict[str, list[Tensor]] = {
            name: [kinds.new_zeros(0)] * hook_points.layers
            for name in hook_points.linear_in_features
        }

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        """Add up squares while the model runs; remove the hooks afterwards."""
        with ExitStack() as hooks:
            for layer, block in enumerate(self.hook_points.blocks):
                for name in self.hook_points.linear_in_features:
                    linear = block.get_submodule(name)

                    def receive(
                        _: nn.Module,
                        args: tuple[Any, ...],
                        name: str = name,
                        layer: int = layer,
                    ) -> None:
                        self._add(name, layer, args[0])

                    hooks.callback(linear.register_forward_pre_hook(receive).remove)
            yield

    def _add(self, name: str, layer: int, value: Tensor) -> None:
        samples, _, positions = self.weights.shape
        # Some blocks flatten (sample, position).
        inputs = value.reshape(samples, positions, value.shape[-1]).float()
        inputs = inputs.masked_fill(self.padding.to(inputs.device), 0.0)
        added = torch.einsum("skp,spi->ki", self.weights.to(inputs.device), inputs.square())
        before = self.sums[name][layer]
        self.sums[name][layer] = added if before.numel() == 0 else before + added

    def get_sums(self) -> dict[str, Tensor]:
        """Return the sums of squares ``(kind, layer, in_features)`` of each linear layer."""
        device = self.weights.device
        return {
            name: torch.stack([layer.to(device) for layer in layers], dim=1)
            for name, layers in self.sums.items()
        }
