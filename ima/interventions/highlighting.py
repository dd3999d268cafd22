"""Prompt Highlighter (arXiv:2312.04302): a user marks tokens of the prompt that count for more.

Each prompt runs twice in one batch. The conditional branch attends more to the marked tokens: log β
is added to its attention logits at them, in every layer. The unconditional branch hardly sees them:
their input embeddings are multiplied by α, and 2 + log β is subtracted from its attention logits at
them. The next token comes from s_u + γ (s_c - s_u), where s are the logits of the branches.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ima.errors import ModelError, ParameterError
from ima.interventions.highlight_marks import Highlight, mark_tokens
from ima.models.hub import HubModel

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

#: What is subtracted from the attention logits of the unconditional branch, beside log β.
_UNCONDITIONAL_BIAS = 2.0


@dataclass(frozen=True)
class HighlightStrength:
    """How much marked tokens count for; the defaults are those of the authors for LLaVA.

    Parameters
    ----------
    gamma : float
        Weight of the guidance γ; 1 is the conditional branch alone, 0 the unconditional one.
    beta : float
        Factor β of the attention weights of marked tokens, before these are normalised.
    alpha : float
        Factor α of the marked input embeddings in the unconditional branch.

    Raises
    ------
    ParameterError
        If β is not above 0 or a number is not finite.

    Examples
    --------
    >>> HighlightStrength(beta=5.0)
    HighlightStrength(gamma=1.3, beta=5.0, alpha=0.01)
    """

    gamma: float = 1.3
    beta: float = 2.0
    alpha: float = 0.01

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.gamma, self.beta, self.alpha)):
            raise ParameterError(f"gamma, beta and alpha must be finite numbers; got {self}.")
        if self.beta <= 0:
            raise ParameterError(
                f"beta multiplies attention weights and must be above 0; got {self.beta:g}. "
                "1 leaves them as they are."
            )


def make_key_bias(marks: Tensor, *, beta: float) -> Tensor:
    """Return what is added to the attention logits of both branches at each key.

    Parameters
    ----------
    marks : Tensor
        ``(sample, position)`` bool.
    beta : float
        Factor of the attention weights of marked tokens.

    Returns
    -------
    Tensor
        ``(2 · sample, position)``: the conditional branch of all samples, then the unconditional.

    Examples
    --------
    >>> make_key_bias(torch.tensor([[True, False]]), beta=1.0).tolist()
    [[0.0, 0.0], [-2.0, -0.0]]
    """
    marked = marks.float()
    return torch.cat([marked * math.log(beta), -marked * (_UNCONDITIONAL_BIAS + math.log(beta))])


def make_embedding_factors(marks: Tensor, *, alpha: float) -> Tensor:
    """Return the factor of each input embedding of both branches.

    Parameters
    ----------
    marks : Tensor
        ``(sample, position)`` bool.
    alpha : float
        Factor at marked tokens of the unconditional branch.

    Returns
    -------
    Tensor
        ``(2 · sample, position)``, in the order of :func:`make_key_bias`.

    Examples
    --------
    >>> make_embedding_factors(torch.tensor([[True, False]]), alpha=0.5).tolist()
    [[1.0, 1.0], [0.5, 1.0]]
    """
    ones = torch.ones(marks.shape, device=marks.device)
    return torch.cat([ones, torch.where(marks, alpha, ones)])


def guide_logits(logits: Tensor, *, gamma: float) -> Tensor:
    """Guide the conditional logits away from the unconditional ones.

    Parameters
    ----------
    logits : Tensor
        ``(2 · sample, ...)``, in the order of :func:`make_key_bias`.
    gamma : float
        Weight of the guidance; with 1 the result is bit for bit the conditional branch.

    Returns
    -------
    Tensor
        ``(2 · sample, ...)``: both branches receive s_u + γ (s_c - s_u), so that they decode the
        same token.

    Examples
    --------
    >>> guide_logits(torch.tensor([[3.0], [1.0]]), gamma=2.0).tolist()
    [[5.0], [5.0]]
    """
    conditional, unconditional = logits.chunk(2)
    guided = torch.lerp(unconditional, conditional, gamma)
    return torch.cat([guided, guided])


def add_key_bias(
    mask: Tensor | None, bias: Tensor, *, queries: int, seen: int, causal: bool = True
) -> Tensor:
    """Add a bias of keys to an attention mask.

    Parameters
    ----------
    mask : Tensor or None
        ``(row or 1, 1, query, key)``: bool, or numbers that are added; None is attention to all
        keys before a query.
    bias : Tensor
        ``(row, position)`` for the positions of the prompt; later ones have none.
    queries : int
        Number of queries, which are the last positions.
    seen : int
        Number of positions so far, the queries among them.
    causal : bool
        Whether a mask of None hides the keys after a query.

    Returns
    -------
    Tensor
        ``(row, 1, query, key)``, numbers that are added.

    Examples
    --------
    >>> bias = torch.tensor([[0.5, 0.0]])
    >>> add_key_bias(None, bias, queries=1, seen=3).tolist()
    [[[[0.5, 0.0, 0.0]]]]
    """
    keys = seen if mask is None else mask.shape[-1]
    # A static cache has room for keys to come; a window holds only the last ones.
    first = max(seen - keys, 0)
    padded = nn.functional.pad(bias, (0, max(seen, keys) - bias.shape[1]))
    own = padded[:, None, None, first : first + keys].expand(-1, 1, queries, -1)
    if mask is None:
        if not causal:
            return own.contiguous()
        places = torch.arange(keys, device=bias.device)
        mask = places <= places[seen - queries :, None]
    if mask.dtype == torch.bool:
        return own.masked_fill(~mask, torch.finfo(bias.dtype).min)
    return (own + mask).clamp(min=torch.finfo(bias.dtype).min)


class _Position:
    """Where a running model is: how many positions it has seen."""

    def __init__(self, model: FrozenModel, *, prompt: int) -> None:
        self.model, self.prompt, self.seen = model, prompt, 0
        self.masks: dict[tuple[int, int], tuple[Tensor | None, Tensor]] = {}

    def advance(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count the positions that enter the first block."""
        queries = (args[0] if args else kwargs["hidden_states"]).shape[1]
        self.seen = queries if queries == self.prompt else self.seen + queries
        self.masks.clear()


