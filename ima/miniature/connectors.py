"""Train connectors between a frozen encoder and a frozen language model (paper §2, single task)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ima.miniature import corpus, speech
from ima.miniature.answers import (
    compute_answer_accuracy,
    compute_answer_logits,
    compute_weighted_token_loss,
    pad_token_rows,
)
from ima.miniature.datasets import Situation
from ima.miniature.pools import SamplePool
from ima.models.connector import ConnectorConfig
from ima.models.encoders import read_encoder_tokens
from ima.training.frozen_language import keep_language_frozen
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model

#: Makes a context for one pass of the language model, given the perceptual tokens
#: ``(sample, query, hidden)`` and the ids after them, ``(sample, position)``.
ForwardContext = Callable[[torch.Tensor, torch.Tensor], AbstractContextManager[Any]]
#: Samples in a step, by modality; a clip has four times as many tokens as an image.
CONNECTOR_BATCH_SIZES = {"image": 32, "audio": 32, "video": 20}
#: Questions that one training row asks about its sample.
TURNS_PER_ROW = 6
#: Rows of mixed questions per training sample, besides one row of yes/no questions.
_QUESTION_ROWS = 2
#: The rows of a sample for a multitask model.
MULTITASK_ROW_KINDS = ("caption and questions", "order and questions", "checks", "caption")
_ASKING = 9
_CAPTION = TrainingRecipe(steps=2000, learning_rate=1.5e-3, seed=31, warmup=60, probe_every=250)
_QUESTIONS = TrainingRecipe(steps=1000, learning_rate=1e-3, seed=32, warmup=60, probe_every=100)
#: By modality and task, in order of training: the connector for questions starts from the one for
#: captions.
CONNECTOR_RECIPES = {
    "image": {"caption": _CAPTION, "qa": _QUESTIONS},
    "audio": {"caption": replace(_CAPTION, steps=1000), "qa": replace(_QUESTIONS, steps=700)},
    "video": {"caption": replace(_CAPTION, steps=2400), "qa": replace(_QUESTIONS, steps=700)},
}
#: The same for the comparison of nine encoders, all with equally many steps.
COMPARISON_RECIPES = {
    "image": {"caption": replace(_CAPTION, steps=1200), "qa": replace(_QUESTIONS, steps=600)},
    "audio": {"caption": replace(_CAPTION, steps=600), "qa": replace(_QUESTIONS, steps=450)},
    "video": {"caption": replace(_CAPTION, steps=1400), "qa": replace(_QUESTIONS, steps=500)},
}
#: Fractions of a run's steps at which checkpoints are kept. A run that starts from another run's
#: weights has these as one more checkpoint.
CHECKPOINT_RATIOS = {
    "caption": (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4),
    "qa": (1 / 16, 1 / 8, 1 / 4, 1 / 2),
}
#: Sizes of the connectors; the paper has 256 and 512.
CONNECTOR_WIDTH, _FEED_FORWARD_WIDTH = 96, 192


@dataclass(frozen=True, eq=False)
class TokenizedTurns:
    """Token ids after the perceptual tokens, several rows per sample, padded to one length.

    Parameters
    ----------
    ids : ndarray
        ``(sample, variant, position)`` int64.
    weights : ndarray
        ``(sample, variant, position)`` float32: 1 at the tokens of answers, else 0.
    """

    ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]

    def select_first(self, n: int) -> TokenizedTurns:
        """Return the rows of the first ``n`` samples."""
        return TokenizedTurns(self.ids[:n], self.weights[:n])


def make_connector_config(encoder_width: int, *, hidden: int) -> ConnectorConfig:
    """Return the sizes of a connector between an encoder and a language model of these widths.

    Examples
    --------
    >>> make_connector_config(128, hidden=64).width
    96
    """
    return ConnectorConfig(
        encoder_width=encoder_width,
        hidden=hidden,
        width=CONNECTOR_WIDTH,
        feed_forward=_FEED_FORWARD_WIDTH,
    )


def make_caption_turns(situation: Situation) -> list[list[tuple[str, str]]]:
    """Return the one row of a sample for captioning: one turn with the canonical caption.

    Examples
    --------
    >>> [[(prompt, caption)]] = make_caption_turns(Situation("image", "train", 0, 0))
    >>> prompt
    'caption :'
    """
    canonical = speech.make_captions(situation.modality, situation.get_entities())[0]
    return [[(speech.CAPTION_PROMPT, canonical)]]


def _make_question_turns(situation: Situation) -> list[list[tuple[str, str]]]:
    """Return the rows of a sample for question answering, each a list of turns."""
    rng, entities = situation.make_rng(_ASKING), situation.get_entities()
    rows = [speech.make_questions(situation.modality, entities, rng) for _ in range(_QUESTION_ROWS)]
    rows.append(speech.make_yes_no_questions(situation.modality, entities, rng))
    return [[(q.prompt, q.answer) for q in row[:TURNS_PER_ROW]] for row in rows]


def make_multitask_turns(situation: Situation) -> list[list[tuple[str, str]]]:
    """Return the rows of an image for all tasks at once, each a list of turns.

    The rows are :data:`MULTITASK_ROW_KINDS`. The last row holds only the caption, because a caption
    is learned much more slowly among many short answers.

    Examples
    --------
    >>> rows = make_multitask_turns(Situation("image", "train", 0, 0))
    >>> len(rows), len(rows[-1])
    (4, 1)
    """
    rng, entities = situation.make_rng(_ASKING), situation.get_entities()
    caption = make_caption_turns(situation)[0]
    mixed, others, checks = _make_question_turns(situation)
    relations = [(q.prompt, q.answer) for q in speech.make_relation_questions(entities)]
    rows = [
        [row[i] for i in rng.permutation(len(row))] for row in (mixed, relations + others, checks)
    ]
    return [*(row[:TURNS_PER_ROW] for row in (caption + rows[0], *rows[1:])), caption]


TURN_MAKERS: dict[str, Callable[[Situation], list[list[tuple[str, str]]]]] = {
    "caption": make_caption_turns,
    "qa": _make_question_turns,
    "multitask": make_multitask_turns,
}


def tokenize_turns(situations: Sequence[Situation], task: str, tokenizer: Any) -> TokenizedTurns:
    """Tokenize the turns of all samples for one task.

    Examples
    --------
    >>> situations = [Situation("image", "train", index, 0) for index in range(8)]
    >>> tokenize_turns(situations, "caption", tokenizer).ids.shape  # doctest: +SKIP
    (8, 1, 24)
    """
    rows = [turns for situation in situations for turns in TURN_MAKERS[task](situation)]
    ids, weights = pad_token_rows([corpus.encode_turns(turns, tokenizer) for turns in rows])
    shape = (len(situations), len(rows) // len(situations), -1)
    return TokenizedTurns(ids.reshape(shape), weights.reshape(shape))


@torch.no_grad()
def encode_pool(
    encoder: nn.Module, pool: SamplePool, *, device: str, batch: int = 64
) -> torch.Tensor:
    """Return all tokens of the encoder's last layer, ``(sample, position, width)`` float16.

    Examples
    --------
    >>> pool = build_pool("image", "train", n=64)  # doctest: +SKIP
    >>> encode_pool(encoder, pool, device="cpu").shape  # doctest: +SKIP
    torch.Size([64, 65, 128])
    """
    encoder = encoder.to(device).eval()
    parts = []
    for start in range(0, len(pool), batch):
        chosen = np.arange(start, min(start + batch, len(pool)))
        values = torch.from_numpy(pool.make_encoder_input(chosen)).to(device)
        parts.append(read_encoder_tokens(encoder, values).to(torch.float16).cpu())
    return torch.cat(parts)


def train_connector_on_features(
    connector: nn.Module,
    *,
    language: Any,
    features: torch.Tensor,
    texts: TokenizedTurns,
    recipe: TrainingRecipe,
    name: str,
    state_path: Path,
    batch: int = 32,
    tuned: bool = False,
    validation: tuple[torch.Tensor, TokenizedTurns] | None = None,
    keep: Callable[[int, Mapping[str, torch.Tensor]], None] | None = None,
    milestones: Collection[int] = (),
    around: ForwardContext | None = None,
    device: str = "cpu",
) -> TrainingResult:
    """Train a connector with the next-token loss on answers; everything else stays frozen.

    Parameters
    ----------
    connector : torch.nn.Module
        Maps an encoder's tokens to perceptual tokens. Changed in place; afterwards in evaluation
        mode on the CPU.
    language : PreTrainedModel
        The language model.
    features : Tensor
        ``(sample, position, width)``: the encoder's tokens.
    texts : TokenizedTurns
        Texts of the same samples.
    recipe : TrainingRecipe
        Steps, learning rate, seed.
    name : str
        Shown in the progress bar.
    state_path : Path
        The state from which an interrupted training resumes.
    batch : int
        Samples per step.
    tuned : bool
        Whether the language model is trained too.
    validation : (Tensor, TokenizedTurns) or None
        Features and texts for the curve.
    keep : callable or None
        Stores the weights at ``milestones``, given the number of finished steps and the
        connector's state dict.
    milestones : collection of int
        Numbers of finished steps.
    around : callable or None
        Makes a context in which the language model runs, in steps and for the curve.
    device : str
        Where to train.

    Returns
    -------
    TrainingResult
        The curve: loss, and the fraction of validation answers that are entirely right.

    Examples
    --------
    >>> result = train_connector_on_features(
    ...     connector, language=language, features=encode_pool(encoder, pool, device="cpu"),
    ...     texts=tokenize_turns(pool.situations, "caption", tokenizer),
    ...     recipe=recipe, name="captions", state_path=Path("state.pt"),
    ... )  # doctest: +SKIP
    >>> result.curve[-1]["loss"]  # doctest: +SKIP
    0.41207
    """
    language = language.to(device).eval().requires_grad_(requires_grad=tuned)
    connector = connector.to(device)
    trained = nn.ModuleList([connector, language]) if tuned else connector

    def logits_of(tokens: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        prefix = connector(tokens)
        with around(prefix, ids) if around else nullcontext():
            return compute_answer_logits(language, prefix, ids)

    def step_loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([recipe.seed, step])
        chosen = rng.integers(len(features), size=batch)
        variant = rng.integers(texts.ids.shape[1], size=batch)
        weights = texts.weights[chosen, variant]
        longest = int(np.flatnonzero(weights.any(axis=0))[-1]) + 1
        ids = torch.from_numpy(texts.ids[chosen, variant, :longest]).to(device)
        logits = logits_of(features[chosen].float().to(device), ids)
        weight = torch.from_numpy(weights[:, :longest]).to(device)
        return compute_weighted_token_loss(logits, ids, weight)

    def probe() -> dict[str, float]:
        if validation is None:
            return {}
        tokens, turns = validation
        batches = (slice(start, start + 32) for start in range(0, len(tokens), 32))
        return {
            "validation": compute_answer_accuracy(
                (logits_of(tokens[rows].float().to(device), ids), ids, turns.weights[rows, 0])
                for rows in batches
                for ids in [torch.from_numpy(turns.ids[rows, 0]).to(device)]
            )
        }

    with nullcontext() if tuned else keep_language_frozen(language, name=name):
        result = fit_model(
            trained,
            step_loss,
            recipe,
            name=name,
            state_path=state_path,
            probe=probe,
            milestones=milestones,
            keep=None if keep is None else lambda step: keep(step, connector.state_dict()),
        )
    connector.cpu().eval()
    language.cpu().eval().requires_grad_(requires_grad=False)
    return result
