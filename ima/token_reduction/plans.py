"""Plans: which rows run in which sub-block of which layer, and which leave the stream (I3)."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ima.errors import ParameterError

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

TokenFlags = npt.NDArray[np.bool_]
SubBlock = Literal["attention", "ffn", "block"]
TokenGroup = Literal["perceptual", "textual", "prompt", "generated", "all"]
SelectionRule = Literal["first", "strided", "random"]
#: Rows that are ranked by the attention of the last row of the prompt, by how much the layer
#: changed them, or by how similar their patch is to the encoder's summary: the lowest leave, or, as
#: controls, the highest, or any, as many.
RankingRule = Literal[
    "attention", "attention-reversed", "attention-random",
    "change", "change-reversed", "change-random",
    "summary", "summary-reversed", "summary-random",
]  # fmt: skip
Ratio = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LayerRange(_Strict):
    """Layers from ``start`` to ``stop``, both included, every so many; 1 is the first block."""

    start: int = Field(default=1, ge=1)
    stop: int | None = Field(default=None, ge=1)
    every: int = Field(default=1, ge=1)

    def of(self, layers: int) -> list[int]:
        """Return them for a model of so many blocks."""
        return list(range(self.start, (self.stop or layers) + 1, self.every))


class SkipStep(_Strict):
    """Rows that bypass a sub-block once: they are not computed there, and keep their keys.

    Parameters
    ----------
    skip : {"attention", "ffn", "block"}
        What they bypass; a block is both.
    layers : Layers or list of int
        Where; 1 is the first block.
    rows : {"perceptual", "textual", "prompt", "generated", "all"}
        Which rows; ``prompt`` is both kinds, ``generated`` what is decoded after it.
    share : float
        Of these rows of a sample, the share that bypasses; rounded to whole rows.
    choose : {"first", "strided", "random"}
        Which of them.
    seed : int
        Of the random choice, which depends on the sample's id too.
    """

    skip: SubBlock
    layers: LayerRange | list[int] = LayerRange()
    rows: TokenGroup = "perceptual"
    share: float = Field(default=1.0, ge=0, le=1)
    choose: SelectionRule = "strided"
    seed: int = 0

    @model_validator(mode="after")
    def _generated_have_no_share(self) -> SkipStep:
        if self.rows in {"generated", "all"} and self.share not in {0.0, 1.0}:
            message = (
                f"A share of {self.share} of generated rows cannot be chosen: they come one by "
                "one. Give share 1, or rows: prompt."
            )
            raise ValueError(message)
        return self


class ParallelStep(_Strict):
    """Layers whose FFN reads what attention reads, for all rows: the two run in parallel."""

    parallel: LayerRange | list[int]


class PruneStep(_Strict):
    """Rows that leave the stream for good behind a layer.

    Parameters
    ----------
    withdraw : {"perceptual", "textual", "prompt"}
        Of which rows; the last row of the prompt never leaves.
    behind : int
        Layer behind which they leave; 0 is before the first, and behind the last one nothing
        changes.
    share : float or "knee"
        Of these rows of a sample, the share that leaves; with the knee, those behind the knee of
        the curve of ranked scores (:func:`ima.token_reduction.ranking.find_knee`).
    choose : {"first", "strided", "random", "attention", "change", "summary", …}
        Which of them: ``attention`` lets those leave to which the last row of the prompt
        attends least in that layer (FastV, arXiv:2403.06764), ``change`` those that the layer moved
        least (V2Drop, arXiv:2509.01552), ``summary`` those whose patch is least similar to the CLS
        token of the encoder (arXiv:2409.01162); with ``-reversed`` behind it, the others, and
        with ``-random``, as many of any.
    below : float or None
        In place of a share: those whose score is below so much of the highest of their sample.
    seed : int
        Of the random choice.
    """

    withdraw: Literal["perceptual", "textual", "prompt"] = "perceptual"
    behind: int = Field(ge=0)
    share: Ratio | Literal["knee"] = 1.0
    choose: SelectionRule | RankingRule = "strided"
    below: float | None = Field(default=None, ge=0, le=1)
    seed: int = 0

    @property
    def ranked(self) -> str:
        """What rows are ranked by; empty where they are not."""
        what = self.choose.partition("-")[0]
        return what if what in {"attention", "change", "summary"} else ""

    @model_validator(mode="after")
    def _ranks_what_there_is(self) -> PruneStep:
        message = ""
        if not self.ranked and (self.below is not None or self.share == "knee"):
            asked = "share: knee" if self.below is None else f"below: {self.below}"
            message = f"{asked} needs ranked rows. Give choose: attention, change or summary."
        elif self.below is not None and self.ranked == "summary":
            message = "below needs scores that are never negative; similarities are. Give a share."
        elif self.below is not None and self.share != 1:
            message = "Give either share or below, not both."
        elif self.behind == 0 and self.ranked in {"attention", "change"}:
            message = f"No layer lies before the first whose {self.ranked} could rank rows."
        elif self.ranked == "summary" and self.withdraw != "perceptual":
            message = "Only perceptual rows are similar to a summary. Give withdraw: perceptual."
        if message:
            raise ValueError(message)
        return self


PlanStep = Annotated[SkipStep | ParallelStep | PruneStep, Field(union_mode="left_to_right")]


class ReductionPlan(_Strict):
    """What one method leaves out, step by step.

    Parameters
    ----------
    name : str
        What tables call it.
    steps : tuple of Skip, Parallel or Withdraw
        All apply at once; rows withdrawn twice leave at the earlier layer.

    Examples
    --------
    >>> plan = Plan(name="FFN of half of the percepts", steps=[{"skip": "ffn", "share": 0.5}])
    >>> plan.steps[0].layers.of(4)
    [1, 2, 3, 4]
    """

    name: str
    steps: tuple[PlanStep, ...] = ()

    @property
    def skips(self) -> tuple[SkipStep, ...]:
        """The steps in which rows bypass a sub-block."""
        return tuple(step for step in self.steps if isinstance(step, SkipStep))

    @property
    def withdrawals(self) -> tuple[PruneStep, ...]:
        """The steps in which rows leave, the earliest layer first."""
        found = (step for step in self.steps if isinstance(step, PruneStep))
        return tuple(sorted(found, key=lambda step: step.behind))

    @property
    def parallel(self) -> tuple[ParallelStep, ...]:
        """The steps that let attention and FFN run in parallel."""
        return tuple(step for step in self.steps if isinstance(step, ParallelStep))

    def check(self, model: FrozenModel) -> None:
        """Refuse what a model cannot run, before it runs.

        Raises
        ------
        ParameterError
            If a step names a layer that it lacks, if it has no perceptual tokens and they are
            named, or if its blocks or its attention are not of a kind that this plan can change.
        """
        layers = model.layers
        for step in self.steps:
            named, lowest = (
                ([step.behind], 0)
                if isinstance(step, PruneStep)
                else (resolve_layers(step, layers), 1)
            )
            beyond = [layer for layer in named if not lowest <= layer <= layers]
            if beyond or not named:
                asked = ", ".join(map(str, beyond)) or "no layer"
                message = f"{self.name!r} names layer {asked}; {model.name!r} has 1 to {layers}."
                raise ParameterError(message)
        kinds = {step.rows for step in self.skips} | {step.withdraw for step in self.withdrawals}
        if "perceptual" in kinds and model.modality == "text":
            message = (
                f"{self.name!r} names perceptual rows; {model.name!r} is a language model alone. "
                "Name textual or prompt rows, or another model: ima models list."
            )
            raise ParameterError(message)
        summary = any(step.ranked == "summary" for step in self.withdrawals)
        if summary and (model.perception is None or not model.perception.summarised):
            message = (
                f"{self.name!r} compares patches with the encoder's CLS token; {model.name!r} has "
                "no perceptual token for each patch, or none that we know the patch of. Choose by "
                "attention or change, or take a model such as llava-mini-3."
            )
            raise ParameterError(message)
        anatomy = model.anatomy
        if self.steps and anatomy.residual != "sequential":
            message = (
                f"{self.name!r} needs blocks in which the FFN follows attention; those of "
                f"{model.name!r} are {anatomy.residual}."
            )
            raise ParameterError(message)


def resolve_layers(step: SkipStep | ParallelStep, layers: int) -> list[int]:
    """Return the layers that a step names, for a model of so many blocks."""
    named = step.layers if isinstance(step, SkipStep) else step.parallel
    return named.of(layers) if isinstance(named, LayerRange) else list(named)


def read_plan(path: str | os.PathLike[str]) -> ReductionPlan:
    """Read a plan from a YAML file.

    Raises
    ------
    ParameterError
        If it cannot be read or is no plan; the message says what is wrong where.
    """
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        message = f"Cannot read the plan {os.fspath(path)}: {error}."
        raise ParameterError(message) from error
    return parse_plan(given, source=os.fspath(path))


def parse_plan(given: Any, *, source: str = "the plan") -> ReductionPlan:
    """Make a plan of what YAML or JSON held.

    Raises
    ------
    ParameterError
        If it is no plan.
    """
    if not isinstance(given, dict):
        message = f"{source} must hold name and steps; it holds {type(given).__name__}."
        raise ParameterError(message)
    known: dict[str, type[SkipStep | ParallelStep | PruneStep]] = {
        "skip": SkipStep,
        "parallel": ParallelStep,
        "withdraw": PruneStep,
    }
    steps = []
    try:
        for number, step in enumerate(given.get("steps") or [], start=1):
            # Without this a wrong step would be told of as of every kind of step.
            kind = next((kind for key, kind in known.items() if key in step), None)
            if kind is None:
                message = f"{source}, step {number}: one of skip, parallel, withdraw is needed."
                raise ParameterError(message)
            steps.append(kind.model_validate(step))
        return ReductionPlan.model_validate({**given, "steps": steps})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"{source}: {place or 'a step'}: {first['msg']}."
        raise ParameterError(message) from error


def select_tokens(
    candidates: TokenFlags, ids: Sequence[str], *, share: float, how: SelectionRule, seed: int = 0
) -> TokenFlags:
    """Choose a share of each sample's rows.

    Parameters
    ----------
    candidates : ndarray
        ``(sample, position)`` bool: the rows to choose from.
    ids : sequence of str
        The samples' ids: a random choice depends on them and not on who else is in the batch.
    share : float
        Of a sample's candidates; rounded to whole rows, halves to even.
    how : {"first", "strided", "random"}
        The first ones; evenly spaced ones; any.
    seed : int
        Of the random choice.

    Returns
    -------
    ndarray
        ``(sample, position)`` bool, a part of ``candidates``.

    Examples
    --------
    >>> choose(np.ones((1, 4), bool), ["a"], share=0.5, how="strided").astype(int)
    array([[1, 0, 1, 0]])
    """
    found = np.zeros_like(candidates)
    for row, sample in enumerate(ids):
        places = np.flatnonzero(candidates[row])
        count = round(share * len(places))
        if how == "first":
            taken = np.arange(count)
        elif how == "strided":
            taken = np.arange(count) * len(places) // max(count, 1)
        else:
            rng = np.random.default_rng([seed, zlib.crc32(sample.encode())])
            taken = rng.permutation(len(places))[:count]
        found[row, places[taken]] = True
    return found
