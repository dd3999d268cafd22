"""The encoders of the zoo: three per modality, with different training objectives.

One is *supervised* by labels of its patches (:mod:`ima.miniature.labelling`), one is *text-aligned*
by contrastive training with captions (:mod:`ima.miniature.contrastive`), and one is
*self-supervised*: it reconstructs masked patches (:mod:`ima.miniature.masking`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from ima.training.loop import TrainingRecipe

PretrainingObjective = Literal["supervised", "text-aligned", "self-supervised"]
PRETRAINING_OBJECTIVES: tuple[PretrainingObjective, ...] = (
    "supervised",
    "text-aligned",
    "self-supervised",
)
#: Samples per step.
ENCODER_BATCH_SIZES = {"image": 64, "video": 24, "audio": 64}


@dataclass(frozen=True)
class MiniEncoderSpec:
    """An encoder of the zoo: its class in transformers, its sizes and its recipe.

    Parameters
    ----------
    name, modality : str
        Folder in the zoo, and modality.
    objective : {"supervised", "text-aligned", "self-supervised"}
        Training objective.
    model : str
        Name of its class in transformers.
    sizes : mapping
        Arguments of the configuration.
    n_special_tokens : int
        Tokens before the patches (CLS; AST has two).
    recipe : TrainingRecipe
        Steps, learning rate, seed.
    start_encoder : str or None
        Encoder of the zoo whose weights it starts from; None for random initial weights.
    """

    name: str
    modality: str
    objective: PretrainingObjective
    model: str
    sizes: Mapping[str, Any]
    n_special_tokens: int
    recipe: TrainingRecipe
    start_encoder: str | None = None


_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_SIZES = {
    "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384,
}  # fmt: skip
_IMAGE = {**_SIZES, "image_size": 64, "patch_size": 8}
_SOUND = {
    **_SIZES, "patch_size": 16, "frequency_stride": 16, "time_stride": 16, "max_length": 192,
    "num_mel_bins": 64, **_DROPOUT,
}  # fmt: skip
_SOUND_SLICES = {
    **_SIZES, "image_size": (16, 64), "patch_size": 16, "num_channels": 1, "num_frames": 12,
    "tubelet_size": 1, **_DROPOUT,
}  # fmt: skip
_CLIP = {
    **_SIZES, "hidden_size": 96, "intermediate_size": 288, "image_size": 48, "patch_size": 8,
    "num_frames": 8, **_DROPOUT,
}  # fmt: skip
#: Sizes of a video encoder that starts from an image encoder: same width and activation.
_LIKE_IMAGE = {
    **_CLIP, **_SIZES, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_RECIPE = TrainingRecipe(steps=2600, learning_rate=1.5e-3, seed=21, probe_every=200)
MINI_ENCODERS: dict[str, MiniEncoderSpec] = {
    spec.name: spec
    for spec in (
        MiniEncoderSpec("vit", "image", "supervised", "ViTModel", _IMAGE | _DROPOUT, 1, _RECIPE),
        MiniEncoderSpec(
            "clip", "image", "text-aligned", "CLIPVisionModel", _IMAGE, 1, replace(_RECIPE, seed=24)
        ),
        MiniEncoderSpec(
            "mae", "image", "self-supervised", "ViTModel", _IMAGE | _DROPOUT, 1,
            replace(_RECIPE, steps=3000, seed=27),
        ),
        MiniEncoderSpec(
            "ast", "audio", "supervised", "ASTModel", _SOUND, 2,
            replace(_RECIPE, steps=1200, seed=23),
        ),
        MiniEncoderSpec(
            "clap", "audio", "text-aligned", "ASTModel", _SOUND, 2,
            replace(_RECIPE, steps=2000, seed=26),
        ),
        MiniEncoderSpec(
            "audiomae", "audio", "self-supervised", "VideoMAEModel", _SOUND_SLICES, 0,
            replace(_RECIPE, steps=2000, seed=29),
        ),
        MiniEncoderSpec(
            "timesformer", "video", "supervised", "TimesformerModel", _CLIP, 1,
            replace(_RECIPE, steps=4000, seed=22, restart=1800),
        ),
        MiniEncoderSpec(
            "xclip", "video", "text-aligned", "TimesformerModel", _LIKE_IMAGE, 1,
            replace(_RECIPE, steps=1600, learning_rate=6e-4, seed=25), start_encoder="clip",
        ),
        MiniEncoderSpec(
            "videomae", "video", "self-supervised", "VideoMAEModel", _CLIP | {"tubelet_size": 2}, 0,
            replace(_RECIPE, steps=2500, seed=28),
        ),
    )
}  # fmt: skip


def build_encoder(spec: MiniEncoderSpec) -> nn.Module:
    """Return the untrained encoder; its initial weights depend only on the recipe's seed.

    Examples
    --------
    >>> type(build_encoder(MINI_ENCODERS["vit"])).__name__  # doctest: +SKIP
    'ViTModel'
    """
    import transformers

    model_class: Any = getattr(transformers, spec.model)
    arguments = {"add_pooling_layer": False} if spec.model == "ViTModel" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.recipe.seed)
        model: nn.Module = model_class(model_class.config_class(**spec.sizes), **arguments)
    return model
