"""A start from which a small language model learns to look things up within minutes.

Binding an attribute to its object takes two attention layers that only pay off together: one that
brings each token the tokens before it, and one that finds the token that followed an earlier
occurrence of the present one (induction heads; Olsson et al. 2022, arXiv:2209.11895). From random
weights a 12-layer model of this size sat at what guessing among the present attributes gives for
over a thousand steps. So the first two blocks *start* near such a circuit, as in mimetic
initialisation (Trockman & Kolter 2023, arXiv:2305.09828). Nothing is fixed: all weights train.
"""

from __future__ import annotations

from typing import Any

import torch

#: How many tokens back each head of the first block looks, head by head.
_HEAD_OFFSETS = (1, 1, 2, 3)
#: Size of the query and key biases that make a head look back; 4 puts 0.9 of its weight there.
_ATTENTION_BIAS = 4.0
#: What the two blocks write, relative to what they read.
_OUTPUT_GAIN = 0.15
#: Standard deviation of the embeddings: 1/√hidden, so that they have unit length.
_EMBEDDING_STD = 0.088
_EARLY_SCALE = 0.1
#: Wavelengths of learned positions at the start run from 2π to almost this many times as much.
_WAVELENGTH_BASE = 100.0


@torch.no_grad()
def init_rotary_induction(model: Any, *, seed: int) -> None:
    """Set the first two blocks of a LLaMA with attention biases near an induction circuit.

    Block 1 writes the token ``OFFSETS[h]`` positions back into a rotated copy of the embedding
    space; block 2 matches the present token against that copy and copies the token it finds.
    All blocks' outputs are scaled down by the square root of twice the depth.

    Parameters
    ----------
    model : LlamaForCausalLM
        With ``attention_bias=True``, four heads, and as many key as query heads; changed in place.
    seed : int
        Seed of the random rotations.
    """
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    hidden, width = config.hidden_size, config.hidden_size // config.num_attention_heads
    model.get_input_embeddings().weight.normal_(0.0, _EMBEDDING_STD, generator=generator)
    _scale_outputs([(x.self_attn.o_proj, x.mlp.down_proj) for x in model.model.layers])
    back, find = (layer.self_attn for layer in model.model.layers[:2])
    _read_and_copy(back, find, "o_proj", torch.eye(hidden), generator)
    frequency = config.rope_parameters["rope_theta"] ** (-torch.arange(0, width, 2) / width)
    for head, offset in enumerate(_HEAD_OFFSETS):
        half, whole = head * width + width // 2, (head + 1) * width
        # RoPE turns the pair (i, i + width/2) by frequency · position: the product of this query
        # and this key is largest where the positions differ by the offset.
        back.k_proj.bias[head * width : half] = _ATTENTION_BIAS
        back.q_proj.bias[head * width : half] = _ATTENTION_BIAS * torch.cos(frequency * offset)
        back.q_proj.bias[half:whole] = -_ATTENTION_BIAS * torch.sin(frequency * offset)
    for projection in (back.q_proj, back.k_proj):
        projection.weight.mul_(_EARLY_SCALE)


@torch.no_grad()
def init_learned_induction(model: Any, *, seed: int) -> None:
    """Set the first two blocks of an OPT near the same circuit.

    Its positions are learned: they start as sinusoids in the last ``hidden / heads`` dimensions,
    which words leave free, so that looking back by an offset is one rotation of them.

    Parameters
    ----------
    model : OPTForCausalLM
        With four heads; changed in place.
    seed : int
        Seed of the random rotations.
    """
    generator = torch.Generator().manual_seed(seed)
    config, decoder = model.config, model.model.decoder
    hidden, width = config.hidden_size, config.hidden_size // config.num_attention_heads
    words = torch.eye(hidden)
    words[-width:] = 0.0
    embedding = model.get_input_embeddings().weight
    embedding.normal_(0.0, _EMBEDDING_STD, generator=generator)
    embedding.copy_(embedding @ words)
    frequency = _WAVELENGTH_BASE ** (-torch.arange(0, width, 2) / width)
    places = decoder.embed_positions.weight
    turned = torch.arange(len(places))[:, None] * frequency
    places.zero_()
    # Of the same length as a word, so that the normalisation keeps both.
    places[:, -width:] = torch.cat([turned.cos(), turned.sin()], dim=1) * (2 / width) ** 0.5
    _scale_outputs([(layer.self_attn.out_proj, layer.fc2) for layer in decoder.layers])
    back, find = (layer.self_attn for layer in decoder.layers[:2])
    _read_and_copy(back, find, "out_proj", words, generator)
    # The normalised position has length √(hidden/2), hence 2 / √hidden for a score like LLaMA's.
    focus = _ATTENTION_BIAS * width**0.5 / hidden**0.5
    for projection in (back.q_proj, back.k_proj):
        projection.weight.mul_(_EARLY_SCALE)
    for head, offset in enumerate(_HEAD_OFFSETS):
        rows = slice(head * width, (head + 1) * width)
        cos, sin = (frequency * offset).cos().diag(), (frequency * offset).sin().diag()
        back.k_proj.weight[rows, -width:] = focus * torch.eye(width)
        back.q_proj.weight[rows, -width:] = focus * torch.cat(
            [torch.cat([cos, sin], dim=1), torch.cat([-sin, cos], dim=1)]
        )


def _scale_outputs(projections: list[tuple[Any, Any]]) -> None:
    for pair in projections:
        for projection in pair:
            projection.weight.mul_((2 * len(projections)) ** -0.5)


def _read_and_copy(
    back: Any, find: Any, out: str, words: torch.Tensor, generator: torch.Generator
) -> None:
    """Let ``back`` write what it attends to into a rotated copy, and ``find`` look it up there.

    ``words`` projects on the dimensions in which words are.
    """
    hidden = len(words)

    def rotation() -> torch.Tensor:
        turned: torch.Tensor = torch.linalg.qr(torch.randn(hidden, hidden, generator=generator))[0]
        return turned

    read, copy, found = rotation(), rotation(), rotation()
    back.v_proj.weight.copy_(read @ words)
    getattr(back, out).weight.copy_(_OUTPUT_GAIN * copy @ read.T)
    find.q_proj.weight.copy_(read @ words)
    find.k_proj.weight.copy_(read @ copy.T)
    find.v_proj.weight.copy_(found @ words)
    getattr(find, out).weight.copy_(_OUTPUT_GAIN * found.T)
