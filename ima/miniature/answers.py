"""Answers behind perceptual tokens: rows of one length, their loss, and how many are right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from ima.miniature.language_model import compute_weighted_token_loss


def pad_token_rows(
    encoded: Sequence[tuple[Sequence[int], Sequence[float]]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return token ids and weights of rows, with zeros behind the shorter ones.

    Parameters
    ----------
    encoded : sequence of (sequence of int, sequence of float)
        Ids of a row, and how much each counts as a target.

    Returns
    -------
    (ndarray, ndarray)
        ``(row, position)`` each: int64 ids, float32 weights.
    """
    shape = (len(encoded), max(len(ids) for ids, _ in encoded))
    all_ids, all_weights = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for row, (ids, weights) in enumerate(encoded):
        all_ids[row, : len(ids)] = ids
        all_weights[row, : len(ids)] = weights
    return all_ids, all_weights


def compute_next_token_loss(
    logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the next-token loss on answers.

    Parameters
    ----------
    logits : Tensor
        ``(row, 1 + position, vocabulary)``: from the last token before the text on, which predicts
        the first word.
    ids, weights : Tensor
        ``(row, position)``: the text, and how much each token counts as a target.
    """
    # One position before the text, so that position i predicts token i.
    shifted = torch.cat([ids[:, :1], ids], dim=1)
    weight = torch.cat([torch.zeros_like(weights[:, :1]), weights], dim=1)
    return compute_weighted_token_loss(logits, shifted, weight)


def check_answer_tokens(
    logits: torch.Tensor, ids: torch.Tensor, weights: npt.NDArray[np.float32]
) -> list[bool]:
    """Say of each answer whether all of its tokens are the likeliest.

    Parameters
    ----------
    logits, ids, weights
        As :func:`compute_next_token_loss` takes them; tokens in a row that count are one answer.
    """
    hits = (logits.argmax(-1)[:, :-1] == ids).cpu().numpy()
    found = []
    for hit, weight in zip(hits, weights, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], weight, [0]])))
        found += [bool(hit[start:end].all()) for start, end in edges.reshape(-1, 2).astype(int)]
    return found
