"""Initial weights from which a small language model learns in-context lookup within minutes.

Binding an attribute to its object takes two attention layers that are useful only together: one
copies the previous tokens to each position, and one finds the token that followed an earlier
occurrence of the current token (induction heads; Olsson et al. 2022, arXiv:2209.11895). From random
weights, a 12-layer model of this size performed like guessing among the present attributes for over
a thousand steps. Therefore the first two blocks *start* near such a circuit, as in mimetic
initialisation (Trockman & Kolter 2023, arXiv:2305.09828). All weights are trained.
"""

from __future__ import annotations

from typing import Any

import torch

#: The number of tokens that each head of the first block looks back.
_HEAD_OFFSETS = (1, 1, 2, 3)
#: Size of the query and key biases of these heads; 4 puts 0.9 of the attention on the offset.
_ATTENTION_BIAS = 4.0
#: Gain from the inputs of the two blocks to their outputs.
_OUTPUT_GAIN = 0.15
#: Standard deviation of the embeddings: 1/√hidden, for embeddings of unit length.
_EMBEDDING_STD = 0.088
#: Factor on the random query and key weights of the first block.
_EARLY_SCALE = 0.1
#: Wavelengths of the initial learned positions run from 2π to almost this multiple of 2π.
_WAVELENGTH_BASE = 100.0


@torch.no_grad()
def init_rotary_induction(model: Any, *, seed: int) -> None:
    """Initialise the first two blocks of a LLaMA near an induction circuit.

    Head ``h`` of block 1 writes the token ``_HEAD_OFFSETS[h]`` positions back into a rotated copy
    of the embedding space. Block 2 matches the current token against that copy and copies the token
    it finds. The outputs of all blocks are divided by the square root of twice the depth.

    Parameters
    ----------
    model : LlamaForCausalLM
        Changed in place. Has ``attention_bias=True`` and four heads of queries and of keys.
    seed : int
        Seed of the embeddings and the random rotations.

    Examples
    --------
    >>> init_rotary_induction(model, seed=11)  # doctest: +SKIP
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
        # RoPE rotates the pair (i, i + width/2) by frequency · position, so the product of this
        # query and this key is largest where the positions differ by the offset.
        back.k_proj.bias[head * width : half] = _ATTENTION_BIAS
        back.q_proj.bias[head * width : half] = _ATTENTION_BIAS * torch.cos(frequency * offset)
        back.q_proj.bias[half:whole] = -_ATTENTION_BIAS * torch.sin(frequency * offset)
    for projection in (back.q_proj, back.k_proj):
        projection.weight.mul_(_EARLY_SCALE)


@torch.no_grad()
def init_learned_induction(model: Any, *, seed: int) -> None:
    """Initialise the first two blocks of an OPT near the same circuit.

    OPT learns its positions. They start as sinusoids in the last ``hidden / heads`` dimensions,
    which the word embeddings leave free, so that looking back by an offset is a rotation.

    Parameters
    ----------
    model : OPTForCausalLM
        Changed in place. Has four heads.
    seed : int
        Seed of the embeddings and the random rotations.

    Examples
    --------
    >>> init_learned_induction(model, seed=12)  # doctest: +SKIP
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
    # As long as a word embedding, so that the layer norm preserves both.
    places[:, -width:] = torch.cat([turned.cos(), turned.sin()], dim=1) * (2 / width) ** 0.5
    _scale_outputs([(layer.self_attn.out_proj, layer.fc2) for layer in decoder.layers])
    back, find = (layer.self_attn for layer in decoder.layers[:2])
    _read_and_copy(back, find, "out_proj", words, generator)
    # The normalised position has length √(hidden/2). This factor gives the same score as in LLaMA.
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
    """Make ``back`` write the attended token into a rotated copy, and ``find`` look it up there.

    ``words`` projects onto the dimensions of the word embeddings.
    """
    hidden = len(words)

    def draw_rotation() -> torch.Tensor:
        normal = torch.randn(hidden, hidden, generator=generator)
        rotation: torch.Tensor = torch.linalg.qr(normal)[0]
        return rotation

    read, copy, value = draw_rotation(), draw_rotation(), draw_rotation()
    back.v_proj.weight.copy_(read @ words)
    getattr(back, out).weight.copy_(_OUTPUT_GAIN * copy @ read.T)
    find.q_proj.weight.copy_(read @ words)
    find.k_proj.weight.copy_(read @ copy.T)
    find.v_proj.weight.copy_(value @ words)
    getattr(find, out).weight.copy_(_OUTPUT_GAIN * value.T)
