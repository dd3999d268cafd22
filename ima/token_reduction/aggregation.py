"""AIM (arXiv:2406.07588): of a demonstration its words stay, which have looked at its image.

The frozen model reads each demonstration, an image and words, down to some depth. The states at
its words, which have attended to the image, go through one trained linear map and stand in the
prompt in the place of the demonstration, as many rows as it has words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ima.errors import ModelError, ParameterError
from ima.models import zoo
from ima.models.batch import EmbeddedTokens
from ima.models.frozen import FrozenModel

if TYPE_CHECKING:
    from ima.data.samples import Sample

#: What stands before a question: states of demonstrations, their words, their images and words.
DemonstrationContent = Literal["states", "words", "whole"]


@dataclass(frozen=True, eq=False)
class Aggregation:
    """A trained map from the states of words to rows of a prompt.

    Parameters
    ----------
    model : str
        The frozen model that it was trained with.
    depth : int
        The layer whose output it reads.
    projection : torch.nn.Linear
        The map.
    card : mapping
        How it was trained.
    """

    model: str
    depth: int
    projection: nn.Linear
    card: Mapping[str, Any]


def load_aggregation(name: str) -> Aggregation:
    """Load a trained map of the zoo.

    Parameters
    ----------
    name : str
        Folder under ``aggregation``, which is the name of its model.

    Raises
    ------
    ModelError
        If there is none, or its weights are others than its card tells.
    """
    folder = zoo.get_zoo_root() / "aggregation" / name
    card = zoo.read_card(folder)
    zoo.verify_weights(folder / zoo.WEIGHTS_FILE, expected=card["sha256"])
    state = {key: value.float() for key, value in load_file(folder / zoo.WEIGHTS_FILE).items()}
    wide, narrow = state["weight"].shape
    projection = nn.Linear(narrow, wide)
    projection.load_state_dict(state)
    projection.requires_grad_(requires_grad=False)
    return Aggregation(card["model"], card["depth"], projection, card)


class _ReachedError(Exception):
    """The layer that was asked for has run, and those behind it need not."""


@contextmanager
def stop_after(block: nn.Module) -> Iterator[list[Tensor]]:
    """Run a model, in the body, no further than one of its blocks.

    Parameters
    ----------
    block : torch.nn.Module
        The block.

    Yields
    ------
    list of Tensor
        Receives its output, dims (sample, position, hidden).
    """
    found: list[Tensor] = []

    def stop(_module: nn.Module, _args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)
        raise _ReachedError

    handle = block.register_forward_hook(stop)
    try:
        with suppress(_ReachedError):
            yield found
    finally:
        handle.remove()


@torch.no_grad()
def capture_text_states(model: FrozenModel, demonstration: Sample, *, depth: int) -> Tensor:
    """Return the states of a demonstration's words behind a layer; layers after it do not run.

    Parameters
    ----------
    model : FrozenModel
        What reads it.
    demonstration : Sample
        With media and a prompt, which are its words. It is read alone, so that nothing depends on
        what else is read.
    depth : int
        The layer.

    Returns
    -------
    Tensor
        ``(word, hidden)``.

    Raises
    ------
    ParameterError
        If there is no such layer.
    """
    if not 1 <= depth <= model.layers:
        message = f"depth must be a layer of {model.name!r}, 1 to {model.layers}; got {depth}."
        raise ParameterError(message)
    batch = model.encode([demonstration], target=False)
    with stop_after(model.anatomy.blocks[depth - 1]) as found:
        model.forward(batch)
    return found[0][0, batch.modality[0] == 0].float()


@dataclass(frozen=True, eq=False)
class DemonstrationBank:
    """States of demonstrations' words, read once for all prompts in which they may stand.

    Parameters
    ----------
    states : mapping of str to Tensor
        By the demonstration's id, ``(word, hidden)``.
    weights_hash : str
        Of the model that read them.
    depth : int
        The layer.
    """

    states: Mapping[str, Tensor]
    weights_hash: str
    depth: int

    @classmethod
    def of(
        cls, model: FrozenModel, demonstrations: Sequence[Sample], *, depth: int
    ) -> DemonstrationBank:
        """Read demonstrations; those of one id once."""
        distinct = {one.id: one for one in demonstrations}
        read = {key: capture_text_states(model, one, depth=depth) for key, one in distinct.items()}
        return cls(read, model.weights_hash, depth)

    def save(self, path: Path) -> None:
        """Write it to a safetensors file, in full precision."""
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"weights_hash": self.weights_hash, "depth": str(self.depth)}
        save_file({key: value.contiguous() for key, value in self.states.items()}, path, about)

    @classmethod
    def read(cls, path: Path, *, model: FrozenModel) -> DemonstrationBank:
        """Read one from a file.

        Raises
        ------
        ModelError
            If it cannot be read, or another model made it.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                states = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            depth = int(about["depth"])
        except Exception as error:
            message = f"Cannot read the bank of demonstrations {path}: {error}. Make it anew."
            raise ModelError(message) from error
        if about.get("weights_hash") != model.weights_hash:
            message = (
                f"The bank {path} was read by a model of weights {about.get('weights_hash')}; "
                f"{model.name!r} has {model.weights_hash}. Make it anew with this model."
            )
            raise ModelError(message)
        return cls(states, model.weights_hash, depth)


