"""AIM (arXiv:2406.07588): demonstrations replaced by the hidden states of their text tokens.

The frozen model reads each demonstration, an image and text, up to some layer. The hidden states
of its text tokens, which have attended to its image, go through one trained linear map and replace
the demonstration in the prompt, one token for each text token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ima.errors import ModelError, ParameterError
from ima.files import replace_file
from ima.models import zoo
from ima.models.batch import EmbeddedTokens
from ima.models.frozen import FrozenModel
from ima.models.hook_points import stop_after

if TYPE_CHECKING:
    from ima.data.samples import Sample

#: What precedes a question: states of the demonstrations' text, their text, or images and text.
DemonstrationContent = Literal["states", "words", "whole"]


@dataclass(frozen=True, eq=False)
class Aggregation:
    """A trained map from hidden states of text tokens to input embeddings.

    Parameters
    ----------
    model : str
        The frozen model with which it was trained.
    depth : int
        The layer whose output it reads.
    projection : torch.nn.Linear
        The map.
    card : mapping
        Record of its training.
    """

    model: str
    depth: int
    projection: nn.Linear
    card: Mapping[str, Any]


def load_aggregation(name: str) -> Aggregation:
    """Load a trained map from the zoo.

    Parameters
    ----------
    name : str
        Name of its model, and of its folder under ``aggregation``.

    Raises
    ------
    ModelError
        If there is none, or its weights do not match its card.

    Examples
    --------
    >>> load_aggregation("llava-mini-3").depth  # doctest: +SKIP
    6
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


@torch.no_grad()
def capture_text_states(model: FrozenModel, demonstration: Sample, *, depth: int) -> Tensor:
    """Return the hidden states of a demonstration's text tokens after a layer.

    Later layers do not run. The demonstration is read alone, so that its states do not depend on
    other demonstrations.

    Parameters
    ----------
    model : FrozenModel
        The model that reads it.
    demonstration : Sample
        With media, and its text as the prompt.
    depth : int
        The layer.

    Returns
    -------
    Tensor
        ``(token, hidden)``.

    Raises
    ------
    ParameterError
        If the model has no such layer.

    Examples
    --------
    >>> capture_text_states(model, demonstration, depth=6).shape  # doctest: +SKIP
    torch.Size([7, 128])
    """
    if not 1 <= depth <= model.layers:
        raise ParameterError(
            f"depth must be a layer of {model.name!r}, 1 to {model.layers}; got {depth}."
        )
    batch = model.encode([demonstration], target=False)
    with stop_after(model.hook_points.blocks[depth - 1]) as outputs:
        model.forward(batch)
    return outputs[0][0, batch.modality[0] == 0].float()


@dataclass(frozen=True, eq=False)
class DemonstrationBank:
    """Hidden states of demonstrations' text tokens, computed once for all prompts.

    Parameters
    ----------
    states : mapping of str to Tensor
        By the demonstration's id, ``(token, hidden)``.
    weights_hash : str
        Hash of the model that computed them.
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
        """Compute the states of demonstrations, once for each id."""
        by_id = {sample.id: sample for sample in demonstrations}
        states = {key: capture_text_states(model, by_id[key], depth=depth) for key in by_id}
        return cls(states, model.weights_hash, depth)

    def save(self, path: Path) -> None:
        """Write the bank to a safetensors file, in full precision."""
        from safetensors.torch import save_file

        metadata = {"weights_hash": self.weights_hash, "depth": str(self.depth)}
        states = {key: value.contiguous() for key, value in self.states.items()}
        with replace_file(path) as partial:
            save_file(states, partial, metadata)

    @classmethod
    def read(cls, path: Path, *, model: FrozenModel) -> DemonstrationBank:
        """Read a bank from a file.

        Raises
        ------
        ModelError
            If the file cannot be read, or another model computed the states.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                states = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            depth = int(metadata["depth"])
        except Exception as error:
            raise ModelError(
                f"Cannot read the bank of demonstrations {path}: {error}. Compute it again."
            ) from error
        if metadata.get("weights_hash") != model.weights_hash:
            raise ModelError(
                f"The bank {path} was computed with weights {metadata.get('weights_hash')}; "
                f"{model.name!r} has {model.weights_hash}. Compute it again with this model."
            )
        return cls(states, model.weights_hash, depth)


