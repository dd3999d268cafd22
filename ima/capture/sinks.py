"""Attention sinks: tokens of extreme norm, and the statistics of a batch without them.

In a real language model, few positions, often the first one, have a norm far above all others
(massive activations; Sun et al. 2024). They rule the mean of a sample and every cosine of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ima.cache.schema import SINK_NORM_RATIO, SINK_POSITIONS


def find_sinks(norm: Tensor, *, kinds: Tensor) -> Tensor:
    """Find the tokens whose norm exceeds ten times the median norm of their kind in their sample.

    The median is that of one kind, because all perceptual tokens of a connector without a norm at
    its output can be far longer than all textual ones.

    Parameters
    ----------
    norm : Tensor
        ``(sample, position)``, L2 norms of the states of one layer.
    kinds : Tensor
        ``(sample, kind, position)``, True where a token is of a kind; padding is of none.

    Returns
    -------
    Tensor
        ``(sample, position)``, True for sinks. The median is the lower one of two.

    Examples
    --------
    >>> norm = torch.tensor([[50.0, 2.0, 3.0, 0.0], [4.0, 2.0, 3.0, 0.0]])
    >>> find_sinks(norm, kinds=(norm > 0).unsqueeze(1)).tolist()
    [[True, False, False, False], [False, False, False, False]]
    """
    ranked = norm.unsqueeze(1).masked_fill(~kinds, torch.inf).sort(dim=-1).values
    middle = (kinds.sum(dim=-1, keepdim=True) - 1).clamp_min(0) // 2
    sinks = kinds & (norm.unsqueeze(1) > SINK_NORM_RATIO * ranked.gather(-1, middle))
    return sinks.any(dim=1)


class SinkStatistics:
    """Collects the sinks of a batch, layer by layer, and its means without them.

    Parameters
    ----------
    kinds : Tensor
        ``(sample, kind, position)``, True where a token is of a kind.
    """

    def __init__(self, *, kinds: Tensor) -> None:
        self._device = kinds.device
        self._stream_sinks: Tensor | None = None
        self._outputs: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        self._layers: dict[str, list[Tensor]] = {
            name: [] for name in ("count", "position", "mean_without", "sum_squares_without")
        }

    def add_layer(self, value: Tensor, *, norm: Tensor, kinds: Tensor, mean: Tensor) -> None:
        """Add one layer of the residual stream.

        Parameters
        ----------
        value : Tensor
            ``(sample, position, hidden)``, float32, zero where a position is padding.
        norm : Tensor
            ``(sample, position)``, the L2 norms.
        kinds : Tensor
            ``(sample, kind, position)``, on the device of `value`.
        mean : Tensor
            ``(sample, kind, hidden)``, the mean over all tokens.
        """
        sinks = self._stream_sinks = find_sinks(norm, kinds=kinds)
        mean_without, squares = _measure_without(sinks, value, kinds=kinds, mean=mean)
        found = {
            "count": (kinds & sinks.unsqueeze(1)).sum(dim=-1),
            "position": _list_positions(sinks, real=kinds.any(dim=1)),
            "mean_without": mean_without,
            "sum_squares_without": squares,
        }
        for name, part in found.items():
            self._layers[name].append(part.to(self._device))

    def add_output(
        self, name: str, value: Tensor, *, norm: Tensor, kinds: Tensor, mean: Tensor
    ) -> None:
        """Add one layer of an output inside the block.

        Left out are the sinks of the stream that the block reads, and tokens whose norm is extreme
        here: a block that makes a sink has not read one.

        Parameters
        ----------
        name : str
            One of :data:`ima.hook_points.OUTPUT_HOOK_POINTS`.
        value, norm, kinds, mean : Tensor
            As for :meth:`add_layer`.
        """
        sinks = find_sinks(norm, kinds=kinds)
        if self._stream_sinks is not None:
            sinks |= self._stream_sinks.to(sinks.device)
        means, squares = self._outputs.setdefault(name, ([], []))
        parts = _measure_without(sinks, value, kinds=kinds, mean=mean)
        for layers, part in zip((means, squares), parts, strict=True):
            layers.append(part.to(self._device))

    def collect_outputs(self) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """Return ``mean`` and ``sum_squares`` of each output in host memory, with ``layer``."""
        return {
            name: {
                "mean": torch.stack(means, dim=2).cpu().numpy(),
                "sum_squares": torch.stack(squares, dim=1).cpu().numpy(),
            }
            for name, (means, squares) in self._outputs.items()
        }

    def collect(self) -> dict[str, npt.NDArray[Any]]:
        """Return the statistics in host memory, with a dim ``layer`` in its place."""
        # The dim of layers comes before hidden, sink, or last.
        places = {"count": 2, "position": 1, "mean_without": 2, "sum_squares_without": 1}
        stacked = {
            name: torch.stack(self._layers[name], dim=dim).cpu().numpy()
            for name, dim in places.items()
        }
        for name in ("count", "position"):
            stacked[name] = stacked[name].astype(np.int32)
        return stacked


def _measure_without(
    sinks: Tensor, value: Tensor, *, kinds: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean and the sum of squares of each dimension over tokens that are no sinks."""
    ordinary = kinds & ~sinks.unsqueeze(1)
    if bool(sinks.any()):
        # A sample without an ordinary token of a kind has no mean of it: 0/0 gives NaN.
        mean = torch.bmm(ordinary.float() / ordinary.sum(dim=-1, keepdim=True), value)
    return mean, torch.bmm(ordinary.float(), value.square()).sum(dim=0)


def _list_positions(sinks: Tensor, *, real: Tensor) -> Tensor:
    """Return the positions of the first sinks, dims (sample, sink); -1 where there is none."""
    end = sinks.shape[-1]
    # Padding may stand on either side; positions count real tokens.
    places = (real.cumsum(dim=-1) - 1).masked_fill(~sinks, end)
    first = places.sort(dim=-1).values[:, :SINK_POSITIONS]
    first = torch.nn.functional.pad(first, (0, SINK_POSITIONS - first.shape[-1]), value=end)
    return first.masked_fill(first == end, -1)
