"""Baseline: the first tokens of the group leave."""

from __future__ import annotations

import torch
from torch import Tensor

from ima.token_reduction.plans import PruneStep
from ima.token_reduction.scoring import TokenView


class FirstTokens(PruneStep):
    """Prune the first tokens of the group, a baseline.

    Examples
    --------
    >>> FirstTokens(after_layer=2, ratio=0.5).plan().name
    'first: 50% after layer 2'
    """

    choose: str = "first"

    def score(self, tokens: TokenView) -> Tensor:
        """Return the position of each token, ``(sample, token)``."""
        return torch.arange(tokens.real.shape[1]).expand(tokens.real.shape)
