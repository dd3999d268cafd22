"""Run a plan on stock models of transformers, through hooks (I3).

Tokens that skip a sub-block are not computed there: the norm before the FFN passes on the other
tokens alone, and zeros are added for the rest. They keep their keys and values, so that others can
attend to them. Tokens that are pruned leave all later layers, with their keys; positions do not
change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ima.errors import ModelError, ParameterError
from ima.token_reduction.attention import (
    LayerAttention,
    find_attention_projections,
    find_window,
    replace_attention,
)
from ima.token_reduction.plans import PruneStep, ReductionPlan, SkipStep, resolve_layers
from ima.token_reduction.scoring import TokenView, select_tokens
from ima.token_reduction.tokens import ActiveTokens, PackedTokens, pack_tokens, repeat_for_beams

if TYPE_CHECKING:
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel


@dataclass(eq=False)
class PlanTrace:
    """What a plan did to the prompts of a batch; filled while they run.

    Parameters
    ----------
    present : list of Tensor
        By layer 1 … L, ``(sample, position)`` bool: the tokens in the residual stream.
    skipped : dict of str to list of Tensor
        ``attention`` and ``ffn``: by layer, the tokens present that skipped it.
    """

    present: list[Tensor] = field(default_factory=list)
    skipped: dict[str, list[Tensor]] = field(default_factory=lambda: {"attention": [], "ffn": []})


@contextmanager
def apply_plan(model: FrozenModel, batch: Batch, plan: ReductionPlan) -> Iterator[PlanTrace]:
    """Apply a plan to one batch, and to what is decoded after it.

    Parameters
    ----------
    model : FrozenModel
        Its hooks are removed on leaving.
    batch : Batch
        The batch that will run: with :meth:`ima.models.frozen.FrozenModel.forward`, or in the
        ``around`` of :meth:`ima.models.frozen.FrozenModel.generate`.
    plan : ReductionPlan
        What is left out; a plan without steps leaves nothing out and only fills the trace.

    Yields
    ------
    PlanTrace
        Filled while the prompt runs. If the plan prunes, the outputs of the model are those of the
        remaining tokens, at the right end.

    Raises
    ------
    ParameterError
        If the model cannot run the plan; see :meth:`ima.token_reduction.plans.ReductionPlan.check`.
    ModelError
        If the plan cannot change the model's attention.

    Examples
    --------
    >>> plan = FastV(after_layer=2, ratio=0.5).plan()  # doctest: +SKIP
    >>> with apply_plan(model, batch, plan) as trace:  # doctest: +SKIP
    ...     model.forward(batch)
    >>> [int(tokens.sum()) for tokens in trace.present]  # doctest: +SKIP
    [80, 80, 48, 48]
    """
    plan.check(model)
    run = _Run(model, batch, plan)
    with ExitStack() as hooks:
        if run.changes_attention:
            hooks.enter_context(replace_attention(model, run, plan=plan.name))
        for layer, block in enumerate(model.hook_points.blocks, start=1):
            run.attach(hooks, layer, block)
        yield run.trace


class _Run:
    """One batch on its way through the layers."""

    def __init__(self, model: FrozenModel, batch: Batch, plan: ReductionPlan) -> None:
        self.model, self.batch, self.plan = model, batch, plan
        self.layers = model.layers
        self.prompt_length = batch.attention_mask.shape[1]
        self.real = batch.attention_mask.bool()
        # An answer that is read with its prompt does not choose what leaves: nor is it there when
        # a model answers.
        self.prompt = self.real & ~batch.answer
        self.trace = PlanTrace()
        #: Layers whose attention a step reads, and what they did while it is needed.
        self.watched = {s.after_layer for s in plan.prune_steps if "attention" in s.needs}
        self.attention: dict[int, LayerAttention] = {}
        self.changes_attention = bool(self.watched) or any(
            step.skip != "ffn" for step in plan.skip_steps
        )
        self.parallel = {
            layer for step in plan.parallel_steps for layer in resolve_layers(step, self.layers)
        }
        #: The tokens of the prompt that remain, and their places, by layer; None before any left.
        self.packed: dict[int, PackedTokens | None] = {}
        self.present = self.real
        self.prefill = True
        #: By sub-block and layer: the prompt's tokens that skip it, and whether decoded ones do.
        self._skips: dict[str, dict[int, tuple[Tensor, bool]]] = {"attention": {}, "ffn": {}}
        self._active: dict[tuple[int, int, int, torch.device], ActiveTokens] = {}
        for step in plan.skip_steps:
            self._note_skips(step)

    def _note_skips(self, step: SkipStep) -> None:
        """Note which tokens skip which sub-blocks in a step: the same tokens at all its layers."""
        decoded = step.tokens in {"generated", "all"} and step.ratio == 1
        skips = torch.zeros_like(self.real)
        if step.tokens != "generated":
            group = self._group(step.tokens)
            view = TokenView(self.batch.sample_ids, group, self.real, summary=self.batch.summary)
            skips = select_tokens(step.selection, view)
        if not decoded and not bool(skips.any()):
            return
        for sub_block in ("attention", "ffn") if step.skip == "block" else (step.skip,):
            for layer in resolve_layers(step, self.layers):
                before, later = self._skips[sub_block].get(layer, (None, False))
                both = skips if before is None else before | skips
                self._skips[sub_block][layer] = (both, later or decoded)

    def _group(self, name: str) -> Tensor:
        if name == "perceptual":
            return self.batch.modality > 0
        if name == "textual":
            return self.real & (self.batch.modality <= 0)
        return self.real

    def attach(self, hooks: ExitStack, layer: int, block: nn.Module) -> None:
        """Attach the hooks of one block."""
        enter = partial(self.enter, layer)
        hooks.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
        norm = self.model.hook_points.get_hook_point("ln2", layer=layer).module
        if layer in self.parallel:
            hooks.callback(norm.register_forward_pre_hook(self._read_input_of_block).remove)
        if layer in self._skips["ffn"]:
            # Tokens are taken before the norm, so that it is not computed for the others either.
            network = self.model.hook_points.get_hook_point("mlp_out", layer=layer).module
            self._attach_skip(hooks, "ffn", layer, norm, network)
        if layer in self._skips["attention"]:
            attention = self.model.hook_points.get_attention(layer - 1)
            for module in find_attention_projections(attention, self.model.name):
                self._attach_skip(hooks, "attention", layer, module, module)

    def _attach_skip(
        self, hooks: ExitStack, sub_block: str, layer: int, first: nn.Module, last: nn.Module
    ) -> None:
        """Take the tokens that run before the first module, and put them back after the last."""
        # Some blocks lay sample and position in one dim before their FFN.
        flat = False

        def gather(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            nonlocal flat
            flat, active = args[0].ndim == 2, self.active_tokens(sub_block, layer)
            return None if active is None else (active.take(args[0]), *args[1:])

        def scatter(_: nn.Module, __: Any, output: Any) -> Any:
            active = self.active_tokens(sub_block, layer)
            return None if active is None else active.put(output, flat=flat)

        hooks.callback(first.register_forward_pre_hook(gather).remove)
        hooks.callback(last.register_forward_hook(scatter).remove)

    def enter(
        self, layer: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a block for the tokens that remain."""
        states = args[0] if args else kwargs["hidden_states"]
        if layer == 1:
            self.prefill = states.shape[1] == self.prompt_length and not self.trace.present
            if self.prefill:
                self.packed, self.present, self._active = {}, self.real, {}
        if self.prefill:
            states, kwargs = self._enter_prompt(layer, states, kwargs)
        else:
            kwargs = self._enter_decoded(layer, kwargs)
        self.block_input = states
        if args:
            return (states, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": states}

    def _enter_prompt(
        self, layer: int, states: Tensor, kwargs: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        before = self.packed.get(layer - 1)
        self.packed[layer] = before
        steps = [step for step in self.plan.prune_steps if step.after_layer == layer - 1]
        if steps:
            kept = self._keep(steps, states)
            if not torch.equal(kept, self.present):
                self.present = kept
                packed = pack_tokens(repeat_for_beams(kept, states))
                states = (packed if before is None else _within(before, packed)).take(states)
                self.packed[layer] = packed
        self.trace.present.append(self.present.clone())
        for sub_block, skipped in self.trace.skipped.items():
            none = (torch.zeros_like(self.real), False)
            skipped.append(self._skips[sub_block].get(layer, none)[0] & self.present)
        remaining = self.packed[layer]
        if remaining is not None:
            kwargs = _cut(kwargs, remaining, states, self.prompt_length)
        return states, kwargs

    def _keep(self, steps: list[PruneStep], states: Tensor) -> Tensor:
        """Return the tokens that remain after the steps of one layer, ``(sample, position)``."""
        layer = steps[0].after_layer
        # Beams of one prompt are alike before anything is decoded: the first of each is read.
        beams = slice(None, None, len(states) // len(self.real))
        packed = self.packed.get(layer)
        if packed is not None:
            packed = PackedTokens(packed.places[beams], packed.real[beams])
        view: dict[str, Any] = {
            "sample_ids": self.batch.sample_ids,
            "real": self.real if packed is None else packed.real,
            "prompt": self.prompt if packed is None else packed.take(self.prompt) & packed.real,
            "states": states[beams],
        }
        if layer > 0:
            view["states_before"] = self.block_input[beams]
        if layer in self.watched:
            if layer not in self.attention:
                raise ModelError(
                    f"{self.plan.name!r} ranks tokens by attention, and layer {layer} of "
                    f"{self.model.name!r} did not attend in a way that can be watched."
                )
            attention = self.attention.pop(layer).select(beams)
            view |= {"queries": attention.queries, "keys": attention.keys, "attention": attention}
        summary = self.batch.summary
        if summary is not None:
            view["summary"] = summary if packed is None else packed.take(summary)
        elif any("summary" in step.needs for step in steps):
            raise ParameterError(
                f"{self.plan.name!r} needs similarities to the CLS token; the batch has none."
            )
        # The last token of the prompt predicts the next one.
        last = self.prompt & (self.prompt.flip(1).cumsum(1).flip(1) == 1)
        kept = self.present.clone()
        for step in steps:
            candidates = self._group(step.prune) & self.prompt & self.present & ~last
            if packed is None:
                kept &= ~select_tokens(step, TokenView(candidates=candidates, **view))
            else:
                candidates = packed.take(candidates) & packed.real
                leaving = select_tokens(step, TokenView(candidates=candidates, **view))
                kept &= ~packed.put(leaving, length=self.prompt_length)
        return kept

    def _enter_decoded(self, layer: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        packed = self.packed.get(layer)
        if packed is None:
            return kwargs
        cache = kwargs.get("past_key_values")
        if cache is None:
            raise ModelError(
                f"{self.model.name!r} does not hand its blocks past_key_values by name, so that "
                "nothing can be decoded after tokens are pruned. Use skip steps instead."
            )
        own = cache.layers[layer - 1]
        mask = packed.decoding_mask(
            kwargs.get("attention_mask"),
            prompt_length=self.prompt_length,
            keys=int(own.get_seq_length()) + 1,
            cached=int(own.get_mask_sizes(1)[0]),
            window=find_window(self.model.hook_points.get_attention(layer - 1), own),
        )
        return {**kwargs, "attention_mask": mask}

    def active_tokens(self, sub_block: str, layer: int) -> ActiveTokens | None:
        """Return the tokens that run in a sub-block, in its coordinates; None if all do."""
        if layer not in self._skips[sub_block]:
            return None
        skips, decoded = self._skips[sub_block][layer]
        if not self.prefill:
            shape = self.block_input.shape[:2]
            return ActiveTokens(torch.zeros(shape, dtype=torch.bool)) if decoded else None
        packed = self.packed[layer]
        # Layers at which the same tokens skip share the indices.
        device = self.block_input.device
        key = (id(skips), id(packed), len(self.block_input), device)
        if key not in self._active:
            skips = repeat_for_beams(skips, self.block_input)
            skips = skips if packed is None else packed.take(skips)
            self._active[key] = ActiveTokens(~skips.to(device))
        return self._active[key]

    def _read_input_of_block(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.block_input.reshape(args[0].shape), *args[1:])

    def watch(self, layer: int, attention: LayerAttention) -> None:
        """Keep the attention of a layer that a step reads."""
        if self.prefill and layer in self.watched:
            self.attention[layer] = attention


def _within(before: PackedTokens, after: PackedTokens) -> PackedTokens:
    """Return the tokens of ``after`` in the coordinates of ``before``."""
    new = torch.arange(before.places.shape[1], device=before.places.device)
    back = before.put(new.expand(before.places.shape), length=int(before.places.max()) + 1)
    places = torch.where(after.real, back.gather(1, after.places), 0)
    return PackedTokens(places, after.real)


def _cut(
    kwargs: dict[str, Any], packed: PackedTokens, states: Tensor, length: int
) -> dict[str, Any]:
    """Return a block's arguments for the tokens that remain."""
    cut = dict(kwargs)
    if "attention_mask" in cut:
        cut["attention_mask"] = packed.prompt_mask(cut["attention_mask"], like=states)
    tables = cut.get("position_embeddings")
    if tables is not None:
        cut["position_embeddings"] = tuple(packed.take_positions(t, dim=-2) for t in tables)
    ids = cut.get("position_ids")
    if ids is not None and ids.shape[-1] == length:
        cut["position_ids"] = packed.take_positions(ids, dim=-1)
    return cut
