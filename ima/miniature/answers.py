"""Answers after perceptual tokens: padded rows, their logits, their loss, and their accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as nnf


def pad_token_rows(
    encoded: Sequence[tuple[Sequence[int], Sequence[float]]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Pad token ids and weights of rows with zeros at the end.

    Parameters
    ----------
    encoded : sequence of (sequence of int, sequence of float)
        Token ids of a row, and the weight of each as a target of the loss.

    Returns
    -------
    ids, weights : ndarray
        ``(row, position)``, int64 and float32.

    Examples
    --------
    >>> ids, weights = pad_token_rows([([5, 6, 7], [0, 1, 1]), ([8], [1])])
    >>> ids.tolist()
    [[5, 6, 7], [8, 0, 0]]
    """
    shape = (len(encoded), max(len(ids) for ids, _ in encoded))
    all_ids, all_weights = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for row, (ids, weights) in enumerate(encoded):
        all_ids[row, : len(ids)] = ids
        all_weights[row, : len(ids)] = weights
    return all_ids, all_weights


def compute_answer_logits(language: Any, prefix: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Run a language model on embeddings followed by text.

    Parameters
    ----------
    language : PreTrainedModel
        A causal language model.
    prefix : Tensor
        Embeddings before the text, ``(row, query, hidden)``.
    ids : Tensor
        The text, ``(row, position)``.

    Returns
    -------
    Tensor
        ``(row, position, vocabulary)``: what predicts each token of the text. The last embedding
        before the text predicts the first.

    Examples
    --------
    >>> compute_answer_logits(language, connector(tokens), ids).shape  # doctest: +SKIP
    torch.Size([32, 40, 512])
    """
    words = language.get_input_embeddings()(ids)
    logits: torch.Tensor = language(inputs_embeds=torch.cat([prefix, words], dim=1)).logits
    return logits[:, prefix.shape[1] - 1 : -1]


def compute_weighted_token_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the weighted mean of the loss of tokens, in nats.

    Parameters
    ----------
    logits : Tensor
        ``(row, position, vocabulary)``.
    targets, weights : Tensor
        ``(row, position)``: the tokens, and the weight of each.

    Examples
    --------
    >>> targets, weights = torch.tensor([[1, 2]]), torch.tensor([[1.0, 0.0]])
    >>> round(compute_weighted_token_loss(torch.zeros(1, 2, 4), targets, weights).exp().item(), 4)
    4.0
    """
    flat, weight = logits.flatten(0, 1).float(), weights.flatten()
    loss = nnf.cross_entropy(flat, targets.flatten(), reduction="none")
    return (loss * weight).sum() / weight.sum()


def compute_answer_accuracy(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor, npt.NDArray[np.float32]]],
) -> float:
    """Return the fraction of answers whose tokens are all the most likely ones.

    Parameters
    ----------
    batches : iterable of (Tensor, Tensor, ndarray)
        Logits, ids and weights, as in :func:`compute_weighted_token_loss`. Consecutive tokens of
        weight 1 form one answer.

    Examples
    --------
    >>> ids, weights = torch.tensor([[1, 0, 2]]), np.array([[1, 0, 1]], np.float32)
    >>> logits = torch.nn.functional.one_hot(torch.tensor([[1, 0, 1]]), 3)
    >>> compute_answer_accuracy([(logits, ids, weights)])
    0.5
    """
    right: list[bool] = []
    for logits, ids, weights in batches:
        hits = (logits.argmax(-1) == ids).cpu().numpy()
        for hit, weight in zip(hits, weights, strict=True):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], weight, [0]]))).reshape(-1, 2)
            right += [bool(hit[start:end].all()) for start, end in edges]
    return sum(right) / len(right)
