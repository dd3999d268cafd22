"""Multitask models: LLaVA's class around a frozen encoder, a projector and a language model."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ima.models.connector import Connector, ConnectorConfig

#: The byte-level token of byte 0, which no text holds: it marks the places of image tokens, so that
#: the frozen vocabulary need not grow.
IMAGE_PLACEHOLDER = "Ā"


class ProjectorConfig(BaseModel):
    """What lies between the encoder and the language model of a multitask model.

    Parameters
    ----------
    kind : {"mlp", "qformer"}
        LLaVA's perceptron of two layers, which makes one token of each patch; or the connector of
        the single task models, whose queries read all patches.
    connector : ConnectorConfig or None
        Sizes of the latter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mlp", "qformer"]
    connector: ConnectorConfig | None = None

    def tokens(self, encoder: Any) -> int:
        """Return how many tokens an image becomes."""
        if self.connector is not None:
            return self.connector.queries
        return int((encoder.config.image_size // encoder.config.patch_size) ** 2)


def build_projector(
    config: ProjectorConfig, *, encoder: Any, language: Any, seed: int = 0
) -> nn.Module:
    """Return an untrained projector; the global random state is left as it was."""
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
    """Return a ``LlavaForConditionalGeneration`` made of these very modules.

    Parameters
    ----------
    encoder : CLIPVisionModel
        Its last layer is read, without the CLS token: LLaVA's ``default`` strategy.
    projector : torch.nn.Module
        Of :func:`build_projector`.
    language : PreTrainedModel
        A causal language model with parts ``model`` and ``lm_head``.
    tokens : int
        Tokens that an image becomes.
    placeholder : int
        Id of the token that marks their places.
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
    """Return an encoder's tokens without the first, its CLS token."""
    return tokens[:, 1:]


def _config(encoder: Any, language: Any, *, tokens: int, placeholder: int) -> Any:
    from transformers import LlavaConfig

    # Copies: the configuration of the whole changes how the parts of it attend.
    return LlavaConfig(
        vision_config=copy.deepcopy(encoder.config),
        text_config=copy.deepcopy(language.config),
        image_token_index=placeholder,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=tokens,
        tie_word_embeddings=bool(language.config.tie_word_embeddings),
    )
