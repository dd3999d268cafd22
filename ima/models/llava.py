"""Multitask models: class LLaVA made of a frozen encoder, a projector and a language model."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ima.models.connector import Connector, ConnectorConfig

#: The byte-level token of byte 0, which no text contains. It marks the places of image tokens, so
#: the frozen vocabulary needs no new token.
IMAGE_PLACEHOLDER = "Ā"


class ProjectorConfig(BaseModel):
    """Configuration of the projector from the encoder to the language model.

    Parameters
    ----------
    kind : {"mlp", "qformer"}
        ``"mlp"``: LLaVA's perceptron of two layers, one token per patch. ``"qformer"``: the
        connector of the single-task models, whose queries read all patches.
    connector : ConnectorConfig or None
        Sizes of the latter.

    Examples
    --------
    >>> ProjectorConfig(kind="mlp").connector is None
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mlp", "qformer"]
    connector: ConnectorConfig | None = None

    def tokens(self, encoder: Any) -> int:
        """Return the number of tokens per image."""
        if self.connector is not None:
            return self.connector.queries
        return int((encoder.config.image_size // encoder.config.patch_size) ** 2)


def build_projector(
    config: ProjectorConfig, *, encoder: Any, language: Any, seed: int = 0
) -> nn.Module:
    """Return an untrained projector; the global random state does not change.

    Examples
    --------
    >>> build_projector(
    ...     ProjectorConfig(kind="mlp"), encoder=encoder, language=language, seed=0
    ... )  # doctest: +SKIP
    LlavaMultiModalProjector(…)
    """
    if config.connector is not None:
        return Connector(config.connector, seed=seed)
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    whole = _config(encoder, language, tokens=config.tokens(encoder), placeholder=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector: nn.Module = LlavaMultiModalProjector(whole)
    return projector


def assemble_llava(
    *, encoder: Any, projector: nn.Module, language: Any, tokens: int, placeholder: int
) -> Any:
    """Return a ``LlavaForConditionalGeneration`` that contains these very modules.

    Parameters
    ----------
    encoder : CLIPVisionModel
        The projector reads its last layer without the CLS token: LLaVA's ``default`` strategy.
    projector : torch.nn.Module
        From :func:`build_projector`.
    language : PreTrainedModel
        A causal language model with modules ``model`` and ``lm_head``.
    tokens : int
        Number of tokens per image.
    placeholder : int
        Id of the token that marks their places.

    Examples
    --------
    >>> assemble_llava(
    ...     encoder=encoder, projector=projector, language=language, tokens=64, placeholder=3
    ... )  # doctest: +SKIP
    """
    from transformers import LlavaForConditionalGeneration

    config = _config(encoder, language, tokens=tokens, placeholder=placeholder)
    model: Any = LlavaForConditionalGeneration(config)
    model.model.vision_tower = encoder
    model.model.multi_modal_projector = projector
    model.model.language_model = language.model
    model.lm_head = language.lm_head
    model.generation_config = language.generation_config
    return model.eval()


def drop_cls_token(tokens: Tensor) -> Tensor:
    """Return an encoder's tokens without the first one, the CLS token.

    Examples
    --------
    >>> tuple(drop_cls_token(torch.zeros(2, 65, 128)).shape)
    (2, 64, 128)
    """
    return tokens[:, 1:]


def _config(encoder: Any, language: Any, *, tokens: int, placeholder: int) -> Any:
    from transformers import LlavaConfig

    # Copies, because LlavaConfig changes the attention implementation of its parts.
    return LlavaConfig(
        vision_config=copy.deepcopy(encoder.config),
        text_config=copy.deepcopy(language.config),
        image_token_index=placeholder,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=tokens,
        tie_word_embeddings=bool(language.config.tie_word_embeddings),
    )
