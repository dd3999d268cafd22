"""Scores of tokens: what a method may read, and which tokens leave by its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ima.errors import ParameterError
from ima.stats import FloatArray

if TYPE_CHECKING:
    from ima.token_reduction.attention import LayerAttention
    from ima.token_reduction.plans import PruneStep


@dataclass(frozen=True, eq=False)
class TokenView:
    """The tokens in the residual stream after a layer, as a method sees them.

    A tensor is None where no layer ran before, or where the method does not name it in
    :attr:`ima.token_reduction.plans.PruneStep.needs`.

    Parameters
    ----------
    sample_ids : sequence of str
        Ids of the samples.
    candidates : Tensor
        ``(sample, token)`` bool: the tokens that may leave.
    real : Tensor
        ``(sample, token)`` bool: false at padding.
    states_before, states : Tensor or None
        ``(sample, token, hidden)``: the residual stream before and after the layer.
    queries : Tensor or None
        ``(sample, head, token, feature)``: queries of the layer, with positions.
    keys : Tensor or None
        ``(sample, key head, token, feature)``: keys of the layer, with positions.
    attention : LayerAttention or None
        The layer's attention, from which the weights of a token are computed.
    summary : Tensor or None
        ``(sample, token)``: cosine of each perceptual token's patch with the encoder's CLS token.
    prompt : Tensor or None
        ``(sample, token)`` bool: false at padding and at the tokens of an answer that is read with
        its prompt; None where there is no answer.
    """

    sample_ids: Sequence[str]
    candidates: Tensor
    real: Tensor
    states_before: Tensor | None = None
    states: Tensor | None = None
    queries: Tensor | None = None
    keys: Tensor | None = None
    attention: LayerAttention | None = None
    summary: Tensor | None = None
    prompt: Tensor | None = None

    def attention_of_last_token(self) -> Tensor:
        """Return how much the last token of each prompt attends to each, ``(sample, token)``.

        The mean over heads, with the masks, windows, softcaps, sinks and biases of the layer;
        0 at padding.

        Raises
        ------
        ModelError
            If the layer's output does not follow from its weights.
        """
        assert self.attention is not None
        prompt = self.real if self.prompt is None else self.prompt
        last = prompt.shape[1] - 1 - prompt.flip(1).int().argmax(dim=1)
        weights = self.attention.compute_weights(last).mean(dim=1)
        return weights.masked_fill(~self.real, 0.0)


def find_knee(scores: FloatArray) -> int:
    """Return how many of the highest scores lie before the knee of their curve.

    Image-text interaction pruning (arXiv:2409.01162) keeps the head of the sorted curve and does
    not say where the head ends. Here the knee is the point farthest below the chord from the
    highest score to the lowest.

    Parameters
    ----------
    scores : ndarray
        ``(token,)``, in any order.

    Returns
    -------
    int
        At least one; all of them if no point lies below the chord.

    Examples
    --------
    >>> find_knee(np.array([0.1, 9.0, 0.2, 8.0, 0.3]))
    2
    >>> find_knee(np.array([3.0, 2.0, 1.0]))
    3
    """
    if len(scores) < 3:
        return len(scores)
    curve = np.sort(np.asarray(scores, dtype=float))[::-1]
    below = np.linspace(curve[0], curve[-1], len(curve)) - curve
    scale = max(abs(curve[0] - curve[-1]), np.finfo(float).tiny)
    return int(below.argmax()) if below.max() > 1e-9 * scale else len(curve)


def count_tokens_to_prune(step: PruneStep, scores: FloatArray) -> int:
    """Return how many tokens of one sample leave, given the scores of its candidates.

    Parameters
    ----------
    step : PruneStep
        With a ratio, the knee, or a threshold.
    scores : ndarray
        ``(token,)``; tokens with high scores stay.

    Examples
    --------
    >>> from ima.token_reduction.methods.v2drop import V2Drop
    >>> count_tokens_to_prune(V2Drop(after_layer=1, below=0.5), np.array([0.1, 0.4, 1.0]))
    2
    """
    if not len(scores):
        return 0
    if step.below is not None:
        return int((scores < step.below * scores.max()).sum())
    if step.ratio == "knee":
        return len(scores) - find_knee(scores)
    return round(step.ratio * len(scores))


def draw_order(count: int, sample_id: str, *, seed: int) -> npt.NDArray[np.int64]:
    """Return a random order of a sample's tokens; the other samples of a batch do not matter.

    Examples
    --------
    >>> sorted(draw_order(3, "a", seed=0).tolist())
    [0, 1, 2]
    """
    return np.random.default_rng([seed, crc32(sample_id.encode())]).permutation(count)


def select_tokens(step: PruneStep, tokens: TokenView) -> Tensor:
    """Return the candidates that leave by the scores of a step.

    Parameters
    ----------
    step : PruneStep
        Scores the tokens. The lowest scores leave; with the control ``reversed`` the highest, and
        with ``random`` any, as many as would leave by score.
    tokens : TokenView
        The tokens.

    Returns
    -------
    Tensor
        ``(sample, token)`` bool, a part of ``tokens.candidates``.

    Raises
    ------
    ParameterError
        If the scores have another shape.

    Examples
    --------
    >>> from ima.token_reduction.methods.strided import StridedTokens
    >>> real = torch.ones(1, 4, dtype=torch.bool)
    >>> view = TokenView(["a"], candidates=real, real=real)
    >>> select_tokens(StridedTokens(after_layer=0, ratio=0.5), view).int().tolist()
    [[1, 0, 1, 0]]
    """
    scores = step.score(tokens)
    if scores.shape != tokens.candidates.shape:
        raise ParameterError(
            f"{type(step).__name__}.score returned shape {tuple(scores.shape)}; one score of each "
            f"token is needed, {tuple(tokens.candidates.shape)}."
        )
    values = scores.detach().double().cpu().numpy()
    candidates = tokens.candidates.cpu().numpy()
    selected = np.zeros_like(candidates)
    for row, sample_id in enumerate(tokens.sample_ids):
        places = np.flatnonzero(candidates[row])
        own = values[row, places]
        if step.control == "random":
            order = draw_order(len(places), sample_id, seed=step.seed)
        else:
            order = np.argsort(-own if step.control == "reversed" else own, kind="stable")
        selected[row, places[order[: count_tokens_to_prune(step, own)]]] = True
    return torch.from_numpy(selected).to(tokens.candidates.device)
