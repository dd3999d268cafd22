"""The search for the hook points of a decoder by the names of its modules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedModel

from ima.errors import ModelError
from ima.hook_points import HOOK_POINTS
from ima.models.architectures import ARCHITECTURE_FILE, BlockModuleNames, get_block_module_names
from ima.models.hook_points import (
    LINEAR_CLASSES,
    HookPoints,
    HookSide,
    ResidualKind,
    get_weight,
)

_CROSS_ATTENTION = ("cross_attn",)
#: Parts of names of modules that read media; their blocks are no decoder's.
_TOWERS = ("vision", "visual", "image", "audio", "speech", "qformer")
#: Attention to the states of an encoder; it does nothing where a decoder runs alone.
_ENCODER_ATTENTION = ("encoder_attn", "crossattention")
#: Why blocks have no hidden units of one network.
_EXPERTS = "some of its blocks send each token to experts of its own"
_MIXERS = "some of its blocks mix tokens by other means than attention"
#: Modules that change what attention and network give before it is added, by pairs; the first pair
#: that a block has counts.
_OUTPUT_NORMS = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    ("post_self_attn_layernorm", "post_mlp_layernorm"),
    ("post_attention_layernorm", "post_mlp_layernorm"),
    ("post_norm1", "post_norm2"),
    ("attn_sconv", "mlp_sconv"),
)
#: Parts that change the stream once more behind the network.
_LATE_INPUTS = ("per_layer_input_gate",)
#: The last linear layer of attention, where attention itself adds the residual stream.
_ATTENTION_LINEAR = ("o_proj", "out_proj", "dense", "c_proj")
#: Norms of blocks that are built like BERT's and normalise the inputs of attention and network.
_BERT_FIRST_NORMS = ("attention.ln", "attention.LayerNorm", "attention.self_attn_layer_norm")
_BERT_SECOND_NORMS = ("ln", "intermediate.LayerNorm", "LayerNorm")
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


@dataclass(frozen=True)
class _BlockParts:
    """Paths of the parts of a block.

    Parameters
    ----------
    order : {"inputs", "sums", "outputs"}
        What the norms of the block normalise.
    attention, network : str
        What mixes tokens, and what reads the stream after it.
    attn_out, mlp_out : str
        Whose outputs are added to the residual stream.
    first_norm, second_norm : str or None
        The norms; None for the second if attention and network share one.
    last_linear : str
        Reads the hidden units; empty if blocks have experts.
    has_mixers : bool
        Whether some blocks have no attention.
    """

    order: Literal["inputs", "sums", "outputs"]
    attention: str
    network: str
    attn_out: str
    mlp_out: str
    first_norm: str | None
    second_norm: str | None
    last_linear: str
    has_mixers: bool = False


def _find_hook_points(language: Any) -> HookPoints:
    config = language.config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(language).__name__} has an encoder and a decoder that attends to it "
            f"({config.model_type}). ima reads decoders that stand alone."
        )
    names = get_block_module_names(config.model_type)
    layers = getattr(config, "decoder_layers", None) or config.num_hidden_layers
    holder, blocks = _find_blocks(language, layers, names)
    # BERT's blocks stand in an encoder, next to the embeddings.
    reads_tokens = "input_ids" in inspect.signature(holder.forward).parameters
    trunk = holder if reads_tokens else language.base_model
    final_norms = [
        getattr(each, name) for each in (holder, trunk) if (name := _first(each, names.final_norm))
    ]
    common: dict[str, Any] = {
        "trunk": trunk,
        "embedding": language.get_input_embeddings(),
        "blocks": tuple(blocks),
        "final_norm": final_norms[0] if final_norms else nn.Identity(),
        "projection": getattr(trunk, "project_out", None) or nn.Identity(),
        "unembedding": _find_unembedding(language, trunk),
        "softcap": getattr(config, "final_logit_softcapping", None),
        "hidden": config.hidden_size,
        "vocab_size": language.get_output_embeddings().weight.shape[0],
        "logit_scale": _get_logit_scale(language, config),
        "addition_scale": _get_addition_scale(config),
    }
    if any(_first(block, _CROSS_ATTENTION) is not None for block in blocks):
        return _crossing(common, intermediate=config.intermediate_size)
    parts = _find_parts(language, blocks, names, has_final_norm=bool(final_norms))
    shares_input = parts.second_norm is None or any(
        getattr(config, name, False)
        for name in ("use_parallel_residual", "new_decoder_architecture")
    )
    is_parallel = parts.order == "inputs" and bool(shares_input)
    sites, undefined = _find_sites(parts, is_parallel=is_parallel)
    for name, (path, _) in tuple(sites.items()):
        if path and not all(_has(block, path) for block in blocks):
            del sites[name]
            undefined[name] = f"some of its blocks have no module {path!r}"
    residual: ResidualKind = "parallel" if is_parallel else "sequential"
    last = blocks[0].get_submodule(parts.last_linear) if parts.last_linear else None
    return HookPoints(
        **common,
        sites=sites,
        undefined=undefined,
        residual="post-norm" if parts.order == "sums" else residual,
        attention="" if parts.has_mixers else parts.attention,
        network=parts.network,
        norms=tuple(filter(None, (parts.first_norm, parts.second_norm))),
        sum_reader=_first(blocks[0], _LATE_INPUTS) or "",
        intermediate=0 if last is None else int(get_weight(last).shape[1]),
        no_linear_layers=_find_uneven_layers(common["blocks"], has_experts=not parts.last_linear),
    )


def _find_sites(
    parts: _BlockParts, *, is_parallel: bool
) -> tuple[dict[str, tuple[str, HookSide]], dict[str, str]]:
    """Return the places of the hook points of a block, and why others do not exist."""
    sites: dict[str, tuple[str, HookSide]] = {
        "attn_out": (parts.attn_out, "output"),
        "mlp_out": (parts.mlp_out, "output"),
        "resid_post": ("", "output"),
    }
    undefined: dict[str, str] = {}
    if parts.last_linear:
        sites["mlp_post"] = (parts.last_linear, "input")
    else:
        undefined["mlp_post"] = _EXPERTS
    if parts.has_mixers:
        del sites["attn_out"]
        undefined["attn_out"] = _MIXERS
    if parts.order == "sums":
        sites["resid_mid"] = (str(parts.first_norm), "output")
        reason = "its blocks normalise sums, not the inputs of attention and network"
        return sites, undefined | dict.fromkeys(("ln1", "ln2"), reason)
    if parts.order == "outputs":
        sites["resid_mid"] = (parts.network, "input")
        reason = "its blocks normalise the outputs of attention and network, not their inputs"
        return sites, undefined | dict.fromkeys(("ln1", "ln2"), reason)
    sites["ln1"] = (str(parts.first_norm), "output")
    if parts.second_norm is None:
        undefined["ln2"] = "attention and network share one norm, read at 'ln1'"
    else:
        sites["ln2"] = (parts.second_norm, "output")
    if is_parallel or parts.second_norm is None:
        undefined["resid_mid"] = "attention and network run in parallel on the same input"
    else:
        sites["resid_mid"] = (parts.second_norm, "input")
    return sites, undefined


def _find_parts(
    language: Any, blocks: Any, names: BlockModuleNames, *, has_final_norm: bool
) -> _BlockParts:
    block = blocks[0]
    if _has(block, "attention.output.dense") and _has(block, "output.dense"):
        return _find_parts_of_bert(block)
    attention = next(filter(None, (_first(each, names.attention) for each in blocks)))
    network = _first(block, names.network) or ""
    has_experts = network and any(_has_experts(each, network, names) for each in blocks)
    output_norms = next((pair for pair in _OUTPUT_NORMS if _has(block, *pair)), None)
    reads_bare = output_norms and network and _first(block, names.first_norm) is None
    first_norm = None if reads_bare else _path(language, block, names, "first_norm")
    last_linear = ""
    if not has_experts:
        # Experts have no last linear layer of their own.
        last_linear = _path(language, block.get_submodule(network), names, "last_linear")
        last_linear = f"{network}.{last_linear}" if network else last_linear
    has_mixers = any(_first(each, names.attention) != attention for each in blocks)
    attn_out, mlp_out = output_norms or (
        attention if has_mixers else _find_addition(block, attention, _ATTENTION_LINEAR),
        _find_addition(block, network, names.last_linear) if network else last_linear,
    )
    second_norm = _first(block, names.second_norm)
    # Decoders that normalise sums end with a normalised sum. OPT says what it does.
    sums = second_norm is not None and not has_final_norm and output_norms is None
    config = language.config.get_text_config()
    sums = not getattr(config, "do_layer_norm_before", not sums)
    return _BlockParts(
        order="outputs" if reads_bare else "sums" if sums else "inputs",
        attention=attention,
        network=network,
        attn_out=attn_out,
        mlp_out=mlp_out,
        first_norm=first_norm,
        second_norm=second_norm,
        last_linear=last_linear,
        has_mixers=has_mixers,
    )


def _find_parts_of_bert(block: Any) -> _BlockParts:
    """Return the parts of a block whose attention and network end in modules that add a residual.

    Their norms stand behind the sums (BERT, RoBERTa, ELECTRA) or before attention and network
    (Megatron-BERT, XLM-RoBERTa-XL).
    """
    first = next((path for path in _BERT_FIRST_NORMS if _has(block, path)), None)
    second = next((path for path in _BERT_SECOND_NORMS if _has(block, path)), None)
    return _BlockParts(
        order="sums" if first is None else "inputs",
        attention="attention",
        network="intermediate",
        attn_out="attention.output.dense",
        mlp_out="output.dense",
        first_norm=first or "attention.output.LayerNorm",
        second_norm=second if first else "output.LayerNorm",
        last_linear="output.dense",
    )


def _find_addition(block: nn.Module, path: str, last_linear: tuple[str, ...]) -> str:
    """Return what a module adds to the residual stream: its output, or that of its last layer.

    The forward method of attention or network that adds the stream itself takes it as an argument
    (Bloom, MPT).
    """
    module = block.get_submodule(path)
    inner = _first(module, last_linear)
    if inner is None or "residual" not in inspect.signature(module.forward).parameters:
        return path
    return f"{path}.{inner}"


def _find_unembedding(language: Any, trunk: nn.Module) -> nn.Module:
    """Return what makes logits of the trunk's output.

    That is the last linear layer, or all modules between the trunk and it: BERT and RoBERTa
    transform the states first.
    """
    output: nn.Module = language.get_output_embeddings()
    parts = list(find_logits_owner(language).children())
    holds_trunk = [any(module is trunk for module in part.modules()) for part in parts]
    holds_output = [any(module is output for module in part.modules()) for part in parts]
    if True not in holds_trunk or True not in holds_output:
        return output
    last = holds_output.index(True)
    if holds_trunk[last]:
        return output
    chain = parts[holds_trunk.index(True) + 1 : last + 1] or [parts[last]]
    return chain[0] if len(chain) == 1 else nn.Sequential(*chain)


def _has(block: nn.Module, *paths: str) -> bool:
    modules = {name for name, _ in block.named_modules()}
    return modules.issuperset(paths)


def _has_experts(block: nn.Module, network: str, names: BlockModuleNames) -> bool:
    """Return whether a block's network has experts in place of one pair of linear layers."""
    module: Any = getattr(block, network, None)
    return (
        module is not None
        and _first(module, names.last_linear) is None
        and any("expert" in name or name == "router" for name, _ in module.named_modules())
    )


