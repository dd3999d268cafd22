"""Plans: which tokens skip which sub-blocks of which layers, and which are pruned (I3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from ima.errors import ParameterError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from ima.models.frozen import FrozenModel
    from ima.token_reduction.scoring import TokenView

SubBlock = Literal["attention", "ffn", "block"]
TokenGroup = Literal["perceptual", "textual", "prompt", "generated", "all"]
Ratio = Annotated[float, Field(ge=0, le=1)]

_KINDS = ("skip", "parallel", "prune")
#: Keys that a step no longer has, and the keys that replace them.
_RENAMED_KEYS = {"withdraw": "prune", "behind": "after_layer", "share": "ratio", "rows": "tokens"}
_CONTROLS = ("", "reversed", "random")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Method(_Strict):
    """A token-reduction method with its parameters.

    Each method is one file of :mod:`ima.token_reduction.methods`. A method that scores tokens is a
    :class:`PruneStep`; any other method builds its plan from steps.
    """

    def plan(self) -> ReductionPlan:
        """Return the plan that runs the method."""
        raise NotImplementedError


class LayerRange(_Strict):
    """Every ``every``-th layer from ``start`` to ``stop``, both included; 1 is the first block."""

    start: int = Field(default=1, ge=1)
    stop: int | None = Field(default=None, ge=1)
    every: int = Field(default=1, ge=1)

    def resolve(self, layers: int) -> list[int]:
        """Return the layers of the range in a model of ``layers`` blocks."""
        return list(range(self.start, (self.stop or layers) + 1, self.every))


class SkipStep(_Strict):
    """Tokens that skip a sub-block: it is not computed for them, and others still attend to them.

    Parameters
    ----------
    skip : {"attention", "ffn", "block"}
        The sub-block; a block is both.
    layers : LayerRange or list of int
        The layers at which they skip it; 1 is the first block.
    tokens : {"perceptual", "textual", "prompt", "generated", "all"}
        The group of tokens; ``prompt`` is both kinds, ``generated`` is what is decoded after it.
    ratio : float
        Fraction of the group in each sample that skips, rounded to whole tokens.
    choose : str
        Which tokens of the group skip: the ``choose`` of a method that reads nothing that a layer
        computes, such as ``strided`` and ``random``.
    seed : int
        Seed of a random choice; the choice also depends on the sample's id.
    """

    skip: SubBlock
    layers: LayerRange | list[int] = LayerRange()
    tokens: TokenGroup = "perceptual"
    ratio: Ratio = 1.0
    choose: str = "strided"
    seed: int = 0

    @property
    def selection(self) -> PruneStep:
        """The step before the first layer that would prune the tokens that skip."""
        group = "prompt" if self.tokens in {"generated", "all"} else self.tokens
        given = {"prune": group, "after_layer": 0, "ratio": self.ratio}
        step = make_step({**given, "choose": self.choose, "seed": self.seed})
        assert isinstance(step, PruneStep)
        return step

    @model_validator(mode="after")
    def _check_selection(self) -> SkipStep:
        if self.tokens in {"generated", "all"} and self.ratio not in {0.0, 1.0}:
            raise ValueError(
                f"ratio: {self.ratio} of generated tokens cannot be chosen, because they come one "
                "by one. Give ratio: 1, or tokens: prompt."
            )
        try:
            _ = self.selection
        except ValidationError as error:
            raise ValueError(read_message(error)) from error
        return self


class ParallelStep(_Strict):
    """Layers whose FFN reads the input of attention, for all tokens: the two run in parallel."""

    parallel: LayerRange | list[int]


class PruneStep(Method):
    """Tokens that leave the residual stream and the cache for good after a layer.

    A subclass says in :meth:`score` which tokens leave first. :func:`make_step` picks the subclass
    by the value of ``choose``.

    Parameters
    ----------
    prune : {"perceptual", "textual", "prompt"}
        The group of tokens; the last token of the prompt is never pruned.
    after_layer : int
        Layer after which they leave; 0 is before the first, and after the last nothing changes.
    ratio : float or "knee"
        Fraction of the group in each sample that leaves, rounded to whole tokens. With ``"knee"``
        the tokens beyond the knee of the curve of sorted scores leave
        (:func:`ima.token_reduction.scoring.find_knee`).
    choose : str
        Name of the score by which tokens leave, the lowest first. ``NAME-reversed`` prunes the
        highest first; ``NAME-random`` prunes as many tokens at random.
    below : float or None
        Instead of a ratio: prune the tokens whose score is below this fraction of the highest
        score in their sample.
    seed : int
        Seed of a random choice; the choice also depends on the sample's id.
    """

    #: How the method is called in names of plans.
    title: ClassVar[str] = ""
    #: What :meth:`score` reads of the model: ``attention``, ``states``, ``summary``; see
    #: :class:`ima.token_reduction.scoring.TokenView`.
    needs: ClassVar[frozenset[str]] = frozenset()
    #: Whether scores are never negative, so that ``below`` is defined.
    nonnegative: ClassVar[bool] = False

    prune: Literal["perceptual", "textual", "prompt"] = "perceptual"
    after_layer: int = Field(ge=0)
    ratio: Ratio | Literal["knee"] = 1.0
    choose: str
    below: float | None = Field(default=None, ge=0, le=1)
    seed: int = 0

    def score(self, tokens: TokenView) -> Tensor:
        """Return a score of each token, ``(sample, token)``; the lowest leave first."""
        raise NotImplementedError

    @property
    def control(self) -> str:
        """Whether the highest (``reversed``) or any (``random``) leave instead of the lowest."""
        return self.choose.partition("-")[2]

    def plan(self) -> ReductionPlan:
        """Return the plan that has this step alone."""
        title = self.title or self.choose.partition("-")[0]
        if self.control:
            title += f", {self.control}"
        amount = self.ratio if isinstance(self.ratio, str) else f"{self.ratio:.0%}"
        if self.below is not None:
            amount = f"below {self.below:.0%}"
        return ReductionPlan(
            name=f"{title}: {amount} after layer {self.after_layer}", steps=(self,)
        )

    @model_validator(mode="after")
    def _check_choice(self) -> PruneStep:
        own = type(self).model_fields["choose"].default
        name, _, control = self.choose.partition("-")
        message = ""
        if name != own or control not in (_CONTROLS if self.needs else ("",)):
            endings = f", {own}-reversed or {own}-random" if self.needs else ""
            message = f"choose: {self.choose} is not defined. Give choose: {own}{endings}."
        elif not self.needs and (self.below is not None or self.ratio == "knee"):
            asked = "ratio: knee" if self.below is None else f"below: {self.below}"
            message = (
                f"{asked} needs a score that the model computes; choose: {name} has none. Give "
                f"choose: {_join_scorers(lambda scorer: bool(scorer.needs))}."
            )
        elif self.below is not None and not self.nonnegative:
            message = (
                f"below needs scores that are never negative; those of {name} can be. Give a ratio."
            )
        elif self.below is not None and self.ratio != 1:
            message = "Give either ratio or below, not both."
        elif self.after_layer == 0 and self.needs - {"summary"}:
            message = (
                f"choose: {name} reads what a layer computes; no layer precedes the first. Give "
                f"choose: {_join_scorers(lambda scorer: scorer.needs <= {'summary'})}, or a later "
                "layer."
            )
        elif "summary" in self.needs and self.prune != "perceptual":
            message = (
                f"choose: {name} compares perceptual tokens with the encoder's CLS token; textual "
                "tokens have no such score. Name perceptual tokens."
            )
        if message:
            raise ValueError(message)
        return self


def _join_scorers(condition: Callable[[type[PruneStep]], bool]) -> str:
    """Return the values of ``choose`` whose methods meet a condition."""
    from ima.token_reduction.methods import list_scorers

    return " or ".join(name for name, scorer in sorted(list_scorers().items()) if condition(scorer))


def make_step(given: Mapping[str, Any]) -> SkipStep | ParallelStep | PruneStep:
    """Make a step from a mapping, as plans in YAML and JSON write it.

    Parameters
    ----------
    given : mapping
        Has one of the keys ``skip``, ``parallel`` and ``prune``.

    Raises
    ------
    ParameterError
        If it has none of them, or a key that was renamed.
    UnknownNameError
        If no method has the value of ``choose``.
    pydantic.ValidationError
        If a value is out of range.

    Examples
    --------
    >>> step = make_step({"prune": "perceptual", "after_layer": 2, "choose": "attention"})
    >>> type(step).__name__, step.ratio
    ('FastV', 1.0)
    """
    # The methods import this module.
    from ima.token_reduction.methods import list_scorers

    renamed = [f"{old!r} is now {new!r}" for old, new in _RENAMED_KEYS.items() if old in given]
    if renamed:
        raise ParameterError(
            f"{', '.join(renamed)}. Rename the key{'s' if len(renamed) > 1 else ''}."
        )
    if "skip" in given:
        return SkipStep.model_validate(given)
    if "parallel" in given:
        return ParallelStep.model_validate(given)
    if "prune" not in given:
        raise ParameterError(
            f"One of {', '.join(_KINDS)} is needed; found {', '.join(map(str, given))}."
        )
    scorers = list_scorers()
    choose = str(given.get("choose", "strided"))
    name = choose.partition("-")[0]
    if name not in scorers:
        raise UnknownNameError.among("value of choose", choose, scorers)
    return scorers[name].model_validate({**given, "choose": choose})


def _read_step(given: Any) -> Any:
    return make_step(given) if isinstance(given, Mapping) else given


PlanStep = Annotated[
    SerializeAsAny[SkipStep | ParallelStep | PruneStep], BeforeValidator(_read_step)
]


class ReductionPlan(_Strict):
    """What a method leaves out, step by step.

    Parameters
    ----------
    name : str
        How tables call the plan.
    steps : tuple of SkipStep, ParallelStep or PruneStep
        All of them apply; a token that two steps prune leaves after the earlier layer.

    Examples
    --------
    >>> steps = [{"skip": "ffn", "ratio": 0.5}]
    >>> plan = ReductionPlan(name="half of the perceptual tokens skip the FFN", steps=steps)
    >>> plan.steps[0].layers.resolve(4)
    [1, 2, 3, 4]
    """

    name: str
    steps: tuple[PlanStep, ...] = ()

    @property
    def skip_steps(self) -> tuple[SkipStep, ...]:
        """The steps in which tokens skip a sub-block."""
        return tuple(step for step in self.steps if isinstance(step, SkipStep))

    @property
    def prune_steps(self) -> tuple[PruneStep, ...]:
        """The steps in which tokens leave, the earliest layer first."""
        steps = (step for step in self.steps if isinstance(step, PruneStep))
        return tuple(sorted(steps, key=lambda step: step.after_layer))

    @property
    def parallel_steps(self) -> tuple[ParallelStep, ...]:
        """The steps in which attention and FFN run in parallel."""
        return tuple(step for step in self.steps if isinstance(step, ParallelStep))

    def check(self, model: FrozenModel) -> None:
        """Refuse a plan that a model cannot run, before anything runs.

        Raises
        ------
        ParameterError
            If a step names a layer that the model lacks, if it names perceptual tokens and the
            model has none, or if the plan cannot change the model's blocks or attention.
        """
        from ima.models.patch_summaries import has_summaries

        layers = model.layers
        for step in self.steps:
            named, lowest = (
                ([step.after_layer], 0)
                if isinstance(step, PruneStep)
                else (resolve_layers(step, layers), 1)
            )
            beyond = [layer for layer in named if not lowest <= layer <= layers]
            if beyond or not named:
                asked = f"layer {', '.join(map(str, beyond))}" if beyond else "no layer"
                raise ParameterError(
                    f"{self.name!r} names {asked}; {model.name!r} has layers 1 to {layers}."
                )
        groups = {step.tokens for step in self.skip_steps}
        groups |= {step.prune for step in self.prune_steps}
        if "perceptual" in groups and model.modality == "text":
            raise ParameterError(
                f"{self.name!r} names perceptual tokens; {model.name!r} is a language model alone. "
                "Name textual or prompt tokens, or take another model: ima models list."
            )
        choices = [*self.prune_steps, *(step.selection for step in self.skip_steps)]
        by_summary = any("summary" in step.needs for step in choices)
        if by_summary and not has_summaries(model):
            raise ParameterError(
                f"{self.name!r} compares patches with the encoder's CLS token; {model.name!r} has "
                "no perceptual token for each patch, or none whose patch is known. Give another "
                "value of choose, or take a model such as llava-mini-3, or one of LLaVA's class."
            )
        if self.prune_steps and model.hook_points.adds_between_blocks:
            raise ParameterError(
                f"{self.name!r} removes tokens; {model.name!r} adds features of the picture to all "
                "its tokens between blocks (DeepStack), so none may be missing. Take a plan that "
                "skips computation instead, or another model."
            )
        if self.steps and model.hook_points.residual != "sequential":
            raise ParameterError(
                f"{self.name!r} needs blocks in which the FFN follows attention; those of "
                f"{model.name!r} are {model.hook_points.residual}."
            )


def resolve_layers(step: SkipStep | ParallelStep, layers: int) -> list[int]:
    """Return the layers that a step names in a model of ``layers`` blocks.

    Examples
    --------
    >>> resolve_layers(ParallelStep(parallel=LayerRange(start=2)), 4)
    [2, 3, 4]
    """
    named = step.layers if isinstance(step, SkipStep) else step.parallel
    return named.resolve(layers) if isinstance(named, LayerRange) else list(named)


def read_plan(path: str | os.PathLike[str]) -> ReductionPlan:
    """Read a plan from a YAML file.

    Raises
    ------
    ParameterError
        If the file cannot be read or holds no plan; the message names the step and the key.

    Examples
    --------
    >>> read_plan("plan.yaml").prune_steps  # doctest: +SKIP
    (FastV(prune='perceptual', after_layer=2, ratio=0.5, choose='attention', …),)
    """
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(f"Cannot read the plan {os.fspath(path)}: {error}.") from error
    return parse_plan(given, source=os.fspath(path))


def parse_plan(given: Any, *, source: str = "the plan") -> ReductionPlan:
    """Make a plan from the contents of a YAML or JSON file.

    Parameters
    ----------
    given : mapping
        With ``name`` and ``steps``.
    source : str
        Where it comes from, for error messages.

    Raises
    ------
    ParameterError
        If it is no plan.
    UnknownNameError
        If no method has the value of ``choose``.

    Examples
    --------
    >>> parse_plan({"name": "no FFN", "steps": [{"skip": "ffn"}]}).skip_steps[0].tokens
    'perceptual'
    """
    if not isinstance(given, dict):
        raise ParameterError(f"{source} must hold name and steps; it holds {type(given).__name__}.")
    listed = given.get("steps") or []
    if not isinstance(listed, list | tuple):
        raise ParameterError(f"{source} must hold a list of steps; it holds {listed!r}.")
    steps = []
    place = source
    try:
        for number, step in enumerate(listed, start=1):
            place = f"{source}, step {number}"
            if not isinstance(step, dict):
                raise ParameterError(f"one of {', '.join(_KINDS)} is needed; found {step!r}.")
            steps.append(make_step(step))
        place = source
        return ReductionPlan.model_validate({**given, "steps": steps})
    except ValidationError as error:
        raise ParameterError(f"{place}: {read_message(error)}") from error
    except (ParameterError, UnknownNameError) as error:
        raise type(error)(f"{place}: {error}") from error


def read_message(error: ValidationError) -> str:
    """Return the first message of a validation error: the key, why, and what was found.

    Examples
    --------
    >>> try:
    ...     SkipStep(skip="half")
    ... except ValidationError as error:
    ...     print(read_message(error))
    skip: Input should be 'attention', 'ffn' or 'block'; found 'half'.
    """
    first = error.errors()[0]
    # Pydantic names the arms of a union too; a key is enough.
    key = f"{first['loc'][0]}: " if first["loc"] else ""
    shown = bool(first["loc"]) and first["type"] not in {"missing", "value_error"}
    found = f"; found {first['input']!r:.80}" if shown else ""
    return f"{key}{first['msg'].removeprefix('Value error, ').rstrip('.')}{found}."
