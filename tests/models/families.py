"""Tiny random decoders of every family, and their blocks computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

Attend = Callable[[Tensor], Tensor]
Activations = dict[str, Tensor]

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
GATED = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2}
HEADS = {**GATED, "head_dim": 8}
PLAIN = {**SIZES, "intermediate_size": 48}
OPT = {**SIZES, "ffn_dim": 48}

CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**GATED),
    "mistral": MistralConfig(**GATED, sliding_window=4),
    "qwen2": Qwen2Config(**GATED),
    "qwen3": Qwen3Config(**HEADS),
    "gemma": GemmaConfig(**HEADS),
    "gemma2": Gemma2Config(**HEADS, sliding_window=4, query_pre_attn_scalar=8),
    "gemma3": Gemma3TextConfig(**HEADS, sliding_window=4, query_pre_attn_scalar=8),
    "phi3": Phi3Config(**GATED),
    "phi": PhiConfig(**PLAIN),
    "neox": GPTNeoXConfig(**PLAIN),
    "neox-sequential": GPTNeoXConfig(**PLAIN, use_parallel_residual=False),
    "opt": OPTConfig(**OPT, word_embed_proj_dim=32),
    "opt-projected": OPTConfig(**OPT, word_embed_proj_dim=16),
    "opt-post-norm": OPTConfig(**OPT, word_embed_proj_dim=16, do_layer_norm_before=False),
}


def build(name: str, *, seed: int = 0) -> Any:
    """Return a model with weights large enough that no hook point resembles another."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def _gated(block: Any, states: Tensor) -> Tensor:
    mlp = block.mlp
    if hasattr(mlp, "gate_up_proj"):
        gate, up = mlp.gate_up_proj(states).chunk(2, dim=-1)
        return nn.functional.silu(gate) * up
    act = mlp.act_fn
    return act(mlp.gate_proj(states)) * mlp.up_proj(states)


def sequential(block: Any, x: Tensor, attend: Attend) -> Activations:
    ln1 = block.input_layernorm(x)
    sa = attend(ln1)
    ln2 = block.post_attention_layernorm(x + sa)
    fc1 = _gated(block, ln2)
    fc2 = block.mlp.down_proj(fc1)
    return _hook_points(
        ln1=ln1, attn_out=sa, mid=x + sa, ln2=ln2, mlp_post=fc1, mlp_out=fc2, post=x + sa + fc2
    )


def sandwich(block: Any, x: Tensor, attend: Attend) -> Activations:
    ln1 = block.input_layernorm(x)
    sa = block.post_attention_layernorm(attend(ln1))
    ln2 = block.pre_feedforward_layernorm(x + sa)
    fc1 = _gated(block, ln2)
    fc2 = block.post_feedforward_layernorm(block.mlp.down_proj(fc1))
    return _hook_points(
        ln1=ln1, attn_out=sa, mid=x + sa, ln2=ln2, mlp_post=fc1, mlp_out=fc2, post=x + sa + fc2
    )


def shared_norm(block: Any, x: Tensor, attend: Attend) -> Activations:
    ln1 = block.input_layernorm(x)
    sa = attend(ln1)
    fc1 = block.mlp.activation_fn(block.mlp.fc1(ln1))
    fc2 = block.mlp.fc2(fc1)
    return _hook_points(ln1=ln1, attn_out=sa, mlp_post=fc1, mlp_out=fc2, post=x + sa + fc2)


def neox(block: Any, x: Tensor, attend: Attend) -> Activations:
    ln1 = block.input_layernorm(x)
    sa = attend(ln1)
    middle = {} if block.use_parallel_residual else {"mid": x + sa}
    ln2 = block.post_attention_layernorm(middle.get("mid", x))
    fc1 = nn.functional.gelu(block.mlp.dense_h_to_4h(ln2))
    fc2 = block.mlp.dense_4h_to_h(fc1)
    return _hook_points(
        ln1=ln1, attn_out=sa, **middle, ln2=ln2, mlp_post=fc1, mlp_out=fc2, post=x + sa + fc2
    )


def opt(block: Any, x: Tensor, attend: Attend) -> Activations:
    ln1 = block.self_attn_layer_norm(x)
    sa = attend(ln1)
    ln2 = block.final_layer_norm(x + sa)
    fc1 = torch.relu(block.fc1(ln2))
    fc2 = block.fc2(fc1)
    return _hook_points(
        ln1=ln1, attn_out=sa, mid=x + sa, ln2=ln2, mlp_post=fc1, mlp_out=fc2, post=x + sa + fc2
    )


def post_norm(block: Any, x: Tensor, attend: Attend) -> Activations:
    sa = attend(x)
    mid = block.self_attn_layer_norm(x + sa)
    fc1 = torch.relu(block.fc1(mid))
    fc2 = block.fc2(fc1)
    return _hook_points(
        attn_out=sa, mid=mid, mlp_post=fc1, mlp_out=fc2, post=block.final_layer_norm(mid + fc2)
    )


def _hook_points(*, post: Tensor, mid: Tensor | None = None, **others: Tensor) -> Activations:
    middle = {} if mid is None else {"resid_mid": mid}
    return {**others, **middle, "resid_post": post}


BY_HAND: dict[str, Callable[[Any, Tensor, Attend], Activations]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3"), sequential),
    **dict.fromkeys(("gemma2", "gemma3"), sandwich),
    **dict.fromkeys(("neox", "neox-sequential"), neox),
    **dict.fromkeys(("opt", "opt-projected"), opt),
    "phi": shared_norm,
    "opt-post-norm": post_norm,
}
