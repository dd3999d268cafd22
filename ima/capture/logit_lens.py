"""The logit lens (F1.5): vocabulary distributions that the model's last step reads from states.

Distributions are reduced block by block of tokens: the softmax over all tokens of a batch is never
in memory as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ima.models.hook_points import HookPoints

#: Numbers (tokens times words of the vocabulary) in memory at once: 32 MiB of float32.
LOGIT_BLOCK_SIZE = 2**23


def apply_logit_lens(
    hook_points: HookPoints,
    state: Tensor,
    *,
    kinds: Tensor,
    paper_compat: bool = False,
) -> tuple[Tensor, Tensor]:
    """Average the vocabulary distributions of each sample's tokens, per kind of token.

    Parameters
    ----------
    hook_points : HookPoints
        Provides the final norm and the unembedding.
    state : Tensor
        Residual states ``(sample, position, hidden)`` before the final norm.
    kinds : Tensor
        ``(sample, kind, position)`` bool: which tokens are of which kind; padding is of none.
    paper_compat : bool
        Apply the final norm twice, as the released code does to the last layer.

    Returns
    -------
    log_probability : Tensor
        ``(sample, kind, vocabulary)``: log of the mean over tokens of the probabilities; NaN where
        the sample has no token of the kind.
    entropy : Tensor
        ``(sample, kind)``: mean over tokens of their entropy, in nats.

    Examples
    --------
    >>> states = capture_activations(model, batch)["resid_post"]  # doctest: +SKIP
    >>> log_probability, entropy = apply_logit_lens(  # doctest: +SKIP
    ...     model.hook_points, states[3], kinds=batch.kinds
    ... )
    >>> log_probability.shape  # doctest: +SKIP
    torch.Size([2, 2, 1024])
    """
    if paper_compat:
        state = hook_points.final_norm(state)
    samples, n_kinds, _ = kinds.shape
    words = hook_points.vocab_size
    rows = max(1, LOGIT_BLOCK_SIZE // words)
    total = state.new_full((samples, n_kinds, words), -torch.inf, dtype=torch.float32)
    entropy = state.new_zeros((samples, n_kinds), dtype=torch.float32)
    # Tokens of several samples are unembedded at once, since reading the unembedding takes longer
    # than multiplying it with few tokens. The rest is done sample by sample, in less memory.
    for k in range(n_kinds):
        tokens, owners = state[kinds[:, k]], kinds[:, k].nonzero()[:, 0]
        for part, owned in zip(torch.split(tokens, rows), torch.split(owners, rows), strict=True):
            logits = hook_points.compute_logits(part).float()
            found, lengths = torch.unique_consecutive(owned, return_counts=True)
            for i, own in zip(found.tolist(), torch.split(logits, lengths.tolist()), strict=True):
                logs = own.log_softmax(dim=-1)
                entropy[i, k] -= logs.exp().mul_(logs).sum()
                total[i, k] = torch.logaddexp(total[i, k], logs.logsumexp(dim=0))
    count = kinds.sum(dim=-1)
    empty = count == 0
    total = total - count.clamp_min(1).log().unsqueeze(-1)
    return (
        total.masked_fill(empty.unsqueeze(-1), torch.nan),
        (entropy / count.clamp_min(1)).masked_fill(empty, torch.nan),
    )
