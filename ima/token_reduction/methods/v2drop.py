"""V2Drop (arXiv:2509.01552): the tokens that a layer changes least leave."""

from __future__ import annotations

import torch
from torch import Tensor

from ima.token_reduction.plans import PruneStep
from ima.token_reduction.scoring import TokenView


class V2Drop(PruneStep):
    """Prune the tokens whose states a layer changes least.

    V2Drop (arXiv:2509.01552) takes the Euclidean norm of the update that layer ``after_layer``
    adds to the residual stream.

    Examples
    --------
    >>> V2Drop(after_layer=2, ratio=0.5).plan().name
    'V2Drop: 50% after layer 2'
    """

    title = "V2Drop"
    needs = frozenset({"states"})
    nonnegative = True

    choose: str = "change"

    def score(self, tokens: TokenView) -> Tensor:
        """Return the norm of the layer's update of each token, ``(sample, token)``."""
        assert tokens.states is not None
        assert tokens.states_before is not None
        norms: Tensor = torch.linalg.vector_norm(
            (tokens.states - tokens.states_before).float(), dim=-1
        )
        return norms
