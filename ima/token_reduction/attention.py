"""Attention that can be watched and asked for some rows alone, in models of transformers."""

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

#: Name of our attention among those of transformers.
_ATTN_IMPLEMENTATION = "ima_sdpa"
_SERVED = ("sdpa", "eager", _ATTN_IMPLEMENTATION)


class AttentionWatcher(Protocol):
    """Who is shown queries and keys, and says which rows ask."""

    def watch(self, layer: int, query: Tensor, key: Tensor, *, scale: float) -> None:
        """Look at ``(sample, head, position, feature)`` of a layer, positions turned in."""

    def running(self, what: str, layer: int) -> ActiveTokens | None:
        """Return the rows that ask; None if all do."""


def find_attention_projections(attention: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    """Return the linear layers that make queries, and that read what attention found.

    Raises
    ------
    ModelError
        If a model, whose name the message tells, has none of its own.
    """
    query = getattr(attention, "q_proj", None)
    out = next((m for n in ("o_proj", "out_proj") if (m := getattr(attention, n, None))), None)
    if not isinstance(query, nn.Module) or not isinstance(out, nn.Module):
        message = (
            f"{type(attention).__name__} of {name!r} has no query projection of its own, so that "
            "no row can bypass attention. Skip ffn, or withdraw rows."
        )
        raise ModelError(message)
    return query, out


@contextmanager
def replace_attention(
    model: FrozenModel, watcher: AttentionWatcher, *, what: str
) -> Iterator[None]:
    """Let a model attend as SDPA does, but for rows that do not ask.

    Parameters
    ----------
    model : FrozenModel
        Its own attention is put back on leaving.
    watcher : Watcher
        Says which rows ask, and is shown queries and keys.
    what : str
        For whom, in errors.

    Raises
    ------
    ModelError
        If the model attends in a way that cannot be replaced.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(_ATTN_IMPLEMENTATION, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_ATTN_IMPLEMENTATION, sdpa_mask)
    blocks = model.anatomy.blocks
    held = [block.get_submodule(model.anatomy.attention) for block in blocks]
    configs: dict[int, Any] = {
        id(module.config): module.config for module in held if hasattr(module, "config")
    }
    before = {key: config._attn_implementation for key, config in configs.items()}
    unserved = [name for name in before.values() if name not in _SERVED]
    if unserved or not configs:
        message = (
            f"The plan {what!r} needs attention by sdpa or eager; {model.name!r} has "
            f"{', '.join(map(str, unserved)) or 'one that cannot be chosen'}. Load it with sdpa."
        )
        raise ModelError(message)
    try:
        for config in configs.values():
            config._attn_implementation = _ATTN_IMPLEMENTATION
        for layer, module in enumerate(held, start=1):
            module._ima_watcher = (watcher, layer)  # type: ignore[assignment]
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]
        for module in held:
            del module._ima_watcher


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Any]:  # fmt: skip
    """Attend as SDPA does, asking for the rows that run and for no others."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    watcher, layer = module._ima_watcher
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    watcher.watch(layer, query, key, scale=scale)
    some = watcher.running("attention", layer)
    if some is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if not len(some.index):
        return query.new_zeros(*query.transpose(1, 2).shape[:3], value.shape[-1]), None
    asking = some.packed
    length = query.shape[2]
    if attention_mask is None:
        order = torch.arange(length, device=query.device)
        attention_mask = (order[:, None] >= order[None])[None, None]
    rows = asking.take(query.transpose(1, 2)).transpose(1, 2)
    told, _ = sdpa_attention_forward(
        module, rows, key, value, asking.rows_of(attention_mask), **kwargs
    )
    return asking.put(told, length=length), None
