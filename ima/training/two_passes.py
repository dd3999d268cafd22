"""Training of two passes (Browse-and-Concentrate), and of one pass as its control.

Connector and condition are trained with the next-token loss on answers; encoder and language model
stay frozen. The condition of a row comes from a first pass without gradients, so that it counts as
an input. Two things are dropped in training: the condition of some rows, so that the connector
stays a reader of one pass, which the first pass needs; and the pictures of some rows in the second
pass, so that the condition has to carry what the first pass saw (the authors' context dropping).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ima.interventions.browsing import TwoPassModel, collect_modules
from ima.interventions.query_conditions import read_last_state
from ima.models.batch import Batch
from ima.training.frozen_language import keep_language_frozen
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model

_N_VALIDATION_QUESTIONS = 120


@dataclass(frozen=True)
class TwoPassRecipe:
    """Hyperparameters of a training of two passes, or of its control.

    Parameters
    ----------
    training : TrainingRecipe
        Steps, learning rate, seed.
    second_pass : bool
        False trains the control: the same rows in one pass, without a condition.
    batch_size : int
        Questions per step.
    one_pass_ratio : float
        Fraction of rows that are read in one pass, without a condition.
    blank_ratio : float
        Fraction of rows with a condition whose pictures are blank in the second pass.
    frozen_layers : int
        First layers of the connector that stay as they are, with the linear layer before them.
    """

    training: TrainingRecipe
    second_pass: bool = True
    batch_size: int = 24
    one_pass_ratio: float = 1 / 3
    blank_ratio: float = 0.25
    frozen_layers: int = 0


class QuestionSource(Protocol):
    """Where a training takes its questions from."""

    #: Encoder tokens of a picture that shows nothing, ``(position, width)``.
    blank: Tensor

    def draw(self, n: int, *, rng: np.random.Generator) -> Sequence[tuple[Sequence[int], Any]]:
        """Draw questions: indices of their pictures, and a text with its answer as a sample."""

    def read_tokens(self, pictures: Sequence[int]) -> Tensor:
        """Return encoder tokens of pictures, ``(picture, position, width)``, as connectors read."""


def train_two_passes(
    two_pass: TwoPassModel,
    *,
    train: QuestionSource,
    validation: QuestionSource,
    recipe: TwoPassRecipe,
    name: str,
    state_path: Path,
    autocast_after: int | None = None,
) -> TrainingResult:
    """Train a connector to read in two passes, in place; an interrupted training resumes.

    Parameters
    ----------
    two_pass : TwoPassModel
        From :func:`ima.interventions.browsing.make_two_pass_model`.
    train, validation : QuestionSource
        Questions of each split.
    recipe : TwoPassRecipe
        Hyperparameters.
    name : str
        Name of the run, for messages.
    state_path : Path
        File of the state to resume from.
    autocast_after : int or None
        See :func:`ima.training.loop.choose_arithmetic`.

    Returns
    -------
    TrainingResult
        The curve has the loss and, on the validation split, the fraction of answers whose tokens
        are all the most likely ones: ``one_pass`` and, with a second pass, ``two_passes``.

    Raises
    ------
    ModelError
        If training changed the language model.

    Examples
    --------
    >>> result = train_two_passes(
    ...     two_pass, train=train, validation=validation, recipe=recipe, name="two-pass",
    ...     state_path=Path("two-pass.pt"),
    ... )  # doctest: +SKIP
    >>> result.curve[-1]  # doctest: +SKIP
    {'step': 600, 'loss': 0.7, 'one_pass': 0.6, 'two_passes': 0.7}
    """
    with keep_language_frozen(two_pass.model.language, name=name):
        run = _TwoPassRun(two_pass, train, validation, recipe)
        result = fit_model(
            run.modules,
            run.compute_loss,
            recipe.training,
            name=name,
            state_path=state_path,
            probe=run.probe,
            autocast_after=autocast_after,
        )
    run.modules.eval().requires_grad_(requires_grad=False)
    return result


def select_trained_state(two_pass: TwoPassModel, recipe: TwoPassRecipe) -> dict[str, Tensor]:
    """Return the weights that a recipe trains, by their name.

    Examples
    --------
    >>> state = select_trained_state(two_pass, recipe)  # doctest: +SKIP
    >>> "condition.project.weight" in state  # doctest: +SKIP
    True
    """
    state = collect_modules(two_pass).state_dict()
    return {key: value for key, value in state.items() if _is_trained(key, recipe)}


def count_trained_weights(two_pass: TwoPassModel, recipe: TwoPassRecipe) -> int:
    """Return how many weights a recipe trains.

    Examples
    --------
    >>> count_trained_weights(two_pass, recipe)  # doctest: +SKIP
    313968
    """
    return sum(value.numel() for value in select_trained_state(two_pass, recipe).values())


def _is_trained(key: str, recipe: TwoPassRecipe) -> bool:
    """Return whether a recipe trains a weight; without a second pass, no condition is mapped."""
    untrained = [f"connector.layers.{number}." for number in range(recipe.frozen_layers)]
    if recipe.frozen_layers:
        untrained.append("connector.down.")
    if not recipe.second_pass:
        untrained.append("condition.project.")
    return not key.startswith(tuple(untrained))


class _TwoPassRun:
    """The modules that are trained, and the rows of each step."""

    def __init__(
        self,
        two_pass: TwoPassModel,
        train: QuestionSource,
        validation: QuestionSource,
        recipe: TwoPassRecipe,
    ) -> None:
        self.two_pass, self.recipe = two_pass, recipe
        self.sources = {"train": train, "validation": validation}
        self.modules = collect_modules(two_pass)
        for key, parameter in self.modules.named_parameters():
            parameter.requires_grad_(_is_trained(key, recipe))
        rng = np.random.default_rng(recipe.training.seed)
        # Every probe reads the same questions.
        self.watched = validation.draw(_N_VALIDATION_QUESTIONS, rng=rng)

    def compute_loss(self, step: int) -> Tensor:
        """Return the loss of the answers of one step's rows."""
        rng = np.random.default_rng([self.recipe.training.seed, step])
        size = self.recipe.batch_size
        drawn = self.sources["train"].draw(size, rng=rng)
        # Both arms draw alike, so that they see the same questions.
        roll, dropped = rng.random(size), rng.random(size) < self.recipe.blank_ratio
        tokens = self._read(drawn, "train")
        conditions = self.two_pass.make_zero_conditions(size)
        twice: list[int] = []
        if self.recipe.second_pass:
            twice = [at for at in range(size) if roll[at] >= self.recipe.one_pass_ratio]
        if twice:
            conditions[twice] = self._browse(
                [drawn[at] for at in twice], [tokens[at] for at in twice]
            )
            blank = self.sources["train"].blank
            for at in twice:
                if dropped[at]:
                    tokens[at] = blank.expand_as(tokens[at])
        batch = self._assemble(drawn, tokens, conditions)
        logits, targets, rows = self._predict(batch)
        loss = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        # Every question has the same weight, however long its answer.
        return (loss / torch.bincount(rows)[rows]).sum() / size

    def probe(self) -> Mapping[str, float]:
        """Return the fraction of right answers to the watched questions, in one pass and in two."""
        right: dict[str, list[float]] = {}
        size = self.recipe.batch_size
        for start in range(0, len(self.watched), size):
            drawn = self.watched[start : start + size]
            tokens = self._read(drawn, "validation")
            given = {"one_pass": self.two_pass.make_zero_conditions(len(drawn))}
            if self.recipe.second_pass:
                given["two_passes"] = self._browse(drawn, tokens)
            for key, conditions in given.items():
                logits, targets, rows = self._predict(self._assemble(drawn, tokens, conditions))
                wrong = torch.zeros(len(drawn), device=rows.device)
                wrong.index_add_(0, rows, (logits.argmax(dim=-1) != targets).float())
                right.setdefault(key, []).extend((wrong == 0).float().tolist())
        return {key: float(np.mean(values)) for key, values in right.items()}

    def _read(self, drawn: Sequence[tuple[Sequence[int], Any]], split: str) -> list[Tensor]:
        counts = [len(pictures) for pictures, _ in drawn]
        tokens = self.sources[split].read_tokens([at for pictures, _ in drawn for at in pictures])
        parts: tuple[Tensor, ...] = tokens.to(self.two_pass.model.device).split(  # type: ignore[no-untyped-call]
            counts
        )
        return list(parts)

    @torch.no_grad()
    def _browse(
        self, drawn: Sequence[tuple[Sequence[int], Any]], tokens: Sequence[Tensor]
    ) -> Tensor:
        conditions = self.two_pass.make_zero_conditions(len(drawn))
        batch = self._assemble(drawn, tokens, conditions, first=True)
        return read_last_state(self.two_pass.model, batch)

    def _assemble(
        self,
        drawn: Sequence[tuple[Sequence[int], Any]],
        tokens: Sequence[Tensor],
        conditions: Tensor,
        *,
        first: bool = False,
    ) -> Batch:
        rows = self.two_pass.embed_pictures(tokens, conditions)
        samples = [sample for _, sample in drawn]
        side: Any = "left" if first else "right"
        return self.two_pass.assemble(samples, rows, side=side, target=not first)

    def _predict(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits and the ids of answer tokens, and the row of each."""
        hook_points = self.two_pass.model.hook_points
        states = hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
        rows, positions = batch.answer.nonzero(as_tuple=True)
        logits = hook_points.unembed(states[rows, positions - 1])
        return logits, batch.token_id[rows, positions], rows
