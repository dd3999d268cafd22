"""States of single tokens, converted once to the dtype in which they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FLOAT16_MAX = float(np.finfo(np.float16).max)


class TokenStates:
    """Collects the states of some tokens of a batch at one hook point, layer by layer.

    Parameters
    ----------
    stored : Tensor
        ``(sample, position)``, True at the tokens.
    layers, width : int
        Number of layers, and of numbers in a state.
    dtype : torch.dtype
        Dtype of the states that are kept.
    """

    def __init__(self, stored: Tensor, *, layers: int, width: int, dtype: torch.dtype) -> None:
        self._stored, self._dtype = stored, dtype
        self._all = bool(stored.all())
        self._rows = stored.flatten().nonzero().squeeze(-1)
        self._kept = torch.empty((layers, len(self._rows), width), dtype=dtype)
        self._count = 0
        #: By layer, the largest number of each token, where one is beyond float16.
        self.beyond: dict[int, Tensor] = {}

    def add(self, layer: int, state: Tensor, *, norm: Tensor) -> None:
        """Add one layer.

        Parameters
        ----------
        layer : int
            Its label.
        state : Tensor
            ``(sample, position, hidden)``.
        norm : Tensor
            ``(sample, position)``, the L2 norms: no number of a state is larger than its norm.
        """
        rows = state.flatten(0, 1)
        if not self._all:
            rows = rows.index_select(0, self._rows.to(rows.device))
        if self._dtype == torch.float16 and bool((norm > FLOAT16_MAX).any()):
            peak = rows.abs().amax(dim=-1)
            if bool((peak > FLOAT16_MAX).any()):
                self.beyond[layer] = peak.to(self._stored.device)
        # An accelerator converts before the transfer, which then takes half the bytes.
        self._kept[self._count].copy_(rows if rows.is_cpu else rows.to(self._dtype))
        self._count += 1

    def collect(self) -> npt.NDArray[Any]:
        """Return the states in host memory, ``(layer, token, hidden)``.

        Examples
        --------
        >>> stored = torch.tensor([[True, False]])
        >>> states = TokenStates(stored, layers=1, width=2, dtype=torch.float16)
        >>> state = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
        >>> states.add(1, state, norm=torch.linalg.vector_norm(state, dim=-1))
        >>> states.collect().tolist()
        [[[1.0, 2.0]]]
        """
        return self._kept[: self._count].numpy()