def _find_uneven_layers(blocks: Sequence[nn.Module], *, has_experts: bool) -> str:
    """Say why the weights of the blocks are not the same linear layers in each, if they are not."""
    if has_experts:
        return "some of them have experts"
    if any(_first(block, _ENCODER_ATTENTION) is not None for block in blocks):
        return "some of them read the states of an encoder"
    shapes = [
        {
            name: tuple(get_weight(module).shape)
            for name, module in block.named_modules()
            if isinstance(module, LINEAR_CLASSES)
        }
        for block in blocks
    ]
    if not shapes[0]:
        return "their weights are in modules of another kind than torch.nn.Linear"
    if any(each != shapes[0] for each in shapes):
        return "they differ from each other"
    return ""


def find_logits_owner(language: Any) -> Any:
    """Return the module of a model that computes logits: the one that holds the unembedding.

    Some multimodal models hold a whole causal language model (BLIP-2, Granite Speech).

    Examples
    --------
    >>> find_logits_owner(blip2)  # doctest: +SKIP
    OPTForCausalLM(…)
    """
    output = language.get_output_embeddings()
    models: list[Any] = [each for each in language.modules() if isinstance(each, PreTrainedModel)]
    causal = [
        module
        for module in models
        if hasattr(module, "lm_head") and module.get_output_embeddings() is output
    ]
    return causal[-1] if causal else language


