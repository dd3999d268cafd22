"""Baseline: evenly spaced tokens of the group leave."""

from __future__ import annotations

import torch
from torch import Tensor

from ima.token_reduction.plans import PruneStep
from ima.token_reduction.scoring import TokenView


class StridedTokens(PruneStep):
    """Prune evenly spaced tokens of the group, a baseline.

    Examples
    --------
    >>> StridedTokens(after_layer=2, ratio=0.5).plan().name
    'strided: 50% after layer 2'
    """

    choose: str = "strided"

    def score(self, tokens: TokenView) -> Tensor:
        """Return 0 at evenly spaced tokens and 1 elsewhere, ``(sample, token)``."""
        assert not isinstance(self.ratio, str)
        scores = torch.ones(tokens.real.shape)
        for row, candidates in enumerate(tokens.candidates.cpu()):
            places = candidates.nonzero()[:, 0]
            count = round(self.ratio * len(places))
            scores[row, places[torch.arange(count) * len(places) // max(count, 1)]] = 0.0
        return scores
