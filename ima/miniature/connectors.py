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
    compute_next_token_loss,
    pad_token_rows,
)
from ima.miniature.datasets import Situation
from ima.miniature.pools import SamplePool
from ima.models.connector import ConnectorConfig
from ima.models.encoders import read_encoder_tokens
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model

#: Enters a context around one pass of the language model; told perceptual tokens
#: ``(sample, query, hidden)`` and the ids behind them ``(sample, position)``.
ForwardContext = Callable[[torch.Tensor, torch.Tensor], AbstractContextManager[Any]]
#: Samples in a step, by modality; a clip has four times as many tokens as an image.
CONNECTOR_BATCH_SIZES = {"image": 32, "audio": 32, "video": 20}
#: Questions that one training row asks about its sample.
TURNS_PER_ROW = 6
#: Rows of questions of every kind that are prepared for each training sample, beside one row that
#: checks what is there.
_QUESTION_ROWS = 2
#: Rows of a model for all tasks, by what stands in them first.
MULTITASK_ROW_KINDS = ("caption and questions", "order and questions", "checks", "caption")
_ASKING = 9
_CAPTION = TrainingRecipe(steps=2000, learning_rate=1.5e-3, seed=31, warmup=60, probe_every=250)
_QUESTIONS = TrainingRecipe(steps=1000, learning_rate=1e-3, seed=32, warmup=60, probe_every=100)
#: By modality and task, in the order of training: the connector for questions begins as the one for
#: captions.
CONNECTOR_RECIPES = {
    "image": {"caption": _CAPTION, "qa": _QUESTIONS},
    "audio": {"caption": replace(_CAPTION, steps=1000), "qa": replace(_QUESTIONS, steps=700)},
    "video": {"caption": replace(_CAPTION, steps=2400), "qa": replace(_QUESTIONS, steps=700)},
}
#: The same, where nine encoders are compared with one another and each has as many steps.
COMPARISON_RECIPES = {
    "image": {"caption": replace(_CAPTION, steps=1200), "qa": replace(_QUESTIONS, steps=600)},
    "audio": {"caption": replace(_CAPTION, steps=600), "qa": replace(_QUESTIONS, steps=450)},
    "video": {"caption": replace(_CAPTION, steps=1400), "qa": replace(_QUESTIONS, steps=500)},
}
#: Shares of a run's steps at which its weights are kept, where checkpoints are wanted. A run that
#: begins with another run's weights has one more on its way: where it begins.
CHECKPOINT_RATIOS = {
    "caption": (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4),
    "qa": (1 / 16, 1 / 8, 1 / 4, 1 / 2),
}
#: Sizes of the connectors; the paper has 256 and 512.
CONNECTOR_WIDTH, _FEED_FORWARD_WIDTH = 96, 192


@dataclass(frozen=True, eq=False)
class TokenizedTurns:
    """Token ids behind the perceptual tokens, several rows per sample, padded to one length.

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
    """Return the sizes of a connector between an encoder and a language model of these widths."""
    return ConnectorConfig(
        encoder_width=encoder_width,
        hidden=hidden,
        width=CONNECTOR_WIDTH,
        feed_forward=_FEED_FORWARD_WIDTH,
    )


def make_caption_turns(situation: Situation) -> list[list[tuple[str, str]]]:
    """Return the turns of a sample's rows for captioning: the canonical caption."""
    canonical = speech.make_captions(situation.modality, situation.get_entities())[0]
    return [[(speech.CAPTION_PROMPT, canonical)]]


def _make_question_turns(situation: Situation) -> list[list[tuple[str, str]]]:
    """Return the turns of a sample's rows for question answering."""
    rng, entities = situation.make_rng(_ASKING), situation.get_entities()
    asked = [
        speech.make_questions(situation.modality, entities, rng) for _ in range(_QUESTION_ROWS)
    ]
    asked.append(speech.make_yes_no_questions(situation.modality, entities, rng))
    return [[(q.prompt, q.answer) for q in row[:TURNS_PER_ROW]] for row in asked]


def make_multitask_turns(situation: Situation) -> list[list[tuple[str, str]]]:
    """Return the turns of a picture's rows for all tasks at once.

    A caption before questions of every kind, the order of objects among the same, checks of
    what is there, and a caption alone. Among the many short answers of one row a caption would be
    learned much more slowly.
    """
    rng, entities = situation.make_rng(_ASKING), situation.get_entities()
    caption = make_caption_turns(situation)[0]
    mixed, asked, checked = _make_question_turns(situation)
    related = [(q.prompt, q.answer) for q in speech.make_relation_questions(entities)]
    rows = [
        [row[i] for i in rng.permutation(len(row))] for row in (mixed, related + asked, checked)
    ]
    return [*(row[:TURNS_PER_ROW] for row in (caption + rows[0], *rows[1:])), caption]


TURN_MAKERS: dict[str, Callable[[Situation], list[list[tuple[str, str]]]]] = {
    "caption": make_caption_turns,
    "qa": _make_question_turns,
    "multitask": make_multitask_turns,
}


def tokenize_turns(situations: Sequence[Situation], task: str, tokenizer: Any) -> TokenizedTurns:
    """Tokenise the turns of all samples."""
    rows = [
        [
            corpus.encode_document(
                corpus.Document("", "", tuple(turns), ()), tokenizer, context_weight=0.0
            )
            for turns in TURN_MAKERS[task](situation)
        ]
        for situation in situations
    ]
    ids, weights = pad_token_rows([one for row in rows for one in row])
    shape = (len(rows), len(rows[0]), -1)
    return TokenizedTurns(ids.reshape(shape), weights.reshape(shape))


@torch.no_grad()
def encode_pool(
    encoder: nn.Module, pool: SamplePool, *, device: str, batch: int = 64
) -> torch.Tensor:
    """Return all tokens of the encoder's last layer, ``(sample, position, width)`` float16."""
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
        return compute_next_token_loss(
            logits, ids, torch.from_numpy(weights[:, :longest]).to(device)
        )

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
