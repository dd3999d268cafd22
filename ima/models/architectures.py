"""Names of a decoder's modules, and how to register an architecture with other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from ima.errors import ParameterError


@dataclass(frozen=True)
class BlockModuleNames:
    """Candidate names of the modules of a decoder's blocks; the first match counts.

    Parameters
    ----------
    attention, first_norm, second_norm, network, last_linear, final_norm : tuple of str
        Names of submodules: ``last_linear`` inside the network, ``final_norm`` next to the blocks,
        the others inside a block. A block without a ``network`` holds the linear layers itself.
    """

    attention: tuple[str, ...] = (
        "self_attn",
        "attention",
        "attn",
        "self_attention",
        "multi_head_attention",
    )
    first_norm: tuple[str, ...] = (
        "input_layernorm",
        "self_attn_layer_norm",
        "ln_1",
        "attention_layernorm",
        "attn_norm",
        "operator_norm",
        "norm_1",
        "layernorm1",
    )
    second_norm: tuple[str, ...] = (
        "pre_feedforward_layernorm",
        "pre_mlp_layernorm",
        "pre_ff_layernorm",
        "post_attention_layernorm",
        "final_layer_norm",
        "ln_2",
        "feedforward_layernorm",
        "mlp_norm",
        "ffn_norm",
        "norm_2",
        "layernorm2",
    )
    network: tuple[str, ...] = ("mlp", "block_sparse_moe", "feed_forward", "ffn")
    last_linear: tuple[str, ...] = (
        "down_proj",
        "dense_4h_to_h",
        "fc2",
        "c_proj",
        "fc_out",
        "w2",
        "Wo",
    )
    final_norm: tuple[str, ...] = (
        "norm",
        "final_layernorm",
        "final_layer_norm",
        "ln_f",
        "final_norm",
        "layer_norm",
        "norm_f",
        "layernorm",
        "LayerNorm",
        "ln",
    )


#: Architectures whose names mean something else in other architectures.
_KNOWN: Mapping[str, BlockModuleNames] = {
    "bigbird_pegasus": BlockModuleNames(final_norm=("layernorm_embedding",)),
    "ctrl": BlockModuleNames(last_linear=("2",)),
    "lfm2": BlockModuleNames(final_norm=("embedding_norm",)),
    "lfm2_moe": BlockModuleNames(final_norm=("embedding_norm",)),
    "lfm3": BlockModuleNames(final_norm=("embedding_norm",)),
}
_REGISTERED: dict[str, BlockModuleNames] = {}


def register_architecture(model_type: str, **names: str) -> None:
    """Register the module names of an architecture whose hook points are not found otherwise.

    Calls add up: each may name other parts.

    Parameters
    ----------
    model_type : str
        The architecture, as ``config.json`` names it.
    **names : str
        The architecture's names for ``attention``, ``first_norm``, ``second_norm``, ``network``,
        ``last_linear`` and ``final_norm``; those not given keep their default candidates.

    Raises
    ------
    ParameterError
        If there is no such part.

    Examples
    --------
    >>> register_architecture("gpt2", attention="attn", first_norm="ln_1", second_norm="ln_2",
    ...                       last_linear="c_proj", final_norm="ln_f")
    >>> get_block_module_names("gpt2").attention
    ('attn',)
    """
    parts = [part.name for part in fields(BlockModuleNames)]
    for name in names:
        if name not in parts:
            raise ParameterError(f"A block has no part {name!r}. Its parts: {', '.join(parts)}.")
    candidates = {name: (value,) for name, value in names.items()}
    _REGISTERED[model_type] = replace(get_block_module_names(model_type), **candidates)


def get_block_module_names(model_type: str) -> BlockModuleNames:
    """Return the candidate module names of an architecture.

    Examples
    --------
    >>> get_block_module_names("llama").network[0]
    'mlp'
    """
    return _REGISTERED.get(model_type) or _KNOWN.get(model_type, BlockModuleNames())
