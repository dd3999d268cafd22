"""The search for the hook points of a decoder by the names of its modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ima.errors import ModelError
from ima.hook_points import HOOK_POINTS
from ima.models.architectures import BlockModuleNames, get_block_module_names
from ima.models.hook_points import HookPoints, HookSide, ResidualKind

_CROSS_ATTENTION = ("cross_attn",)
#: Why blocks have no hidden units of one network.
_EXPERTS = "some of its blocks send each token to experts of its own"
#: Norms of what attention and network give, by pairs; the first pair that a block has counts.
_OUTPUT_NORMS = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    ("post_self_attn_layernorm", "post_mlp_layernorm"),
    ("post_attention_layernorm", "post_mlp_layernorm"),
)
#: By part of a block: its description, and the hook points that need it, for error messages.
_ROLES = {
    "attention": ("attention", "'attn_out'"),
    "first_norm": ("norm before attention", "'ln1'"),
    "last_linear": ("feed-forward layer", "'mlp_post' and 'mlp_out'"),
}


def find_hook_points(language: Any) -> HookPoints:
    """Find the hook points of a language model by the names of its submodules.

    Parameters
    ----------
    language : PreTrainedModel
        A causal language model of transformers.

    Returns
    -------
    HookPoints
        :func:`ima.models.audit.audit_hook_points` compares them with what the model computes.

    Raises
    ------
    ModelError
        If the module tree has no decoder blocks, or a block lacks an expected part.

    Examples
    --------
    >>> find_hook_points(language).available  # doctest: +SKIP
    ('ln1', 'attn_out', 'resid_mid', 'ln2', 'mlp_post', 'mlp_out', 'resid_post')
    """
    try:
        return _find_hook_points(language)
    # Trees of modules that are built in yet another way.
    except (AttributeError, TypeError, KeyError, IndexError) as error:
        raise ModelError(
            f"The decoder of {type(language).__name__} is built in a way that ima does not know: "
            f"{type(error).__name__}: {error}."
        ) from error


def _find_hook_points(language: Any) -> HookPoints:
    config = language.config.get_text_config()
    names = get_block_module_names(config.model_type)
    layers = getattr(config, "decoder_layers", None) or config.num_hidden_layers
    trunk, blocks = _trunk(language, layers, names)
    final_norm = _first(trunk, names.final_norm)
    common: dict[str, Any] = {
        "trunk": trunk,
        "embedding": language.get_input_embeddings(),
        "blocks": tuple(blocks),
        "final_norm": getattr(trunk, final_norm) if final_norm else nn.Identity(),
        "projection": getattr(trunk, "project_out", None) or nn.Identity(),
        "unembedding": language.get_output_embeddings(),
        "softcap": getattr(config, "final_logit_softcapping", None),
        "hidden": config.hidden_size,
        "logit_scale": _get_logit_scale(config),
        "addition_scale": float(getattr(config, "residual_multiplier", None) or 1.0),
    }
    if any(_first(block, _CROSS_ATTENTION) is not None for block in blocks):
        return _crossing(common, intermediate=config.intermediate_size)
    block = blocks[0]
    attention = next(filter(None, (_first(each, names.attention) for each in blocks)))
    has_mixers = any(_first(each, names.attention) != attention for each in blocks)
    network = _first(block, names.network) or ""
    has_experts = network and any(_has_experts(each, network, names) for each in blocks)
    output_norms = next(
        (pair for pair in _OUTPUT_NORMS if all(hasattr(block, name) for name in pair)), None
    )
    reads_bare = output_norms and network and _first(block, names.first_norm) is None
    first_norm = "" if reads_bare else _path(language, block, names, "first_norm")
    # Experts have no last linear layer of their own.
    down = ""
    if not has_experts:
        last_linear = _path(language, block.get_submodule(network), names, "last_linear")
        down = f"{network}.{last_linear}" if network else last_linear
    if reads_bare and output_norms:
        return _output_norms_only(
            common, down, attention=attention, network=network, norms=output_norms
        )
    second_norm = _first(block, names.second_norm)
    attention_norm, network_norm = output_norms or (attention, network or down)

    sites: dict[str, tuple[str, HookSide]] = {
        "ln1": (first_norm, "output"),
        "attn_out": (attention_norm, "output"),
        "mlp_post": (down, "input"),
        "mlp_out": (network_norm, "output"),
        "resid_post": ("", "output"),
    }
    undefined: dict[str, str] = {}
    if has_experts:
        del sites["mlp_post"]
        undefined["mlp_post"] = _EXPERTS
    if has_mixers:
        del sites["attn_out"]
        undefined["attn_out"] = "some of its blocks mix tokens by other means than attention"
    residual: ResidualKind = "sequential"
    if second_norm is not None:
        sites["ln2"] = (second_norm, "output")
        sites["resid_mid"] = (second_norm, "input")
    else:
        undefined["ln2"] = "attention and network share one norm, read at 'ln1'"
    if second_norm is None or getattr(config, "use_parallel_residual", False):
        residual = "parallel"
        sites.pop("resid_mid", None)
        undefined["resid_mid"] = "attention and network run in parallel on the same input"
    elif not getattr(config, "do_layer_norm_before", True):
        residual = "post-norm"
        sites["resid_mid"] = (first_norm, "output")
        for name in ("ln1", "ln2"):
            del sites[name]
            undefined[name] = "its blocks normalise sums, not the inputs of attention and network"
    return HookPoints(
        **common,
        sites=sites,
        undefined=undefined,
        residual=residual,
        attention="" if has_mixers else attention,
        intermediate=0 if has_experts else _count_inputs(block.get_submodule(down)),
        no_linear_layers=_find_uneven_layers(blocks, has_experts=bool(has_experts)),
    )


def _output_norms_only(
    common: Mapping[str, Any],
    down: str,
    *,
    attention: str,
    network: str,
    norms: tuple[str, str],
) -> HookPoints:
    """Return the hook points of blocks that normalise only what attention and network give."""
    blocks = common["blocks"]
    reason = "its blocks normalise the outputs of attention and network, not their inputs"
    sites: dict[str, tuple[str, HookSide]] = {
        "attn_out": (norms[0], "output"),
        "resid_mid": (network, "input"),
        "mlp_out": (norms[1], "output"),
        "resid_post": ("", "output"),
    }
    undefined = {"ln1": reason, "ln2": reason}
    if down:
        sites["mlp_post"] = (down, "input")
    else:
        undefined["mlp_post"] = _EXPERTS
    return HookPoints(
        **common,
        sites=sites,
        undefined=undefined,
        residual="sequential",
        attention=attention,
        intermediate=_count_inputs(blocks[0].get_submodule(down)) if down else 0,
        no_linear_layers=_find_uneven_layers(blocks, has_experts=not down),
    )


def _has_experts(block: nn.Module, network: str, names: BlockModuleNames) -> bool:
    """Return whether a block's network has experts in place of one pair of linear layers."""
    module: Any = getattr(block, network, None)
    return (
        module is not None
        and _first(module, names.last_linear) is None
        and any("expert" in name for name, _ in module.named_modules())
    )