def _get_logit_scale(language: Any, config: Any) -> float:
    """Return the factor of the logits.

    Cohere's configuration holds it, Granite's and Inkling's its inverse, MiniCPM's the width of a
    model whose factor is one. A multimodal model with such a decoder may leave it out (Aya Vision).
    """
    code = inspect.getsource(type(find_logits_owner(language)).forward)
    for name in ("logits_scaling", "logits_mup_width_multiplier"):
        if getattr(config, name, None) and name in code:
            return 1.0 / float(getattr(config, name))
    if getattr(config, "dim_model_base", None) and "dim_model_base" in code:
        return float(config.dim_model_base / config.hidden_size)
    scale = getattr(config, "logit_scale", None)
    return float(scale) if scale and "logit_scale" in code else 1.0


def _get_addition_scale(config: Any) -> float:
    """Return the factor of what attention and network add (Granite, MiniCPM)."""
    if getattr(config, "scale_depth", None):
        return float(config.scale_depth / math.sqrt(config.num_hidden_layers))
    return float(getattr(config, "residual_multiplier", None) or 1.0)


def _crossing(common: Mapping[str, Any], *, intermediate: int) -> HookPoints:
    """Return the hook points of a decoder with cross-attention to the medium in some blocks."""
    reason = "some of its blocks have cross-attention to the medium and other parts"
    return HookPoints(
        **common,
        sites={"resid_post": ("", "output")},
        undefined={name: reason for name in HOOK_POINTS if name != "resid_post"},
        residual="crossing",
        attention="",
        network="",
        norms=(),
        intermediate=intermediate,
    )


