"""Baseline: random tokens of the group leave."""

from __future__ import annotations

import torch
from torch import Tensor

from ima.token_reduction.plans import PruneStep
from ima.token_reduction.scoring import TokenView, draw_order


class RandomTokens(PruneStep):
    """Prune random tokens of the group, a baseline; the draw depends on ``seed`` and sample id.

    Examples
    --------
    >>> RandomTokens(after_layer=2, ratio=0.5).plan().name
    'random: 50% after layer 2'
    """

    choose: str = "random"

    def score(self, tokens: TokenView) -> Tensor:
        """Return each token's place in a random order, ``(sample, token)``."""
        scores = torch.zeros(tokens.real.shape)
        for row, sample_id in enumerate(tokens.sample_ids):
            places = tokens.candidates[row].cpu().nonzero()[:, 0]
            order = torch.from_numpy(draw_order(len(places), sample_id, seed=self.seed))
            scores[row, places[order]] = torch.arange(len(places), dtype=scores.dtype)
        return scores