def _find_uneven_layers(blocks: Iterable[nn.Module], *, has_experts: bool) -> str:
    """Say why the weights of the blocks are not the same linear layers in each, if they are not."""
    if has_experts:
        return "some of them have experts"
    shapes = [
        {
            name: tuple(module.weight.shape)
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear)
        }
        for block in blocks
    ]
    if not shapes[0]:
        return "their weights are in modules of another kind than torch.nn.Linear"
    if any(each != shapes[0] for each in shapes):
        return "they differ from each other"
    return ""


def _get_logit_scale(config: Any) -> float:
    """Return the factor of the logits: Cohere's configuration holds it, Granite's its inverse."""
    if getattr(config, "logits_scaling", None):
        return 1.0 / float(config.logits_scaling)
    return float(getattr(config, "logit_scale", None) or 1.0)


def _count_inputs(linear: nn.Module) -> int:
    """Return the number of inputs of a linear layer; GPT-2's has a transposed weight."""
    in_features: Any = getattr(linear, "in_features", None)
    weight: Any = linear.weight
    return int(in_features if in_features is not None else weight.shape[0])


def _crossing(common: Mapping[str, Any], *, intermediate: int) -> HookPoints:
    """Return the hook points of a decoder with cross-attention to the medium in some blocks."""
    reason = "some of its blocks have cross-attention to the medium and other parts"
    return HookPoints(
        **common,
        sites={"resid_post": ("", "output")},
        undefined={name: reason for name in HOOK_POINTS if name != "resid_post"},
        residual="crossing",
        attention="",
        intermediate=intermediate,
    )


def _trunk(language: Any, layers: int, names: BlockModuleNames) -> tuple[nn.Module, nn.ModuleList]:
    # An encoder next to the decoder may have as many blocks, so the decoder is searched first.
    roots = [language.get_decoder(), language.base_model]
    for module in (module for root in roots if root is not None for module in root.modules()):
        for child in module.children():
            is_blocks = isinstance(child, nn.ModuleList) and len(child) == layers
            if is_blocks and any(_first(block, names.attention) for block in child):
                return module, child
    raise ModelError(
        f"{type(language).__name__} has no list of {layers} decoder blocks with a sub-module "
        f"named {' or '.join(names.attention)}. Models built like OPT, LLaMA, Qwen, Gemma, "
        f"Mistral, Phi or GPT-NeoX are supported. {_advice(language, 'attention')}"
    )


def _advice(language: Any, part: str) -> str:
    model_type = language.config.get_text_config().model_type
    call = f"ima.models.register_architecture({model_type!r}, {part}='…')"
    return f"Register its name before loading: {call}."


def _first(module: nn.Module, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if getattr(module, name, None) is not None), None)


def _path(language: Any, module: nn.Module, names: BlockModuleNames, part: str) -> str:
    candidates: tuple[str, ...] = getattr(names, part)
    name = _first(module, candidates)
    if name is None:
        role, hook_points = _ROLES[part]
        children = ", ".join(child for child, _ in module.named_children())
        raise ModelError(
            f"{type(language).__name__}: no {role} in {type(module).__name__}, for {hook_points}; "
            f"looked for {', '.join(candidates)}; found {children or 'nothing'}. "
            f"{_advice(language, part)}"
        )
    return name
