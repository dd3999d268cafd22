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

from ima.cache.schema import SINK_POSITIONS
from ima.capture.token_masks import TokenMasks
from ima.hook_points import SINK_NORM_RATIO


def find_sinks(norm: Tensor, *, masks: TokenMasks) -> Tensor:
    """Find the tokens whose norm exceeds ten times the median norm of their kind in their sample.

    The median is that of one kind, because all perceptual tokens of a connector without a norm at
    its output can be far longer than all textual ones.

    Parameters
    ----------
    norm : Tensor
        ``(sample, position)``, L2 norms of the states of one layer.
    masks : TokenMasks
        Which tokens are of which kind; padding is of none.

    Returns
    -------
    Tensor
        ``(sample, position)``, True for sinks. The median is the lower one of two.

    Examples
    --------
    >>> norm = torch.tensor([[50.0, 2.0, 3.0, 0.0], [4.0, 2.0, 3.0, 0.0]])
    >>> find_sinks(norm, masks=TokenMasks.from_kinds((norm > 0).unsqueeze(1))).tolist()
    [[True, False, False, False], [False, False, False, False]]
    """
    spread = norm.unsqueeze(1)
    ranked = spread.masked_fill(masks.others, torch.inf).sort(dim=-1).values
    sinks = masks.kinds & (spread > SINK_NORM_RATIO * ranked.gather(-1, masks.lower_middle))
    return sinks.any(dim=1)


def may_have_sinks(norm: Tensor, *, masks: TokenMasks) -> bool:
    """Return False if the norms are so alike that none can exceed ten times a median.

    Ranking the norms of a layer takes as long as a pass over the states of a small model.

    Examples
    --------
    >>> norm = torch.tensor([[9.0, 1.0, 0.0], [4.0, 2.0, 3.0]])
    >>> may_have_sinks(norm, masks=TokenMasks.from_kinds((norm > 0).unsqueeze(1)))
    False
    """
    if masks.has_padding:
        norm = norm.flatten().index_select(0, masks.real_rows)
    least, most = torch.aminmax(norm)
    # NaN compares as False: the ranking sees it.
    return not bool(most <= SINK_NORM_RATIO * least)


class SinkStatistics:
    """Collects the sinks of a batch, layer by layer, and its means without them.

    Parameters
    ----------
    masks : TokenMasks
        Which tokens are of which kind, on the device where the statistics are kept.
    """

    def __init__(self, *, masks: TokenMasks) -> None:
        self._masks = masks
        self._device = masks.kinds.device
        self._stream_sinks: Tensor | None = None
        self._outputs: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        self._layers: dict[str, list[Tensor]] = {
            name: [] for name in ("count", "position", "mean_without", "sum_squares_without")
        }
        samples = len(masks.kinds)
        self._no_count = masks.counts.new_zeros(masks.counts.shape)
        self._no_position = masks.counts.new_full((samples, SINK_POSITIONS), -1)

    def add_layer(self, value: Tensor, *, norm: Tensor, masks: TokenMasks, mean: Tensor) -> None:
        """Add one layer of the residual stream.

        Parameters
        ----------
        value : Tensor
            ``(sample, position, hidden)``, float32; squares are finite where a position is padding.
        norm : Tensor
            ``(sample, position)``, the L2 norms.
        masks : TokenMasks
            On the device of `value`.
        mean : Tensor
            ``(sample, kind, hidden)``, the mean over all tokens.
        """
        sinks = self._stream_sinks = _find_any_sinks(norm, masks=masks)
        mean_without, squares = _measure_without(sinks, value, masks=masks, mean=mean)
        count, position = self._no_count, self._no_position
        if sinks is not None:
            count = (masks.kinds & sinks.unsqueeze(1)).sum(dim=-1)
            position = _list_positions(sinks, real=masks.kinds.any(dim=1))
        found = {
            "count": count,
            "position": position,
            "mean_without": mean_without,
            "sum_squares_without": squares,
        }
        for name, part in found.items():
            self._layers[name].append(part.to(self._device))

    def add_output(
        self, name: str, value: Tensor, *, norm: Tensor, masks: TokenMasks, mean: Tensor
    ) -> None:
        """Add one layer of an output inside the block.

        Left out are the sinks of the stream that the block reads, and tokens whose norm is extreme
        here: a block that makes a sink has not read one.

        Parameters
        ----------
        name : str
            One of :data:`ima.hook_points.OUTPUT_HOOK_POINTS`.
        value, norm, masks, mean : Tensor or TokenMasks
            As for :meth:`add_layer`.
        """
        sinks = _find_any_sinks(norm, masks=masks)
        if self._stream_sinks is not None:
            stream = self._stream_sinks.to(norm.device)
            sinks = stream if sinks is None else sinks | stream
        means, squares = self._outputs.setdefault(name, ([], []))
        parts = _measure_without(sinks, value, masks=masks, mean=mean)
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


def _find_any_sinks(norm: Tensor, *, masks: TokenMasks) -> Tensor | None:
    """Return the sinks of a layer, or None if no token is one."""
    if not may_have_sinks(norm, masks=masks):
        return None
    sinks = find_sinks(norm, masks=masks)
    return sinks if bool(sinks.any()) else None


def _measure_without(
    sinks: Tensor | None, value: Tensor, *, masks: TokenMasks, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean and the sum of squares of each dimension over tokens that are no sinks."""
    indicators = masks.indicators
    if sinks is not None:
        ordinary = masks.kinds & ~sinks.unsqueeze(1)
        indicators = ordinary.float()
        # A sample without an ordinary token of a kind has no mean of it: 0/0 gives NaN.
        mean = torch.bmm(indicators / ordinary.sum(dim=-1, keepdim=True), value)
    return mean, torch.bmm(indicators, value.square()).sum(dim=0)


def _list_positions(sinks: Tensor, *, real: Tensor) -> Tensor:
    """Return the positions of the first sinks, dims (sample, sink); -1 where there is none."""
    end = sinks.shape[-1]
    # Padding may stand on either side; positions count real tokens.
    places = (real.cumsum(dim=-1) - 1).masked_fill(~sinks, end)
    first = places.sort(dim=-1).values[:, :SINK_POSITIONS]
    first = torch.nn.functional.pad(first, (0, SINK_POSITIONS - first.shape[-1]), value=end)
    return first.masked_fill(first == end, -1)