@dataclass(frozen=True, eq=False)
class FewShotModel(FrozenModel):
    """A frozen model that reads rows of demonstrations before each sample's own percepts.

    Parameters
    ----------
    before : mapping of str to Rows
        By the id of the sample.
    """

    before: Mapping[str, EmbeddedTokens] = ()  # type: ignore[assignment]

    def _before(self, samples: Sequence[Sample]) -> list[EmbeddedTokens | None]:
        return [self.before.get(sample.id) for sample in samples]


def prepend_demonstrations(
    model: FrozenModel,
    episodes: Mapping[str, Sequence[Sample]],
    *,
    how: DemonstrationContent = "states",
    aggregation: Aggregation | None = None,
    bank: DemonstrationBank | None = None,
) -> FewShotModel:
    """Return a model that reads demonstrations before it answers.

    Parameters
    ----------
    model : FrozenModel
        With percepts of its own; a model whose processor lays out its prompts cannot be given rows.
    episodes : mapping of str to sequence of Sample
        By the id of the sample that is asked: its demonstrations, in order.
    how : {"states", "words", "whole"}
        What of each demonstration stands in the prompt: projected states of its words; its words
        alone; its image and its words.
    aggregation : Aggregation or None
        For ``states``.
    bank : Bank or None
        States that are known; without one, all are read here.

    Raises
    ------
    ParameterError
        If the model is of another class, ``states`` lacks a map or has one of another model, or the
        bank is of another depth or lacks a demonstration.
    """
    if type(model) is not FrozenModel:
        message = (
            f"{model.name!r} lays out its prompts by its own processor; demonstrations can be put "
            "before those of the zoo and of `ima train`."
        )
        raise ParameterError(message)
    rows_of = _Rows(model, how, aggregation, bank)
    before = {
        key: EmbeddedTokens.joined([rows_of(one) for one in demonstrations])
        for key, demonstrations in episodes.items()
    }
    own = {field.name: getattr(model, field.name) for field in fields(FrozenModel)}
    return FewShotModel(**own, before=before)


class _Rows:
    """Makes rows of demonstrations."""

    def __init__(
        self,
        model: FrozenModel,
        how: DemonstrationContent,
        aggregation: Aggregation | None,
        bank: DemonstrationBank | None,
    ) -> None:
        if how == "states":
            if aggregation is None:
                message = "States need a trained map. Give aggregation=load_aggregation(…)."
                raise ParameterError(message)
            width = aggregation.projection.in_features
            if aggregation.model != model.name or width != model.hidden:
                message = f"The map was trained with {aggregation.model!r}, not {model.name!r}."
                raise ParameterError(message)
            if bank is not None and bank.depth != aggregation.depth:
                message = f"The bank is of depth {bank.depth}, the map of {aggregation.depth}."
                raise ParameterError(message)
        self.model, self.how, self.aggregation, self.bank = model, how, aggregation, bank

    @torch.no_grad()
    def __call__(self, demonstration: Sample) -> EmbeddedTokens:
        if self.how == "states":
            return self._states(demonstration)
        batch = self.model.encode([demonstration], target=False)
        chosen = batch.modality[0] >= 0
        if self.how == "words":
            chosen = batch.modality[0] == 0
        codes, ids = batch.modality[0, chosen].cpu(), batch.token_id[0, chosen].cpu()
        return EmbeddedTokens(batch.embeds[0, chosen], codes, ids)

    def _states(self, demonstration: Sample) -> EmbeddedTokens:
        assert self.aggregation is not None
        depth = self.aggregation.depth
        if self.bank is None:
            states = capture_text_states(self.model, demonstration, depth=depth)
        elif demonstration.id in self.bank.states:
            states = self.bank.states[demonstration.id]
        else:
            message = f"The bank holds no demonstration {demonstration.id!r}. Make it anew."
            raise ParameterError(message)
        rows = self.aggregation.projection(states.cpu())
        like = next(self.model.anatomy.embedding.parameters())
        codes = torch.zeros(len(rows), dtype=torch.int8)
        return EmbeddedTokens(rows.to(like.device, like.dtype), codes, torch.full((len(rows),), -1))
