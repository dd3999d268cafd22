"""Begin an encoder of clips with the weights of an encoder of pictures.

X-CLIP (Ni et al. 2022, arXiv:2208.02816) begins with CLIP, and TimeSformer (Bertasius et al. 2021,
arXiv:2102.05095) with a ViT: what a picture shows need not be learned again from a few thousand
clips, only what moves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as nnf

#: Deviation of the embeddings of frames, in those of places: with 1 a linear read-out of the last
#: layer told the frame with an R² of 0.88 before training, with 2 of 0.96.
TIME_EMBEDDING_SCALE = 2.0


@torch.no_grad()
def inflate_image_encoder(clips: Any, pictures: Any, *, like: torch.Tensor) -> None:
    """Give a TimeSformer the weights of a CLIP vision tower.

    Attention in space, the MLP and the norms are the tower's. Attention in time is a copy of that
    in space and adds nothing at first, since what follows it is set to zero: before training each
    frame is read nearly as the tower would read it. Three things are not the tower's: positions are
    interpolated where the grids differ; its norm before the first block, which TimeSformer does not
    have, is folded into the embeddings, with the mean deviation over some pictures in the place of
    each patch's own; and each frame has an embedding, a sinusoid twice as large as those of places
    (:data:`TIME_EMBEDDING_SCALE`). Where these began at zero, a linear read-out told the frame of a patch with an
    R² of 0.86 after the training, and connectors, which select patches so, learned less than from
    an encoder that named fewer of them.

    Parameters
    ----------
    clips : TimesformerModel
        What is changed; as wide and as deep as the tower.
    pictures : CLIPVisionModel
        The tower.
    like : Tensor
        ``(picture, channel, height, width)``, as the encoder of clips will see them.

    Raises
    ------
    ValueError
        If the two differ in width, depth, number of heads, patches or activation.
    """
    pictures = getattr(pictures, "vision_model", pictures)
    _check(clips.config, pictures.config)
    _embed(clips.embeddings, pictures, like=like)
    for ours, theirs in zip(clips.encoder.layer, pictures.encoder.layers, strict=True):
        attention = theirs.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        for held in (ours.attention, ours.temporal_attention):
            held.attention.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
            held.attention.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
            _copy(held.output.dense, attention.out_proj)
        _copy(ours.layernorm_before, theirs.layer_norm1)
        _copy(ours.temporal_layernorm, theirs.layer_norm1)
        _copy(ours.layernorm_after, theirs.layer_norm2)
        _copy(ours.intermediate.dense, theirs.mlp.fc1)
        _copy(ours.output.dense, theirs.mlp.fc2)
        nn.init.zeros_(ours.temporal_dense.weight)
        nn.init.zeros_(ours.temporal_dense.bias)
    _copy(clips.layernorm, pictures.post_layernorm)


def _check(ours: Any, theirs: Any) -> None:
    names = (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "patch_size", "hidden_act",
    )  # fmt: skip
    for name in names:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if mine != other:
            message = f"Cannot begin with an encoder whose {name} is {other}, not {mine}."
            raise ValueError(message)


def _embed(embeddings: Any, pictures: Any, *, like: torch.Tensor) -> None:
    theirs, norm = pictures.embeddings, pictures.pre_layrnorm
    kernel = theirs.patch_embedding.weight
    own, places = theirs.position_embedding.weight[:1], theirs.position_embedding.weight[1:]
    old, new = (round(len(grid) ** 0.5) for grid in (places, embeddings.position_embeddings[0, 1:]))
    grid = places.T.reshape(1, -1, old, old)
    grid = nnf.interpolate(grid, size=(new, new), mode="bilinear", align_corners=False)
    places = grid.flatten(2)[0].T
    seen = nnf.conv2d(like, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2) + places
    gain = norm.weight / seen.std(-1, correction=0).mean()
    embeddings.patch_embeddings.projection.weight.copy_(
        gain[:, None, None, None] * (kernel - kernel.mean(0, keepdim=True))
    )
    nn.init.zeros_(embeddings.patch_embeddings.projection.bias)
    places = gain * (places - places.mean(-1, keepdim=True))
    embeddings.position_embeddings[0, 1:] = places + norm.bias
    times = make_sinusoidal_embeddings(*embeddings.time_embeddings.shape[1:])
    embeddings.time_embeddings[0] = TIME_EMBEDDING_SCALE * times * (places - places.mean(0)).std()
    # No frame adds to CLS: its own norm can be carried over as it is.
    embeddings.position_embeddings[0, 0] = norm(theirs.class_embedding + own[0])
    nn.init.zeros_(embeddings.cls_token)


def make_sinusoidal_embeddings(frames: int, width: int) -> torch.Tensor:
    """Return embeddings of frames ``(frame, width)``, of mean 0 and deviation 1.

    Half of the dims are cosines and half are sines, of half a period over the clip up to one that
    changes its sign with every frame: so neighbours are alike, and a linear map tells the time.
    """
    half = torch.arange(width // 2) / max(1, width // 2 - 1)
    speed = torch.pi / frames * frames**half
    angle = (torch.arange(frames)[:, None] + 0.5) * speed
    waves = torch.cat([angle.cos(), angle.sin()], dim=1)
    waves = waves - waves.mean(0)
    return waves / waves.std()


def _copy(ours: nn.Module, theirs: nn.Module) -> None:
    ours.load_state_dict(theirs.state_dict())
