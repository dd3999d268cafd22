"""Similarity to the encoder's CLS token (arXiv:2409.01162): the least similar patches leave."""

from __future__ import annotations

from torch import Tensor

from ima.token_reduction.plans import PruneStep
from ima.token_reduction.scoring import TokenView


class ClsSimilarity(PruneStep):
    """Prune the tokens whose patches are least similar to the encoder's CLS token.

    The first stage of image-text interaction pruning (arXiv:2409.01162). It needs no layer of the
    language model, but one perceptual token for each patch.

    Examples
    --------
    >>> ClsSimilarity(after_layer=0, ratio="knee").plan().name
    'CLS similarity: knee after layer 0'
    """

    title = "CLS similarity"
    needs = frozenset({"summary"})

    choose: str = "summary"

    def score(self, tokens: TokenView) -> Tensor:
        """Return the cosine of each token's patch with the CLS token, ``(sample, token)``."""
        assert tokens.summary is not None
        return tokens.summary
