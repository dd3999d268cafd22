"""Masks of a batch's tokens in the forms that its statistics need, made once and not per layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenMasks:
    """Which tokens are of which kind, on one device.

    Parameters
    ----------
    kinds : Tensor
        ``(sample, kind, position)``, True where a token is of a kind; padding is of none.
    counts : Tensor
        ``(sample, kind)``, number of tokens.
    indicators : Tensor
        `kinds` in float32: weights of a sum.
    weights : Tensor
        The same for a mean; NaN where a sample has no token of a kind.
    others : Tensor
        ``(sample, kind, position)``, False where a token is of a kind.
    real_rows, padding_rows : Tensor
        Indices of tokens and of padding among all ``sample · position``.
    lower_middle : Tensor
        ``(sample, kind, 1)``, rank of the lower median among the tokens of a kind.
    """

    kinds: Tensor
    counts: Tensor
    indicators: Tensor
    weights: Tensor
    others: Tensor
    real_rows: Tensor
    padding_rows: Tensor
    lower_middle: Tensor

    @classmethod
    def from_kinds(cls, kinds: Tensor) -> Self:
        """Make the masks of a batch.

        Examples
        --------
        >>> masks = TokenMasks.from_kinds(torch.tensor([[[True, False], [False, True]]]))
        >>> masks.has_padding, masks.counts.tolist()
        (False, [[1, 1]])
        """
        counts, indicators = kinds.sum(dim=-1), kinds.float()
        real = kinds.any(dim=1).flatten()
        return cls(
            kinds=kinds,
            counts=counts,
            indicators=indicators,
            # A sample without a token of a kind has no mean of it: 0/0 gives NaN.
            weights=indicators / counts.unsqueeze(-1),
            others=~kinds,
            real_rows=real.nonzero().squeeze(-1),
            padding_rows=(~real).nonzero().squeeze(-1),
            lower_middle=(counts.unsqueeze(-1) - 1).clamp_min(0) // 2,
        )

    @property
    def has_padding(self) -> bool:
        """Whether some positions are padding."""
        return len(self.padding_rows) > 0

    def to(self, device: torch.device) -> TokenMasks:
        """Return the masks on another device."""
        if device == self.kinds.device:
            return self
        return TokenMasks(**{name: part.to(device) for name, part in vars(self).items()})

    def zero_padding(self, value: Tensor) -> Tensor:
        """Set ``(sample, position, hidden)`` to zero at padding, in place; return it.

        Examples
        --------
        >>> masks = TokenMasks.from_kinds(torch.tensor([[[True, False]]]))
        >>> masks.zero_padding(torch.tensor([[[2.0], [torch.nan]]])).tolist()
        [[[2.0], [0.0]]]
        """
        # Many times as fast as a mask that is broadcast.
        if self.has_padding:
            value.flatten(0, 1).index_fill_(0, self.padding_rows, 0.0)
        return value