@dataclass(frozen=True, eq=False)
class FewShotModel(FrozenModel):
    """A frozen model that reads demonstrations before each sample's own perceptual tokens.

    Parameters
    ----------
    before : mapping of str to EmbeddedTokens
        The tokens of the demonstrations, by the id of the sample.
    """

    before: Mapping[str, EmbeddedTokens] = ()  # type: ignore[assignment]

    def _get_prefixes(self, samples: Sequence[Sample]) -> list[EmbeddedTokens | None]:
        return [self.before.get(sample.id) for sample in samples]


def prepend_demonstrations(
    model: FrozenModel,
    episodes: Mapping[str, Sequence[Sample]],
    *,
    content: DemonstrationContent = "states",
    aggregation: Aggregation | None = None,
    bank: DemonstrationBank | None = None,
) -> FewShotModel:
    """Return a model that reads demonstrations before it answers.

    Parameters
    ----------
    model : FrozenModel
        A model of the zoo or of ``ima train``; a model whose own processor builds its prompts
        cannot be given embedded tokens.
    episodes : mapping of str to sequence of Sample
        The demonstrations of each query in order, by the query's id.
    content : {"states", "words", "whole"}
        What of each demonstration is in the prompt: the projected states of its text tokens; its
        text; its image and text.
    aggregation : Aggregation or None
        Needed for ``states``.
    bank : DemonstrationBank or None
        States that were computed before; None computes them here.

    Raises
    ------
    ParameterError
        If the model is of another class, ``states`` lacks a map or has one of another model, or the
        bank is of another depth or lacks a demonstration.

    Examples
    --------
    >>> aggregation = load_aggregation("llava-mini-3")  # doctest: +SKIP
    >>> few_shot = prepend_demonstrations(
    ...     model, {query.id: demonstrations}, aggregation=aggregation
    ... )  # doctest: +SKIP
    >>> few_shot.generate([query])  # doctest: +SKIP
    ['red']
    """
    if type(model) is not FrozenModel:
        raise ParameterError(
            f"The processor of {model.name!r} builds its prompts, so that demonstrations cannot "
            "precede them. Take a model of the zoo or of `ima train`."
        )
    embed = _DemonstrationEmbedder(model, content, aggregation, bank)
    before = {
        key: EmbeddedTokens.concatenate([embed(sample) for sample in demonstrations])
        for key, demonstrations in episodes.items()
    }
    own = {field.name: getattr(model, field.name) for field in fields(FrozenModel)}
    return FewShotModel(**own, before=before)


class _DemonstrationEmbedder:
    """Turns a demonstration into the tokens that are in the prompt."""

    def __init__(
        self,
        model: FrozenModel,
        content: DemonstrationContent,
        aggregation: Aggregation | None,
        bank: DemonstrationBank | None,
    ) -> None:
        if content == "states":
            if aggregation is None:
                raise ParameterError(
                    "States need a trained map. Give aggregation=load_aggregation(…)."
                )
            width = aggregation.projection.in_features
            if aggregation.model != model.name or width != model.hidden:
                raise ParameterError(
                    f"The map was trained with {aggregation.model!r}, not {model.name!r}. Load "
                    "that model, or train a map for this one."
                )
            if bank is not None and bank.depth != aggregation.depth:
                raise ParameterError(
                    f"The bank is of depth {bank.depth}, the map of {aggregation.depth}. Compute "
                    f"the bank with depth={aggregation.depth}."
                )
        self.model, self.content, self.aggregation, self.bank = model, content, aggregation, bank

    @torch.no_grad()
    def __call__(self, demonstration: Sample) -> EmbeddedTokens:
        if self.content == "states":
            return self._project_states(demonstration)
        batch = self.model.encode([demonstration], target=False)
        shown = batch.modality[0] >= 0
        if self.content == "words":
            shown = batch.modality[0] == 0
        codes, ids = batch.modality[0, shown].cpu(), batch.token_id[0, shown].cpu()
        return EmbeddedTokens(batch.embeds[0, shown], codes, ids)

    def _project_states(self, demonstration: Sample) -> EmbeddedTokens:
        assert self.aggregation is not None
        depth = self.aggregation.depth
        if self.bank is None:
            states = capture_text_states(self.model, demonstration, depth=depth)
        elif demonstration.id in self.bank.states:
            states = self.bank.states[demonstration.id]
        else:
            raise ParameterError(
                f"The bank has no demonstration {demonstration.id!r}. Compute it again."
            )
        tokens = self.aggregation.projection(states.cpu())
        like = next(self.model.hook_points.embedding.parameters())
        codes = torch.zeros(len(tokens), dtype=torch.int8)
        ids = torch.full((len(tokens),), -1)
        return EmbeddedTokens(tokens.to(like.device, like.dtype), codes, ids)
