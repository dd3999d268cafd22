"""Similarity of each patch of a picture to the encoder's CLS token, in models of a hub.

Image-text interaction pruning (arXiv:2409.01162) reads it. Models of the zoo compute it in
:class:`ima.models.perception.Perception`. Here it is read from the encoder of a model of the class
of LLaVA while the model's own code runs: at the layer whose patches the projector gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

_TOWER = "vision_tower"
#: Names of the learned vector of a CLS token, in encoders of transformers.
_CLS_NAMES = ("class_embedding", "cls_token")


def has_summaries(model: FrozenModel) -> bool:
    """Return whether batches of a model hold the similarity of each patch to the CLS token.

    Parameters
    ----------
    model : FrozenModel
        Of the zoo or of a hub.

    Examples
    --------
    >>> has_summaries(load_model("llava-mini-3"))  # doctest: +SKIP
    True
    """
    if model.perception is not None:
        return model.perception.has_summary
    return find_patch_encoder(model.language) is not None


def find_patch_encoder(language: nn.Module) -> nn.Module | None:
    """Return the encoder of a model whose perceptual tokens are its patches; None if there is none.

    Parameters
    ----------
    language : torch.nn.Module
        A model of transformers.

    Returns
    -------
    torch.nn.Module or None
        An encoder with a CLS token, which the projector does not get. None where several layers
        are joined, or a picture is cut into tiles: perceptual tokens are then no single patches.

    Examples
    --------
    >>> find_patch_encoder(nn.Linear(2, 2)) is None
    True
    """
    config: Any = getattr(language, "config", None)
    is_plain = getattr(config, "vision_feature_select_strategy", None) == "default"
    is_plain &= isinstance(getattr(config, "vision_feature_layer", None), int)
    if not is_plain or getattr(config, "image_grid_pinpoints", None):
        return None
    towers = (own for name, own in language.named_modules() if name.rpartition(".")[2] == _TOWER)
    tower = next(towers, None)
    names = [name for name, _ in tower.named_parameters()] if tower is not None else []
    return tower if any(name.endswith(_CLS_NAMES) for name in names) else None


@contextmanager
def watch_summaries(language: nn.Module) -> Iterator[list[Tensor]]:
    """Note, in the body of the context, the similarities of the pictures that a model encodes.

    Parameters
    ----------
    language : torch.nn.Module
        A model of transformers.

    Yields
    ------
    list of Tensor
        Receives ``(picture, patch)``, cosines, each time the encoder runs; stays empty if the
        model has none that :func:`find_patch_encoder` finds.

    Examples
    --------
    >>> with watch_summaries(nn.Linear(2, 2)) as found:
    ...     pass
    >>> found
    []
    """
    found: list[Tensor] = []
    tower = find_patch_encoder(language)
    if tower is None:
        yield found
        return
    config: Any = language.config

    def note(_module: nn.Module, _args: Any, output: Any) -> None:
        states = output.hidden_states[config.vision_feature_layer].float()
        found.append(torch.cosine_similarity(states[:, 1:], states[:, :1], dim=-1))

    handle = tower.register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()


def place_summaries(found: Sequence[Tensor], perceptual: Tensor) -> Tensor | None:
    """Return the similarities at the places of their perceptual tokens.

    Parameters
    ----------
    found : sequence of Tensor
        From :func:`watch_summaries`.
    perceptual : Tensor
        ``(sample, position)`` bool: the perceptual tokens, patch by patch.

    Returns
    -------
    Tensor or None
        ``(sample, position)``, 0 elsewhere; None if there are not as many patches as tokens.

    Examples
    --------
    >>> place_summaries([torch.tensor([[0.5, 0.25]])], torch.tensor([[True, True, False]]))
    tensor([[0.5000, 0.2500, 0.0000]])
    >>> place_summaries([], torch.tensor([[True]])) is None
    True
    """
    values = torch.cat([own.reshape(-1) for own in found]) if found else torch.zeros(0)
    if not len(values) or len(values) != int(perceptual.sum()):
        return None
    placed = torch.zeros(perceptual.shape, device=perceptual.device)
    placed[perceptual] = values.to(perceptual.device)
    return placed
