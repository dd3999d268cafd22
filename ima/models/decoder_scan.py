"""Which decoders of transformers ima can read: each class is built small, searched and checked."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ima.errors import ModelError, UnknownNameError
from ima.hook_points import HOOK_POINTS
from ima.models.audit import audit_embeddings, audit_hook_points
from ima.models.hook_point_search import find_hook_points

#: Sizes of a tiny model, by the names that configurations give them.
_SIZES: Mapping[str, int | float] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size"), 32),
    **dict.fromkeys(("word_embed_proj_dim", "d_embed"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size"), 48),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "d_inner"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 4),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers"), 4),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_decoder_attention_heads", "num_encoder_attention_heads"), 4),
    "num_key_value_heads": 2,
    **dict.fromkeys(("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("kv_lora_rank", "rotary_dim", "sliding_window"), 8),
    **dict.fromkeys(("hidden_size_per_layer_input", "global_head_dim"), 8),
    "q_lora_rank": 16,
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 320),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "moe_num_experts": 4,
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    "expert_ffn_hidden_size": 16,
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace", "num_mem_blocks"), 1),
    "num_kv_shared_layers": 0,
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_n_groups", "n_groups", "n_shared_experts"), 1),
    "mamba_d_ssm": 64,
    # Linear attention works on blocks of 64 tokens, however short the text: small heads count.
    **dict.fromkeys(("linear_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("linear_num_heads", "linear_num_key_heads", "linear_num_value_heads"), 4),
    # Every second block of a hybrid has attention.
    **dict.fromkeys(("attn_layer_period", "full_attention_interval"), 2),
    "attn_layer_offset": 1,
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")
#: Settings of single architectures: those whose sizes must fit each other, and hybrids, of which
#: every second block shall have attention.
_FURTHER: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "kimi_linear": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "reformer": {"axial_pos_embds": False},
    "zamba2": {"layer_types": ["linear_attention", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}
_MAX_PARAMETERS = 60_000_000
#: Standard deviation of what is added to each initial weight.
_NOISE = 0.05
_PARTS = (
    "text_config",
    "language_config",
    "llm_config",
    "decoder",
    "vision_config",
    "audio_config",
)


@dataclass(frozen=True)
class ScannedDecoder:
    """What ima can read in one class of decoders.

    Parameters
    ----------
    model_type : str
        The architecture, as ``config.json`` names it.
    class_name : str
        Its class in transformers.
    hook_points : tuple of str
        Those that were found and passed the audit; empty if the class cannot be read.
    residual : str
        How attention and network are added to the residual stream; empty if it cannot be read.
    reason : str
        Why hook points are missing, or why the class cannot be read or built; empty if all are
        there.
    built : bool
        Whether a tiny model of the class could be built here.
    """

    model_type: str
    class_name: str
    hook_points: tuple[str, ...] = ()
    residual: str = ""
    reason: str = ""
    built: bool = True


def list_decoder_types() -> tuple[str, ...]:
    """Return the architectures for which transformers has a causal language model.

    Examples
    --------
    >>> "llama" in list_decoder_types()
    True
    """
    return tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


def scan_decoders(model_types: Iterable[str] | None = None) -> Iterator[ScannedDecoder]:
    """Build a tiny random model of each class, find its hook points and audit them.

    Parameters
    ----------
    model_types : iterable of str, optional
        Architectures; all of :func:`list_decoder_types` by default.

    Yields
    ------
    ScannedDecoder
        One for each architecture, in order.

    Raises
    ------
    UnknownNameError
        If transformers has no causal language model of a given architecture.

    Examples
    --------
    >>> [llama] = scan_decoders(["llama"])
    >>> llama.hook_points
    ('ln1', 'attn_out', 'resid_mid', 'ln2', 'mlp_post', 'mlp_out', 'resid_post')
    """
    asked = list_decoder_types() if model_types is None else tuple(model_types)
    for model_type in asked:
        if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise UnknownNameError.among(
                kind="architecture", asked=model_type, available=list_decoder_types()
            )
        yield _scan(model_type)


def tabulate_decoders(scanned: Iterable[ScannedDecoder]) -> pd.DataFrame:
    """Return one row for each class: what is read, what is missing, and why.

    Returns
    -------
    DataFrame
        Columns ``architecture``, ``class``, ``read``, ``built``, ``residual``, ``missing`` (hook
        points, in order, separated by commas; all if the class is not read) and ``reason``.

    Examples
    --------
    >>> tabulate_decoders(scan_decoders(["olmo2"]))["missing"].item()
    'ln1, ln2'
    """
    rows = [
        {
            "architecture": one.model_type,
            "class": one.class_name,
            "read": bool(one.hook_points),
            "built": one.built,
            "residual": one.residual,
            "missing": ", ".join(name for name in HOOK_POINTS if name not in one.hook_points),
            "reason": one.reason,
        }
        for one in scanned
    ]
    return pd.DataFrame(rows)


def count_reasons(scanned: Iterable[ScannedDecoder]) -> pd.DataFrame:
    """Count the reasons why hook points are missing in classes that are read.

    Returns
    -------
    DataFrame
        Columns ``hook points``, ``reason`` and ``classes``, the most frequent reason first.

    Examples
    --------
    >>> count_reasons(scan_decoders(["olmo2", "exaone4"]))["classes"].item()
    2
    """
    counted = Counter(
        tuple(reason.split(": ", 1))
        for one in scanned
        if one.hook_points
        for reason in one.reason.split("; ")
        if reason
    )
    rows = [(*names_and_reason, count) for names_and_reason, count in counted.most_common()]
    return pd.DataFrame(rows, columns=["hook points", "reason", "classes"])


def build_tiny_decoder(model_type: str, *, seed: int = 0) -> Any:
    """Build a tiny decoder with random weights that are large enough to tell hook points apart.

    Parameters
    ----------
    model_type : str
        The architecture.
    seed : int, default 0
        Seed of the weights.

    Returns
    -------
    PreTrainedModel
        In evaluation mode.

    Raises
    ------
    ModelError
        If no small configuration of the class gives a model.

    Examples
    --------
    >>> build_tiny_decoder("gpt2").config.n_embd
    32
    """
    cls = getattr(transformers, _get_class_name(model_type))
    failures = []
    for choose in (_choose_sizes, _choose_given_sizes, _choose_all_sizes):
        # Classes of others raise what they like for sizes that they do not expect.
        try:
            config = _make_config(cls.config_class, model_type, choose)
            return _build(cls, config, seed=seed)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error!s:.160}".strip().split("\n")[0])
    raise ModelError(f"No tiny {cls.__name__} can be built here. {failures[0]}.")


def _scan(model_type: str) -> ScannedDecoder:
    class_name = _get_class_name(model_type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = build_tiny_decoder(model_type)
        except ModelError as error:
            return ScannedDecoder(model_type, class_name, reason=str(error), built=False)
        try:
            found = find_hook_points(model)
            audit_hook_points(model, found)
            if found.residual != "crossing":
                audit_embeddings(model, found)
        except ModelError as error:
            return ScannedDecoder(model_type, class_name, reason=str(error))
    reasons = [f"{names}: {why}" for why, names in _group(found.undefined).items()]
    return ScannedDecoder(
        model_type, class_name, found.available, found.residual, "; ".join(reasons)
    )


def _group(undefined: Mapping[str, str]) -> dict[str, str]:
    """Return the names of undefined hook points by their common reason."""
    names: dict[str, str] = {}
    for name, why in undefined.items():
        names[why] = f"{names[why]}, {name}" if why in names else name
    return names


def _get_class_name(model_type: str) -> str:
    name: Any = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    return name if isinstance(name, str) else str(name[0])


def _build(cls: Any, config: Any, *, seed: int) -> Any:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in cls(config).parameters())
    if count > _MAX_PARAMETERS:
        raise ModelError(f"its smallest model here has {count / 1e6:.0f} million weights")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = cls(config).eval()
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * _NOISE)
        if hasattr(model, "set_default_language"):
            model.set_default_language(next(iter(config.languages)))
        model(input_ids=torch.arange(8).reshape(2, 4), use_cache=False)
    return model


def _make_config(cls: Any, model_type: str, choose: Callable[[Any], dict[str, Any]]) -> Any:
    default = cls()
    sizes = choose(default)
    for name in _PARTS:
        part = getattr(default, name, None)
        if isinstance(part, transformers.PreTrainedConfig):
            sizes[name] = type(part)(**choose(part))
    return cls(**{**sizes, **_FURTHER.get(model_type, {})})


def _choose_sizes(config: Any) -> dict[str, Any]:
    """Return the sizes that a configuration has, without those that it computes from others."""
    chosen: dict[str, Any] = {"is_decoder": True} if hasattr(config, "is_decoder") else {}
    rotary = getattr(config, "qk_rope_head_dim", None) is not None
    for name, size in _SIZES.items():
        try:
            old = getattr(config, name)
        # Sizes that differ by layer raise an error of their own.
        except Exception:
            continue
        if isinstance(old, bool) or not isinstance(old, int | float | None):
            continue
        if (old is None and name not in _TOKENS) or (name == "head_dim" and rotary):
            continue
        own = getattr(type(config), name, None)
        if not isinstance(own, property) or own.fset is not None:
            chosen[name] = size
    if rotary and "num_key_value_heads" in chosen:
        # Latent attention has keys and values for each head.
        chosen["num_key_value_heads"] = _SIZES["num_attention_heads"]
    return chosen


def _choose_given_sizes(config: Any) -> dict[str, Any]:
    """Return the sizes that a configuration has as its own settings."""
    own = inspect.signature(type(config)).parameters
    return {name: size for name, size in _choose_sizes(config).items() if name in own}


def _choose_all_sizes(config: Any) -> dict[str, Any]:
    """Return the sizes that a configuration knows, also those that it leaves open."""
    own = inspect.signature(type(config)).parameters
    return {name: _SIZES[name] for name in _SIZES if name in own} | _choose_sizes(config)
