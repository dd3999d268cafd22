"""A language model reads text alone: log-probabilities of given texts, without any medium.

Texts stand as they are, without a chat template, so that two models of one tokenizer read the same
tokens, whatever they were trained in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ima.data.samples import Sample
from ima.errors import ModelError, SampleError
from ima.models.batch import Batch, assemble_batch
from ima.models.chat_template import TextTokens, tokenize_sample
from ima.models.frozen import FrozenModel

#: States whose logits are in memory at a time.
_UNEMBEDDED = 256


@dataclass(frozen=True)
class TextScores:
    """Log-probabilities of texts.

    Parameters
    ----------
    log_probability : ndarray
        ``(text,)`` float64, nats: the sum over its tokens, each given all tokens before it.
    tokens : ndarray
        ``(text,)`` int64, how many tokens were scored.
    greedy : ndarray
        ``(text,)`` bool, whether each token was the most probable one.
    following : tuple of str
        The most probable token after each text.
    """

    log_probability: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]
    greedy: npt.NDArray[np.bool_]
    following: tuple[str, ...]


def tokenize_texts(model: FrozenModel, texts: Sequence[tuple[str, str]]) -> list[TextTokens]:
    """Tokenize texts as they stand; each is a part that is given and one that is scored.

    Parameters
    ----------
    model : FrozenModel
        Its tokenizer is used, and its number of positions is the limit.
    texts : sequence of (str, str)
        The given part, which may be empty, and the scored part; a space joins them.

    Returns
    -------
    list of TextTokens
        Without an end-of-sequence token.

    Raises
    ------
    ModelError
        If the model does not run on text alone.
    SampleError
        If a text is empty or too long, or has no token that can be scored.

    Examples
    --------
    >>> tokens = tokenize_texts(model, [("The sky is", "blue")])  # doctest: +SKIP
    >>> tokens[0].answer  # doctest: +SKIP
    3
    """
    if "text" not in model.modalities:
        raise ModelError(
            f"{model.name!r} does not run on text alone: its blocks attend to a medium."
        )
    tokenized = []
    for number, (given, scored) in enumerate(texts):
        sample = Sample(f"text {number}", "text", "qa", given, (scored,))
        tokens = tokenize_sample(sample, tokenizer=model.tokenizer, target=True)
        tokens = replace(tokens, ids=tokens.ids[:-1])
        length = len(tokens.lead) + len(tokens.ids)
        if length > model.positions:
            raise SampleError(
                f"The text {scored!r:.40} has {length} tokens with what comes before it; "
                f"{model.name!r} has {model.positions:.0f} positions. Shorten it."
            )
        if length - _find_first(tokens) < 1:
            raise SampleError(f"The text {scored!r:.40} has no token with another one before it.")
        tokenized.append(tokens)
    return tokenized


def encode_texts(model: FrozenModel, tokens: Sequence[TextTokens]) -> Batch:
    """Return a batch of texts without media.

    Parameters
    ----------
    model : FrozenModel
        Its input embeddings are used.
    tokens : sequence of TextTokens
        From :func:`tokenize_texts`.

    Examples
    --------
    >>> batch = encode_texts(model, tokenize_texts(model, [("", "a text")]))  # doctest: +SKIP
    >>> int((batch.modality > 0).sum())  # doctest: +SKIP
    0
    """
    ids = [torch.tensor([*own.lead, *own.ids], device=model.device).long() for own in tokens]
    with torch.no_grad():
        return assemble_batch(
            tokens,
            embedded=[model.hook_points.embedding(each) for each in ids],
            perceptual=[None] * len(tokens),
            modalities=["text"] * len(tokens),
            sample_ids=[str(number) for number in range(len(tokens))],
        )


def iterate_text_batches(
    model: FrozenModel, tokens: Sequence[TextTokens], *, batch_size: int
) -> Iterator[tuple[list[int], Batch]]:
    """Yield the numbers of texts and their batch; texts of similar length share one.

    Examples
    --------
    >>> tokens = tokenize_texts(model, [("", "a text"), ("", "longer text")])  # doctest: +SKIP
    >>> rows, batch = next(iterate_text_batches(model, tokens, batch_size=2))  # doctest: +SKIP
    """
    order = sorted(range(len(tokens)), key=lambda row: (len(tokens[row].ids), row))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, encode_texts(model, [tokens[row] for row in rows])


@torch.no_grad()
def score_texts(
    model: FrozenModel, texts: Sequence[tuple[str, str]], *, batch_size: int = 16
) -> TextScores:
    """Return the log-probability of each text, given what comes before it.

    Parameters
    ----------
    model : FrozenModel
        Its encoder and connector do not run.
    texts : sequence of (str, str)
        The given part, which may be empty, and the scored part. The very first token of a sequence
        has nothing before it and is not scored, unless the tokenizer begins with a token of its
        own (BOS).
    batch_size : int
        Texts per forward pass.

    Raises
    ------
    ModelError, SampleError
        As :func:`tokenize_texts` raises them.

    Examples
    --------
    >>> scores = score_texts(model, [("The opposite of hot is", "cold")])  # doctest: +SKIP
    >>> scores.tokens, scores.greedy  # doctest: +SKIP
    (array([1]), array([ True]))
    """
    tokens = tokenize_texts(model, texts)
    n = len(tokens)
    total, count = np.zeros(n), np.zeros(n, np.int64)
    greedy, following = np.zeros(n, bool), [""] * n
    for rows, batch in iterate_text_batches(model, tokens, batch_size=batch_size):
        states = model.hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
        firsts = [_find_first(tokens[row]) for row in rows]
        lengths = batch.attention_mask.sum(dim=1).tolist()
        # The state at a position predicts the next token; the last one, what would follow.
        wanted = [
            states[place, first - 1 : length]
            for place, (first, length) in enumerate(zip(firsts, lengths, strict=True))
        ]
        targets = [
            batch.token_id[place, first:length]
            for place, (first, length) in enumerate(zip(firsts, lengths, strict=True))
        ]
        chosen, best = _predict(model, wanted, targets)
        for place, row in enumerate(rows):
            total[row], count[row] = float(chosen[place].sum()), len(targets[place])
            greedy[row] = bool((best[place][:-1] == targets[place]).all())
            following[row] = str(model.tokenizer.decode([int(best[place][-1])]))
    return TextScores(total, count, greedy, tuple(following))


def _predict(
    model: FrozenModel, states: Sequence[Tensor], targets: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return, by text, the log-probability of each target, and each most probable token.

    The last state of a text has no target. The unembedding reads all its weights for each call, so
    that states of several texts share one.
    """
    padded = torch.cat([nn.functional.pad(own, (0, 1)) for own in targets])
    chosen, best = [], []
    joined = torch.cat(list(states))
    for start in range(0, len(joined), _UNEMBEDDED):
        part, wanted = (own[start : start + _UNEMBEDDED] for own in (joined, padded))
        logits = model.hook_points.unembed(part).float()
        chosen.append(logits.log_softmax(dim=-1).gather(1, wanted[:, None])[:, 0].double())
        best.append(logits.argmax(dim=-1))
    ends = np.cumsum([0, *map(len, states)]).tolist()
    by_text, best_by_text = (
        [torch.cat(own)[start:end] for start, end in pairwise(ends)] for own in (chosen, best)
    )
    return [own[:-1] for own in by_text], best_by_text


def _find_first(tokens: TextTokens) -> int:
    """Return the position of the first token that is scored."""
    return max(1, len(tokens.lead) + tokens.answer)


def hash_texts(model: FrozenModel, texts: Sequence[tuple[str, str]]) -> str:
    """Return a digest of the tokens that a model reads of texts.

    Examples
    --------
    >>> hash_texts(model, [("", "a text")])[:6]  # doctest: +SKIP
    '9f1c04'
    """
    digest = hashlib.sha256()
    for tokens in tokenize_texts(model, texts):
        digest.update(repr((tokens.lead, tokens.ids, tokens.answer)).encode())
    return digest.hexdigest()
