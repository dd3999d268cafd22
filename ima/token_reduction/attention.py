"""Attention of models of transformers, watched, and computed for some tokens alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ima.errors import ModelError
from ima.token_reduction.tokens import ActiveTokens

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

#: Name under which transformers registers our attention.
_ATTN_IMPLEMENTATION = "ima_sdpa"
_REPLACEABLE = ("sdpa", "eager", _ATTN_IMPLEMENTATION)


class AttentionWatcher(Protocol):
    """Sees queries and keys, and says which tokens attend."""

    def watch(self, layer: int, queries: Tensor, keys: Tensor, *, scale: float) -> None:
        """Receive queries and keys of a layer, ``(sample, head, token, feature)``."""

    def active_tokens(self, sub_block: str, layer: int) -> ActiveTokens | None:
        """Return the tokens that attend; None if all do."""


def find_attention_projections(attention: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    """Return the query projection and the output projection of an attention module.

    Parameters
    ----------
    attention : nn.Module
        The module.
    name : str
        The model, for the error.

    Raises
    ------
    ModelError
        If the module has none of its own.

    Examples
    --------
    >>> attention = nn.ModuleDict({"q_proj": nn.Linear(2, 2), "o_proj": nn.Linear(2, 2)})
    >>> find_attention_projections(attention, "tiny")[0] is attention["q_proj"]
    True
    """
    query = getattr(attention, "q_proj", None)
    outputs = (getattr(attention, key, None) for key in ("o_proj", "out_proj"))
    output = next((module for module in outputs if module), None)
    if not isinstance(query, nn.Module) or not isinstance(output, nn.Module):
        raise ModelError(
            f"{type(attention).__name__} of {name!r} has no query projection of its own, so that "
            "no token can skip attention. Skip ffn, or prune tokens."
        )
    return query, output


@contextmanager
def replace_attention(
    model: FrozenModel, watcher: AttentionWatcher, *, plan: str
) -> Iterator[None]:
    """Replace a model's attention by SDPA that is watched and that some tokens can skip.

    Parameters
    ----------
    model : FrozenModel
        Its own attention is restored on leaving.
    watcher : AttentionWatcher
        Sees queries and keys, and says which tokens attend.
    plan : str
        Name of the plan, for the error.

    Raises
    ------
    ModelError
        If the model's attention cannot be replaced.

    Examples
    --------
    >>> with replace_attention(model, watcher, plan="FastV"):  # doctest: +SKIP
    ...     model.forward(batch)
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(_ATTN_IMPLEMENTATION, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_ATTN_IMPLEMENTATION, sdpa_mask)
    modules = [model.hook_points.get_attention(index) for index in range(model.layers)]
    configs: dict[int, Any] = {
        id(module.config): module.config for module in modules if hasattr(module, "config")
    }
    before = {key: config._attn_implementation for key, config in configs.items()}
    others = [name for name in before.values() if name not in _REPLACEABLE]
    if others or not configs:
        raise ModelError(
            f"The plan {plan!r} needs attention by sdpa or eager; {model.name!r} has "
            f"{', '.join(map(str, others)) or 'one that cannot be chosen'}. Load it with sdpa."
        )
    try:
        for config in configs.values():
            config._attn_implementation = _ATTN_IMPLEMENTATION
        for layer, module in enumerate(modules, start=1):
            module._ima_watcher = (watcher, layer)
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]
        for module in modules:
            del module._ima_watcher


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Any]:  # fmt: skip
    """Attend as SDPA does, for the tokens that do not skip attention."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    watcher, layer = module._ima_watcher
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    watcher.watch(layer, query, key, scale=scale)
    active = watcher.active_tokens("attention", layer)
    if active is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if not len(active.index):
        return query.new_zeros(*query.transpose(1, 2).shape[:3], value.shape[-1]), None
    packed = active.packed
    length = query.shape[2]
    if attention_mask is None:
        order = torch.arange(length, device=query.device)
        attention_mask = (order[:, None] >= order[None])[None, None]
    queries = packed.take(query.transpose(1, 2)).transpose(1, 2)
    mask = packed.take_mask_queries(attention_mask)
    output, _ = sdpa_attention_forward(module, queries, key, value, mask, **kwargs)
    return packed.put(output, length=length), None