@contextmanager
def bias_attention(model: FrozenModel, bias: Tensor) -> Iterator[None]:
    """Add a bias to the attention logits of keys of the prompt, in every layer and head.

    Parameters
    ----------
    model : FrozenModel
        Its hooks are removed on leaving.
    bias : Tensor
        ``(row, position)`` for a batch of as many rows; tokens that are decoded have none.

    Raises
    ------
    ModelError
        If a layer's attention does not receive a mask to which numbers can be added.

    Examples
    --------
    >>> with bias_attention(model, 0.7 * (batch.modality > 0)):  # doctest: +SKIP
    ...     model.forward(batch)
    """
    position = _Position(model, prompt=bias.shape[1])

    def before(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if "attention_mask" not in kwargs or (mask is not None and mask.ndim != 4):
            raise ModelError(
                f"{type(module).__name__} of {model.name!r} does not receive a mask for each query "
                "and key, so that nothing can be highlighted. Load the model with sdpa or eager "
                "attention."
            )
        states = args[0] if args else kwargs["hidden_states"]
        # The cached mask is kept with the one that it stands for: no other can take its id.
        causal = getattr(module, "is_causal", True)
        key = (id(mask), causal)
        if key not in position.masks:
            rows = bias.repeat_interleave(len(states) // len(bias), dim=0)
            biased = add_key_bias(
                mask,
                rows.to(states.device, states.dtype),
                queries=states.shape[1],
                seen=position.seen,
                causal=causal,
            )
            position.masks[key] = (mask, biased)
        return args, {**kwargs, "attention_mask": position.masks[key][1]}

    with ExitStack() as hooks:
        first = model.hook_points.blocks[0]
        hooks.callback(first.register_forward_pre_hook(position.advance, with_kwargs=True).remove)
        for index in range(model.layers):
            attention = model.hook_points.get_attention(index)
            hooks.callback(attention.register_forward_pre_hook(before, with_kwargs=True).remove)
        yield


@contextmanager
def scale_embeddings(model: FrozenModel, factors: Tensor) -> Iterator[None]:
    """Multiply input embeddings of the prompt.

    Parameters
    ----------
    model : FrozenModel
        Its hooks are removed on leaving. If it embeds the prompt inside its decoder, the input of
        the first block is multiplied. Features that a decoder adds between blocks (Qwen3-VL) stay.
    factors : Tensor
        ``(row, position)`` for a batch of as many rows.

    Examples
    --------
    >>> with scale_embeddings(model, 1.0 * (batch.modality == 0)):  # doctest: +SKIP
    ...     model.forward(batch)
    """
    scaled = False

    def scale(states: Tensor) -> Tensor | None:
        if states.shape[1] != factors.shape[1]:
            return None
        rows = factors.repeat_interleave(len(states) // len(factors), dim=0).unsqueeze(-1)
        return states * rows.to(states)

    def before_trunk(
        trunk: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        nonlocal scaled
        names = list(inspect.signature(trunk.forward).parameters)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        embeds = given.get("inputs_embeds")
        scaled = embeds is not None
        if embeds is None or (own := scale(embeds)) is None:
            return None
        return (), {**given, "inputs_embeds": own}

    def before_blocks(states: Tensor) -> Tensor | None:
        return None if scaled else scale(states)

    trunk = model.hook_points.trunk
    first = model.hook_points.get_hook_point("resid_post", layer=0)
    with (
        trunk.register_forward_pre_hook(before_trunk, with_kwargs=True),
        first.attach(before_blocks, samples=len(factors)),
    ):
        yield


@contextmanager
def guide_generation(model: FrozenModel, *, gamma: float) -> Iterator[None]:
    """Guide the logits of a model that generates for both branches.

    Parameters
    ----------
    model : FrozenModel
        Its hook is removed on leaving.
    gamma : float
        Weight of the guidance.

    Raises
    ------
    ModelError
        If the model gives no logits.

    Examples
    --------
    >>> with guide_generation(model, gamma=1.3):  # doctest: +SKIP
    ...     model.generate([sample, sample])
    """
    head = _find_head(model)

    def guide(module: nn.Module, _: Any, output: Any) -> Any:
        if getattr(output, "logits", None) is None:
            raise ModelError(f"{type(module).__name__} gives no logits that could be guided.")
        output.logits = guide_logits(output.logits, gamma=gamma)
        return output

    with head.register_forward_hook(guide):
        yield


def _find_head(model: FrozenModel) -> nn.Module:
    """Return the innermost module that generates: from embeddings to logits."""
    from transformers import GenerationMixin

    trunk = model.hook_points.trunk
    modules: list[nn.Module] = list(model.language.modules())
    holders = [
        module
        for module in modules
        if any(part is trunk for part in module.modules())
        and issubclass(type(module), GenerationMixin)
    ]
    if not holders:
        raise ModelError(f"{model.name!r} has no part that generates text from its decoder.")
    return min(holders, key=lambda module: len(list(module.modules())))


@contextmanager
def highlight_pairs(
    model: FrozenModel, batch: Batch, marks: Tensor, *, strength: HighlightStrength
) -> Iterator[None]:
    """Highlight tokens while a model answers a batch that holds each prompt twice.

    Parameters
    ----------
    model : FrozenModel
        Its hooks are removed on leaving.
    batch : Batch
        The prompts, and then the same prompts again for the unconditional branch.
    marks : Tensor
        ``(sample, position)`` bool for the first half.
    strength : HighlightStrength
        How much the marked tokens count for.

    Raises
    ------
    ParameterError
        If the batch has not twice as many rows as there are marks.

    Examples
    --------
    >>> with highlight_pairs(model, batch, marks, strength=HighlightStrength()):  # doctest: +SKIP
    ...     model.language.generate(**inputs)
    """
    if len(batch) != 2 * len(marks):
        raise ParameterError(
            f"A batch needs each prompt twice; got {len(batch)} rows for marks of {len(marks)}."
        )
    with (
        bias_attention(model, make_key_bias(marks, beta=strength.beta)),
        scale_embeddings(model, make_embedding_factors(marks, alpha=strength.alpha)),
        guide_generation(model, gamma=strength.gamma),
    ):
        yield


def generate_highlighted(
    model: FrozenModel,
    samples: Sequence[Sample],
    highlights: Sequence[Highlight],
    *,
    strength: HighlightStrength = HighlightStrength(),
    max_new_tokens: int = 48,
    batch_size: int = 16,
) -> list[str]:
    """Answer the samples' prompts with some of their tokens highlighted.

    Parameters
    ----------
    model : FrozenModel
        Any model that generates with sdpa or eager attention.
    samples : sequence of Sample
        Their references are not read.
    highlights : sequence of Highlight
        What is highlighted in each.
    strength : HighlightStrength
        How much it counts for.
    max_new_tokens : int
        Maximum length of an answer, in tokens.
    batch_size : int
        Samples per forward pass, each of which has two rows.

    Returns
    -------
    list of str
        One text per sample, as from :meth:`ima.models.frozen.FrozenModel.generate`.

    Raises
    ------
    ParameterError
        If there is not one highlight for each sample, or something cannot be marked.
    ModelError
        If boxes are given and the model's tokens have no places, or its attention takes no bias.

    Examples
    --------
    >>> highlight = Highlight(boxes=((0, 0, 112, 112),))  # doctest: +SKIP
    >>> generate_highlighted(model, [sample], [highlight])  # doctest: +SKIP
    ['a cat in the snow']
    """
    if len(highlights) != len(samples):
        raise ParameterError(
            f"Each sample needs a highlight: got {len(samples)} samples and {len(highlights)}."
        )
    if isinstance(model, HubModel) and model.alone:
        # Two copies of one sample leave each other as they are.
        model, batch_size = replace(model, alone=frozenset()), 1
    answers: list[str] = []
    while len(answers) < len(samples):
        start = len(answers)
        stop = model.limit_batch(samples, start, min(start + batch_size, len(samples)))
        part, marked = samples[start:stop], highlights[start:stop]

        @contextmanager
        def around(batch: Batch, part: Any = part, marked: Any = marked) -> Iterator[None]:
            marks = mark_tokens(model, batch, part, marked)
            with highlight_pairs(model, batch, marks, strength=strength):
                yield

        pairs = [*part, *part]
        both = model.generate(
            pairs, max_new_tokens=max_new_tokens, batch_size=len(pairs), around=around
        )
        answers += both[: len(part)]
    return answers
