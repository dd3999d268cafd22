"""A first stage of training: the connector learns words without the language model.

What the queries read must tell which words the references hold. It needs no pass through the
language model, which takes almost all of the time of a training step, and it leaves the layers
that lead to the language model as their seed made them. BLIP-2 (Li et al. 2023, arXiv:2301.12597,
section 3.2) trains its queries without the language model first, with other objectives.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ima.data.samples import Sample
from ima.models.connector import Connector
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model

_BATCH_SIZE = 64
_LEARNING_RATE = 1e-3
#: A word must occur in so many references.
_MIN_OCCURRENCES = 5
#: Logit of a word before training: most words are absent.
_INITIAL_BIAS = -5.0


def list_reference_words(samples: Sequence[Sample]) -> list[str]:
    """Return the words that occur in at least five samples' first references, sorted.

    Examples
    --------
    >>> sample = Sample("0", "image", "caption", "", ("Two dogs, on the grass.",))
    >>> list_reference_words([sample] * 5)
    ['dogs', 'grass', 'on', 'the', 'two']
    """
    counts = Counter(word for sample in samples for word in _split_words(sample))
    return sorted(word for word, count in counts.items() if count >= _MIN_OCCURRENCES)


def _split_words(sample: Sample) -> set[str]:
    return set(re.findall(r"\w+", sample.references[0].lower()))


class _WordReader(nn.Module):
    """A connector's queries, each of which may name any word."""

    def __init__(self, connector: Connector, *, words: int, seed: int) -> None:
        super().__init__()
        self.connector = connector
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(connector.config.width, words)
        nn.init.constant_(self.head.bias, _INITIAL_BIAS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the words, dims (sample, word)."""
        logits: Tensor = self.head(self.connector.read_queries(tokens))
        return logits.logsumexp(dim=1)


def train_word_stage(
    connector: Connector,
    samples: Sequence[Sample],
    read_tokens: Callable[[Sequence[int]], Tensor],
    *,
    steps: int,
    seed: int,
    name: str,
    state_path: Path,
) -> TrainingResult:
    """Train a connector's queries to tell the words of the references; an interrupted run resumes.

    Parameters
    ----------
    connector : Connector
        Trained in place, but for the layers after its queries.
    samples : sequence of Sample
        Training samples with references.
    read_tokens : callable
        Maps numbers of samples to the encoder's tokens, dims (sample, position, width).
    steps : int
        Steps of 64 samples.
    seed : int
        Seed of the head's weights and of the order of samples.
    name : str
        Name of the run, for messages.
    state_path : Path
        File of the state to resume from.

    Returns
    -------
    TrainingResult
        The curve: binary cross-entropy, summed over words, in nats.

    Examples
    --------
    >>> train_word_stage(
    ...     connector, samples, store.read, steps=800, seed=0, name="words",
    ...     state_path=Path("words.pt"),
    ... ).curve[-1]  # doctest: +SKIP
    {'step': 800, 'loss': 1.571}
    """
    words = {word: number for number, word in enumerate(list_reference_words(samples))}
    targets = torch.zeros(len(samples), len(words))
    for row, sample in enumerate(samples):
        targets[row, [words[word] for word in _split_words(sample) if word in words]] = 1
    reader = _WordReader(connector, words=len(words), seed=seed)
    per_epoch = max(1, len(samples) // _BATCH_SIZE)

    def step_loss(step: int) -> Tensor:
        epoch, part = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch, 1)).permutation(len(samples))
        chosen = [int(index) for index in order[part * _BATCH_SIZE : (part + 1) * _BATCH_SIZE]]
        logits = reader(read_tokens(chosen))
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, targets[chosen].to(logits.device), reduction="none"
        )
        return losses.sum(dim=1).mean()

    # The layers after the queries take no part: without gradients they stay as they are.
    unused = [connector.up, connector.out, connector.scale]
    for module in unused:
        module.requires_grad_(requires_grad=False)
    recipe = TrainingRecipe(
        steps=steps,
        learning_rate=_LEARNING_RATE,
        seed=seed,
        warmup=min(50, steps),
        weight_decay=0.01,
    )
    result = fit_model(reader, step_loss, recipe, name=name, state_path=state_path)
    for module in unused:
        module.requires_grad_()
    # The next stage must not add its first gradients to these.
    reader.zero_grad(set_to_none=True)
    state_path.unlink(missing_ok=True)
    return result
