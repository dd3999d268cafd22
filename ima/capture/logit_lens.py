"""The vocabulary lens (F1.5): what residual states say if the model's last step reads them.

Distributions are reduced block by block of tokens; never is a softmax over all tokens of a batch in
memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ima.models.hook_points import HookPoints

#: Numbers (tokens times words of the vocabulary) that are held at once: 64 MiB of float32.
LOGIT_BLOCK_SIZE = 2**24


def apply_logit_lens(
    hook_points: HookPoints,
    state: Tensor,
    *,
    kinds: Tensor,
    block_size: int = LOGIT_BLOCK_SIZE,
    paper_compat: bool = False,
) -> tuple[Tensor, Tensor]:
    """Reduce the distributions over the vocabulary of each sample's tokens of each kind.

    Parameters
    ----------
    hook_points : HookPoints
        The final norm and the unembedding, which read states before that norm.
    state : Tensor
        Residual states ``(sample, position, hidden)``.
    kinds : Tensor
        ``(sample, kind, position)`` bool: which tokens are of which kind; padding is of none.
    block_size : int
        Numbers held at once.
    paper_compat : bool
        Apply the final norm twice, as the released code does to the last layer (paper.md §5).

    Returns
    -------
    log_probability : Tensor
        ``(sample, kind, vocabulary)``: log of the mean over tokens of the probabilities; NaN where
        there is no such token.
    entropy : Tensor
        ``(sample, kind)``: mean over tokens of their entropy, in nats.
    """
    if paper_compat:
        state = hook_points.final_norm(state)
    samples, found, _ = kinds.shape
    words = hook_points.vocab_size
    rows = max(1, block_size // words)
    total = state.new_full((samples, found, words), -torch.inf, dtype=torch.float32)
    entropy = state.new_zeros((samples, found), dtype=torch.float32)
    for i in range(samples):
        for k in range(found):
            tokens = state[i, kinds[i, k]]
            for part in torch.split(tokens, rows):
                logs = hook_points.compute_logits(part).float().log_softmax(dim=-1)
                entropy[i, k] -= (logs.exp() * logs).sum()
                total[i, k] = torch.logaddexp(total[i, k], logs.logsumexp(dim=0))
    count = kinds.sum(dim=-1)
    empty = count == 0
    total = total - count.clamp_min(1).log().unsqueeze(-1)
    return (
        total.masked_fill(empty.unsqueeze(-1), torch.nan),
        (entropy / count.clamp_min(1)).masked_fill(empty, torch.nan),
    )