def _find_blocks(
    language: Any, layers: int, names: BlockModuleNames
) -> tuple[nn.Module, nn.ModuleList]:
    """Return the list of decoder blocks and the module that holds it."""
    # An encoder next to the decoder may have as many blocks, so the decoder is searched first.
    roots = [language.get_decoder(), language.base_model]
    others: list[str] = []
    for module in (module for root in roots if root is not None for module in _walk(root)):
        for child in module.children():
            if not isinstance(child, nn.ModuleList) or len(child) != layers:
                continue
            if any(_first(block, names.attention) for block in child):
                return module, child
            others = others or [name for name, _ in child[0].named_children()]
    found = (
        f" Its blocks hold {', '.join(others)}. If one of these is attention: "
        f"{_advice(language, 'attention')}"
        if others
        else ""
    )
    raise ModelError(
        f"{type(language).__name__} has no list of {layers} decoder blocks with a sub-module "
        f"named {' or '.join(names.attention)}. Models built like OPT, LLaMA, Qwen, Gemma, "
        f"Mistral, Phi or GPT-NeoX are supported.{found}"
    )


def _walk(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and what it holds, without towers that read media."""
    yield module
    for name, child in module.named_children():
        if not any(tower in name for tower in _TOWERS):
            yield from _walk(child)


def _advice(language: Any, part: str) -> str:
    model_type = language.config.get_text_config().model_type
    call = f"ima.models.register_architecture({model_type!r}, {part}='…')"
    return (
        f'register its name before loading: {call}, or write {part} = "…" under '
        f"[architecture.{model_type}] in {ARCHITECTURE_FILE}."
    )


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
            f"If one of these is it, {_advice(language, part)}"
        )
    return name
