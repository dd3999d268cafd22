"""FastV (arXiv:2403.06764): the least attended tokens leave."""

from __future__ import annotations

from torch import Tensor

from ima.token_reduction.plans import PruneStep
from ima.token_reduction.scoring import TokenView


class FastV(PruneStep):
    """Prune the tokens to which the last token of the prompt attends least.

    FastV (Chen et al. 2024, arXiv:2403.06764) reads the attention in layer ``after_layer``, takes
    the mean over heads, and prunes after that layer.

    Examples
    --------
    >>> FastV(after_layer=2, ratio=0.5).plan().name
    'FastV: 50% after layer 2'
    """

    title = "FastV"
    needs = frozenset({"attention"})
    nonnegative = True

    choose: str = "attention"

    def score(self, tokens: TokenView) -> Tensor:
        """Return the attention of the last token to each token, ``(sample, token)``."""
        return tokens.attention_of_last_token()
