"""Attention of models of transformers, watched, and computed for some tokens alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ima.errors import ModelError
from ima.token_reduction.tokens import ActiveTokens

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

#: Names under which transformers registers our attention, by the one that it stands for.
_IMPLEMENTATIONS = {"sdpa": "ima_sdpa", "eager": "ima_eager"}
#: Share by which attention weights may miss what the layer gave, by rounding.
_ROUNDING = {torch.float32: 1e-4}
_ROUNDING_OF_HALF = 2e-2


class AttentionWatcher(Protocol):
    """Sees the attention of layers, and says which tokens attend."""

    def watch(self, layer: int, attention: LayerAttention) -> None:
        """Receive the attention of a layer."""

    def active_tokens(self, sub_block: str, layer: int) -> ActiveTokens | None:
        """Return the tokens that attend; None if all do."""


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """One call of a layer's attention.

    Parameters
    ----------
    module : nn.Module
        The attention module.
    queries : Tensor
        ``(sample, head, token, feature)``, with positions.
    keys, values : Tensor
        ``(sample, key head, token, feature)``; keys with positions.
    mask : Tensor or None
        ``(sample or 1, 1, token, token)``: bool, or numbers that are added; None is causal
        attention without padding.
    options : mapping
        The other arguments of the call: scaling, softcap, window, position bias.
    output : Tensor or None
        ``(sample, token, head, feature)``: what the call gave; None if some tokens skipped it.
    """

    module: Any
    queries: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor | None
    options: Mapping[str, Any]
    output: Tensor | None

    def select(self, samples: slice) -> LayerAttention:
        """Return the call for some samples."""
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[samples]
        output = None if self.output is None else self.output[samples]
        return replace(
            self,
            queries=self.queries[samples],
            keys=self.keys[samples],
            values=self.values[samples],
            mask=mask,
            options={name: _select(value, samples) for name, value in self.options.items()},
            output=output,
        )

    def compute_weights(self, places: Tensor) -> Tensor:
        """Return how one token of each sample attends, with all that the layer does to weights.

        The model's own function computes them, so that masks, windows, softcaps, sinks and biases
        are those that the layer used. Their product with the values must be what the layer gave.

        Parameters
        ----------
        places : Tensor
            ``(sample,)``: the place of the token.

        Returns
        -------
        Tensor
            ``(sample, head, token)``.

        Raises
        ------
        ModelError
            If these weights do not give the layer's output.
        """
        samples = torch.arange(len(self.queries), device=self.queries.device)
        query = self.queries[samples, :, places].unsqueeze(2)
        options = dict(self.options)
        if options.get("position_bias") is not None:
            options["position_bias"] = _take_rows(options["position_bias"], places)
        mask = _take_rows(_make_additive(self.mask, like=self.queries), places)
        compute = find_own_attention(self.module, "eager")
        output, weights = compute(
            self.module, query, self.keys, self.values, mask, **options | {"dropout": 0.0}
        )
        if self.output is not None:
            given = self.output[samples, places].float()
            limit = _ROUNDING.get(self.queries.dtype, _ROUNDING_OF_HALF)
            if (output[:, 0].float() - given).norm() > limit * given.norm():
                raise ModelError(
                    f"{type(self.module).__name__} attends in another way than its attention "
                    "weights say, so that tokens cannot be ranked by them. Load the model with "
                    "eager attention, or take a plan that ranks tokens in another way."
                )
        weighted: Tensor = weights[:, :, 0]
        return weighted


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
    """Replace a model's attention by its own that is watched and that some tokens can skip.

    Parameters
    ----------
    model : FrozenModel
        Its own attention is restored on leaving.
    watcher : AttentionWatcher
        Sees each layer's attention, and says which tokens attend.
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
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    modules = [model.hook_points.get_attention(index) for index in range(model.layers)]
    for module in modules:
        _require_replaceable(module, model=model.name, plan=plan)
    configs: dict[int, Any] = {
        id(module.config): module.config for module in modules if hasattr(module, "config")
    }
    before = {key: config._attn_implementation for key, config in configs.items()}
    others = [name for name in before.values() if name not in _IMPLEMENTATIONS]
    if others:
        raise ModelError(
            f"The plan {plan!r} needs attention by sdpa or eager; {model.name!r} has "
            f"{', '.join(map(str, others))}. Load it with sdpa."
        )
    for own, ours in _IMPLEMENTATIONS.items():
        ALL_ATTENTION_FUNCTIONS.register(ours, partial(_attend, own=own))
        ALL_MASK_ATTENTION_FUNCTIONS.register(ours, ALL_MASK_ATTENTION_FUNCTIONS[own])
    try:
        for config in configs.values():
            config._attn_implementation = _IMPLEMENTATIONS[config._attn_implementation]
        for layer, module in enumerate(modules, start=1):
            module._ima_watcher = (watcher, layer)
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]
        for module in modules:
            del module._ima_watcher


