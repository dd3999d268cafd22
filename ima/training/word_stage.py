"""A first stage of training: the connector learns words without the language model.

What each query reads must tell which words the reference holds: each unit of the connector's last
layer but one stands for a word. The stage needs no pass through the language model, which takes
almost all of the time of a training step, and it leaves the layer that leads to the language model
as its seed made it. BLIP-2 (Li et al. 2023, arXiv:2301.12597, section 3.2) trains its queries
without the language model first, with other objectives.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ima.data.samples import Sample
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model

_BATCH_SIZE = 64
_LEARNING_RATE = 1e-3
#: A word must occur in so many references.
_MIN_OCCURRENCES = 5
#: Logit of a word before training: most words are absent.
_INITIAL_BIAS = -5.0


class WordLearner(Protocol):
    """A connector that can learn words: :class:`ima.models.connector.Connector`, or of codes."""

    @property
    def up(self) -> nn.Linear:
        """The layer whose units stand for words."""

    @property
    def last_layers(self) -> tuple[nn.Module, ...]:
        """The layers that lead to the language model."""

    def read_queries(self, tokens: Tensor) -> Tensor:
        """Return what each perceptual token reads, dims (sample, query, width)."""


def list_reference_words(samples: Sequence[Sample], *, at_most: int | None = None) -> list[str]:
    """Return the words that occur in at least five samples' first references, sorted.

    Parameters
    ----------
    samples : sequence of Sample
        Samples with references.
    at_most : int or None
        Of more words, the most frequent ones count.

    Examples
    --------
    >>> sample = Sample("0", "image", "caption", "", ("Two dogs, on the grass.",))
    >>> list_reference_words([sample] * 5)
    ['dogs', 'grass', 'on', 'the', 'two']
    """
    counts = Counter(word for sample in samples for word in sorted(_split_words(sample)))
    frequent = [word for word, count in counts.most_common(at_most) if count >= _MIN_OCCURRENCES]
    return sorted(frequent)


def _split_words(sample: Sample) -> set[str]:
    return set(re.findall(r"\w+", sample.references[0].lower()))


class _WordReader(nn.Module):
    """A connector whose perceptual tokens name words: a unit of its layer is one."""

    def __init__(self, connector: WordLearner, *, words: int, together: bool) -> None:
        super().__init__()
        self.connector, self.words, self.together = connector, words, together
        with torch.no_grad():
            connector.up.bias[:words] = _INITIAL_BIAS

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the words, dims (sample, query, word)."""
        units: Tensor = self.connector.up(self.connector.read_queries(tokens))
        logits = units[..., : self.words]
        # A smooth maximum: of the largest alone, a tile that starts low would never learn.
        return logits.logsumexp(dim=1, keepdim=True) if self.together else logits


def train_word_stage(
    connector: WordLearner,
    samples: Sequence[Sample],
    read_tokens: Callable[[Sequence[int]], Tensor],
    *,
    steps: int,
    seed: int,
    name: str,
    state_path: Path,
    together: bool = False,
) -> TrainingResult:
    """Train a connector's queries to tell the words of the references; an interrupted run resumes.

    Parameters
    ----------
    connector : WordLearner
        A module. Trained in place, but for its last layer.
    samples : sequence of Sample
        Training samples with references.
    read_tokens : callable
        Maps numbers of samples to the encoder's tokens, dims (sample, position, width).
    steps : int
        Steps of 64 samples.
    seed : int
        Seed of the order of samples.
    name : str
        Name of the run, for messages.
    state_path : Path
        File of the state to resume from.
    together : bool
        Whether a word is told where one token tells it, as tiles of a picture do that show one
        thing each; otherwise each token must tell all words.

    Returns
    -------
    TrainingResult
        The curve: binary cross-entropy, summed over words, mean over queries, in nats.

    Examples
    --------
    >>> train_word_stage(
    ...     connector, samples, store.read, steps=800, seed=0, name="words",
    ...     state_path=Path("words.pt"),
    ... ).curve[-1]  # doctest: +SKIP
    {'step': 800, 'loss': 1.571}
    """
    known = list_reference_words(samples, at_most=connector.up.out_features)
    words = {word: number for number, word in enumerate(known)}
    targets = torch.zeros(len(samples), len(words))
    for row, sample in enumerate(samples):
        targets[row, [words[word] for word in _split_words(sample) if word in words]] = 1
    reader = _WordReader(connector, words=len(words), together=together)
    per_epoch = max(1, len(samples) // _BATCH_SIZE)

    def step_loss(step: int) -> Tensor:
        epoch, part = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch, 1)).permutation(len(samples))
        chosen = [int(index) for index in order[part * _BATCH_SIZE : (part + 1) * _BATCH_SIZE]]
        logits = reader(read_tokens(chosen))
        truth = targets[chosen].to(logits.device)[:, None].expand_as(logits)
        losses = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return losses.sum(dim=-1).mean()

    # The last layer takes no part: without gradients it stays as it is.
    for module in connector.last_layers:
        module.requires_grad_(requires_grad=False)
    recipe = TrainingRecipe(
        steps=steps,
        learning_rate=_LEARNING_RATE,
        seed=seed,
        warmup=min(50, steps),
        weight_decay=0.01,
    )
    result = fit_model(reader, step_loss, recipe, name=name, state_path=state_path)
    for module in connector.last_layers:
        module.requires_grad_()
    # The next stage must not add its first gradients to these.
    reader.zero_grad(set_to_none=True)
    state_path.unlink(missing_ok=True)
    return result
