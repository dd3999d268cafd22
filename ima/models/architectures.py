"""Names of a decoder's parts, and how a family that has other names is registered."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ima.errors import ParameterError


@dataclass(frozen=True)
class BlockModuleNames:
    """Under which names the parts of a decoder's blocks are looked for, first match first.

    Parameters
    ----------
    attention, first_norm, second_norm, network, last_linear, final_norm : tuple of str
        Of sub-modules; ``last_linear`` inside the network, ``final_norm`` beside the blocks, the
        others inside a block. A block without its own ``network`` holds the linear layers itself.
    """

    attention: tuple[str, ...] = ("self_attn", "attention")
    first_norm: tuple[str, ...] = ("input_layernorm", "self_attn_layer_norm")
    second_norm: tuple[str, ...] = (
        "pre_feedforward_layernorm",
        "post_attention_layernorm",
        "final_layer_norm",
    )
    network: tuple[str, ...] = ("mlp",)
    last_linear: tuple[str, ...] = ("down_proj", "dense_4h_to_h", "fc2")
    final_norm: tuple[str, ...] = ("norm", "final_layernorm", "final_layer_norm")


_REGISTERED: dict[str, BlockModuleNames] = {}


def register_architecture(model_type: str, **names: str) -> None:
    """Name the parts of a family's blocks, where they are not among the names that are looked for.

    Parameters
    ----------
    model_type : str
        The family, as ``config.json`` names it: ``"gpt2"``.
    **names : str
        What the family calls its ``attention``, ``first_norm``, ``second_norm``, ``network``,
        ``last_linear`` and ``final_norm``.

    Raises
    ------
    ParameterError
        If there is no such part.

    Examples
    --------
    >>> register("gpt2", attention="attn", first_norm="ln_1", second_norm="ln_2",
    ...          last_linear="c_proj", final_norm="ln_f")
    """
    known = [part.name for part in fields(BlockModuleNames)]
    for name in names:
        if name not in known:
            message = f"A block has no part {name!r}. Its parts: {', '.join(known)}."
            raise ParameterError(message)
    given = {name: (value,) for name, value in names.items()}
    _REGISTERED[model_type] = replace(BlockModuleNames(), **given)


def get_block_module_names(model_type: str) -> BlockModuleNames:
    """Return the names of a family's parts."""
    return _REGISTERED.get(model_type, BlockModuleNames())