def find_own_attention(module: nn.Module, name: str) -> Callable[..., tuple[Tensor, Any]]:
    """Return the function that a module of transformers attends with.

    Parameters
    ----------
    module : nn.Module
        The attention module.
    name : str
        ``"sdpa"`` or ``"eager"``.

    Raises
    ------
    ModelError
        If its attention is no function that can be called apart.

    Examples
    --------
    >>> find_own_attention(model.hook_points.get_attention(0), "eager")  # doctest: +SKIP
    <function eager_attention_forward at …>
    """
    code = vars(sys.modules[type(module).__module__])
    interface, eager = code.get("ALL_ATTENTION_FUNCTIONS"), code.get("eager_attention_forward")
    if interface is None or eager is None:
        raise ModelError(f"{type(module).__name__} has no attention function of its own.")
    found: Callable[..., tuple[Tensor, Any]] = interface.get_interface(name, eager)
    return found


def find_window(attention: Any, cache: Any) -> int | None:
    """Return to how many positions a token attends in a layer, its own among them.

    Parameters
    ----------
    attention : nn.Module
        The attention module.
    cache : CacheLayerMixin
        The layer's keys and values, as ``generate`` keeps them.

    Returns
    -------
    int or None
        None if a token attends to all before it.

    Raises
    ------
    ModelError
        If tokens attend within chunks (Llama 4).

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> find_window(SimpleNamespace(sliding_window=4), SimpleNamespace(is_sliding=False))
    4
    """
    config = getattr(attention, "config", None)
    if getattr(config, "attention_chunk_size", None):
        raise ModelError(
            f"{type(attention).__name__} attends within chunks of positions, and nothing can be "
            "decoded there after tokens are pruned. Use skip steps instead."
        )
    if getattr(cache, "is_sliding", False):
        return int(cache.sliding_window)
    window = getattr(attention, "sliding_window", None)
    if window is None and not getattr(config, "layer_types", None):
        window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)


def _require_replaceable(module: nn.Module, *, model: str, plan: str) -> None:
    try:
        find_own_attention(module, "eager")
    except ModelError as error:
        raise ModelError(
            f"The plan {plan!r} reads or changes attention; that of {model!r} cannot be watched: "
            f"{error} Take a plan that skips ffn, or that ranks tokens in another way."
        ) from error


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    *, own: str, **options: Any,
) -> tuple[Tensor, Any]:  # fmt: skip
    """Attend as the module does, for the tokens that do not skip attention."""
    watcher, layer = module._ima_watcher
    attend = find_own_attention(module, own)
    active = watcher.active_tokens("attention", layer)
    call = LayerAttention(module, query, key, value, attention_mask, options, output=None)
    if active is None:
        output, weights = attend(module, query, key, value, attention_mask, **options)
        watcher.watch(layer, replace(call, output=output))
        return output, weights
    watcher.watch(layer, call)
    if not len(active.index):
        return query.new_zeros(*query.transpose(1, 2).shape[:3], value.shape[-1]), None
    packed = active.packed
    queries = packed.take(query.transpose(1, 2)).transpose(1, 2)
    if attention_mask is None:
        attention_mask = make_causal_mask(query)
        if own == "eager":
            attention_mask = _make_additive(attention_mask, like=query)
    mask = packed.take_mask_queries(attention_mask)
    if options.get("position_bias") is not None:
        bias = packed.take_mask_queries(options["position_bias"])
        options = {**options, "position_bias": bias}
    output, _ = attend(module, queries, key, value, mask, **options)
    return packed.put(output, length=query.shape[2]), None


def make_causal_mask(queries: Tensor) -> Tensor:
    """Return which token attends to which without padding, ``(1, 1, token, token)`` bool.

    Examples
    --------
    >>> make_causal_mask(torch.zeros(1, 1, 2, 4)).int().tolist()
    [[[[1, 0], [1, 1]]]]
    """
    order = torch.arange(queries.shape[2], device=queries.device)
    return (order[:, None] >= order[None])[None, None]


def _make_additive(mask: Tensor | None, *, like: Tensor) -> Tensor:
    """Return a mask as numbers that are added to the products of queries and keys."""
    if mask is None:
        mask = make_causal_mask(like)
    if mask.dtype != torch.bool:
        return mask
    closed = torch.zeros_like(mask, dtype=like.dtype)
    return closed.masked_fill(~mask, torch.finfo(like.dtype).min)


def _take_rows(values: Tensor, places: Tensor) -> Tensor:
    """Return one row of ``(sample or 1, head or 1, token, token)`` for each sample."""
    samples = torch.arange(len(places), device=values.device)
    expanded = values.expand(len(places), -1, -1, -1)
    return expanded[samples, :, places].unsqueeze(2)


def _select(value: Any, samples: slice) -> Any:
    """Return what belongs to some samples of an argument that has a dim of samples."""
    has_samples = isinstance(value, Tensor) and value.ndim == 4 and len(value) > 1
    return value[samples] if has_samples else value
