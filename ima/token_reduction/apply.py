"""Skipping computation: a plan runs on stock models of transformers, through hooks (I3).

Rows that bypass a sub-block are not computed there: the norm before the FFN hands on the other
rows alone, and zeros are added for them. They keep their keys and values, so that others may attend
to them. Rows that are withdrawn leave all later layers, with their keys; positions stay what they
were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ima.errors import ModelError, ParameterError
from ima.token_reduction import plans
from ima.token_reduction.attention import find_attention_projections, replace_attention
from ima.token_reduction.plans import PruneStep, ReductionPlan, SkipStep
from ima.token_reduction.ranking import rank_tokens_to_prune
from ima.token_reduction.tokens import ActiveTokens, PackedTokens, pack_tokens, repeat_for_beams

if TYPE_CHECKING:
    from ima.models import Batch
    from ima.models.frozen import FrozenModel


@dataclass(eq=False)
class PlanTrace:
    """What a plan did to the prompt of a batch, known after it ran.

    Parameters
    ----------
    present : list of Tensor
        By layer 1 … L, ``(sample, position)`` bool: the rows that were in the stream.
    skipped : dict of str to list of Tensor
        ``attention`` and ``ffn``: by layer, the rows that bypassed it, of those present.
    """

    present: list[Tensor] = field(default_factory=list)
    skipped: dict[str, list[Tensor]] = field(default_factory=lambda: {"attention": [], "ffn": []})


@contextmanager
def apply_plan(model: FrozenModel, batch: Batch, plan: ReductionPlan) -> Iterator[PlanTrace]:
    """Let a model run one batch, and what it decodes after it, by a plan.

    Parameters
    ----------
    model : FrozenModel
        Its hooks are removed on leaving.
    batch : Batch
        What will run: :meth:`ima.models.frozen.FrozenModel.forward` of it, or the answers to it, as
        ``around`` of :meth:`ima.models.frozen.FrozenModel.generate` gives it.
    plan : Plan
        What is left out; without steps nothing is, and only the trace is filled.

    Yields
    ------
    Trace
        Filled while the prompt runs. Behind a withdrawal the model's outputs are those of the rows
        that are left, at the right end.

    Raises
    ------
    ParameterError
        If the model cannot run the plan; see :meth:`ima.token_reduction.plans.ReductionPlan.check`.
    ModelError
        If its attention is of a kind that the plan cannot change.
    """
    plan.check(model)
    run = _Run(model, batch, plan)
    with ExitStack() as hooks:
        if run.attends:
            hooks.enter_context(replace_attention(model, run, what=plan.name))
        for layer, block in enumerate(model.anatomy.blocks, start=1):
            run.attach(hooks, layer, block)
        yield run.trace


class _Run:
    """One batch on its way through the layers."""

    def __init__(self, model: FrozenModel, batch: Batch, plan: ReductionPlan) -> None:
        self.model, self.batch, self.plan = model, batch, plan
        self.layers = model.layers
        self.prompt = batch.attention_mask.shape[1]
        self.real = batch.attention_mask.bool()
        self.trace = PlanTrace()
        self.ranks = {s.behind for s in plan.withdrawals if s.ranked == "attention"}
        self.attends = bool(self.ranks) or any(s.skip != "ffn" for s in plan.skips)
        self.parallel = {at for s in plan.parallel for at in plans.resolve_layers(s, self.layers)}
        #: Rows of the prompt that are left, and where they lie, by layer; None before any left.
        self.packed: dict[int, PackedTokens | None] = {}
        self.present = self.real
        self.attended: dict[int, Tensor] = {}
        #: Blocks that lay sample and position in one dim before their FFN.
        self.flat: dict[int, bool] = {}
        self.prefill = True
        #: By sub-block and layer: which rows of the prompt bypass it, and whether decoded ones do.
        self._skips: dict[str, dict[int, tuple[Tensor, bool]]] = {"attention": {}, "ffn": {}}
        self._some: dict[tuple[int, int, int, torch.device], ActiveTokens] = {}
        for step in plan.skips:
            self._note(step)

    def _note(self, step: SkipStep) -> None:
        """Note which rows bypass what at the layers of a step: the same at all of them."""
        decoded = step.rows in {"generated", "all"} and step.share == 1
        rows = torch.zeros_like(self.real)
        if step.rows != "generated":
            rows = self._choose(step, self._rows(step.rows))
        if not decoded and not bool(rows.any()):
            return
        for what in ("attention", "ffn") if step.skip == "block" else (step.skip,):
            for layer in plans.resolve_layers(step, self.layers):
                before, later = self._skips[what].get(layer, (None, False))
                both = rows if before is None else before | rows
                self._skips[what][layer] = (both, later or decoded)

    def _rows(self, rows: str) -> Tensor:
        if rows == "perceptual":
            return self.batch.modality > 0
        if rows == "textual":
            return self.real & (self.batch.modality <= 0)
        return self.real

    def _choose(self, step: SkipStep | PruneStep, candidates: Tensor) -> Tensor:
        how: Any = step.choose
        share: Any = step.share
        chosen = plans.select_tokens(
            candidates.cpu().numpy(), self.batch.sample_ids, share=share, how=how, seed=step.seed
        )
        return torch.from_numpy(chosen).to(candidates.device)

    def attach(self, hooks: ExitStack, layer: int, block: nn.Module) -> None:
        """Put the hooks of one block in their places."""

        def before(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return self.enter(layer, args, kwargs)

        hooks.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
        norm = self.model.anatomy.tap("ln2", layer=layer).module
        if layer in self.parallel:
            hooks.callback(norm.register_forward_pre_hook(self._read_what_attention_reads).remove)
        if layer in self._skips["ffn"]:
            network = self.model.anatomy.tap("fc2", layer=layer).module

            # Rows are taken before the norm, so that it is not computed for the others either.
            def gather(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
                some = self.running("ffn", layer)
                self.flat[layer] = args[0].ndim == 2
                return None if some is None else (some.take(args[0]), *args[1:])

            def scatter(_: nn.Module, __: Any, output: Any) -> Any:
                some = self.running("ffn", layer)
                return None if some is None else some.put(output, flat=self.flat[layer])

            hooks.callback(norm.register_forward_pre_hook(gather).remove)
            hooks.callback(network.register_forward_hook(scatter).remove)
        if layer in self._skips["attention"]:
            self._attach_attention(hooks, layer, block)

    def _attach_attention(self, hooks: ExitStack, layer: int, block: nn.Module) -> None:
        attention = block.get_submodule(self.model.anatomy.attention)
        query, out = find_attention_projections(attention, self.model.name)

        def gather(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            some = self.running("attention", layer)
            return None if some is None else (some.take(args[0]), *args[1:])

        def scatter(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            some = self.running("attention", layer)
            return None if some is None else some.put(output)

        for module in (query, out):
            hooks.callback(module.register_forward_pre_hook(gather).remove)
            hooks.callback(module.register_forward_hook(scatter).remove)

    def enter(
        self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Prepare what a block is given: the rows that are left, their masks and positions."""
        states = args[0] if args else kwargs["hidden_states"]
        if layer == 1:
            self.prefill = states.shape[1] == self.prompt and not self.trace.present
            if self.prefill:
                self.packed, self.present, self._some = {}, self.real, {}
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
        steps = [step for step in self.plan.withdrawals if step.behind == layer - 1]
        if steps:
            kept = self.present.clone()
            for step in steps:
                kept &= ~self._leaving(step, states)
            if not torch.equal(kept, self.present):
                self.present = kept
                now = pack_tokens(repeat_for_beams(kept, states))
                own = now if before is None else _within(before, now)
                states = own.take(states)
                self.packed[layer] = now
        self.trace.present.append(self.present.clone())
        for what, held in self.trace.skipped.items():
            none = (torch.zeros_like(self.real), False)
            held.append(self._skips[what].get(layer, none)[0] & self.present)
        packed = self.packed[layer]
        return states, kwargs if packed is None else _cut(kwargs, packed, states, self.prompt)

    def _leaving(self, step: PruneStep, states: Tensor) -> Tensor:
        candidates = self._rows(step.withdraw) & self.present
        # The last row of the prompt tells the next word.
        ends = self.real & (self.real.flip(1).cumsum(1).flip(1) == 1)
        candidates &= ~ends
        if not step.ranked:
            return self._choose(step, candidates)
        return rank_tokens_to_prune(
            step, self._scores(step, states), candidates, self.batch.sample_ids
        )

    def _scores(self, step: PruneStep, states: Tensor) -> Tensor:
        if step.ranked == "attention":
            return self.attended[step.behind]
        if step.ranked == "change":
            return self._change(step.behind, states)
        if self.batch.summary is None:
            message = f"The batch says nothing of the summary that {self.plan.name!r} ranks by."
            raise ParameterError(message)
        return self.batch.summary

    def _change(self, layer: int, states: Tensor) -> Tensor:
        """Return how far the block before moved each row of the prompt, ``(sample, position)``."""
        moved: Tensor = torch.linalg.vector_norm((states - self.block_input).float(), dim=-1)
        packed = self.packed[layer]
        if packed is not None:
            moved = packed.put(moved, length=self.prompt)
        return moved[:: len(moved) // len(self.real)]

    def _enter_decoded(self, layer: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        packed = self.packed.get(layer)
        if packed is None:
            return kwargs
        cache = kwargs.get("past_key_values")
        if cache is None:
            message = f"{self.model.name!r} gives its blocks no cache by name: cannot decode."
            raise ModelError(message)
        keys = int(cache.get_seq_length(layer - 1)) + 1
        mask = packed.later_mask(kwargs.get("attention_mask"), prompt=self.prompt, keys=keys)
        return {**kwargs, "attention_mask": mask}

    def running(self, what: str, layer: int) -> ActiveTokens | None:
        """Return which rows run in a sub-block, as they lie there; None if all do."""
        if layer not in self._skips[what]:
            return None
        bypass, decoded = self._skips[what][layer]
        if not self.prefill:
            states = self.block_input
            return (
                ActiveTokens(torch.zeros(states.shape[:2], dtype=torch.bool)) if decoded else None
            )
        packed = self.packed[layer]
        # Layers that let the same rows pass share what was found out about them.
        device = self.block_input.device
        key = (id(bypass), id(packed), len(self.block_input), device)
        if key not in self._some:
            rows = repeat_for_beams(bypass, self.block_input)
            rows = rows if packed is None else packed.take(rows)
            self._some[key] = ActiveTokens(~rows.to(device))
        return self._some[key]

    def _read_what_attention_reads(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.block_input.reshape(args[0].shape), *args[1:])

    def watch(self, layer: int, query: Tensor, key: Tensor, *, scale: float) -> None:
        """Keep how much the last row of each sample attends to each row of the prompt."""
        if not self.prefill or layer not in self.ranks:
            return
        packed = self.packed[layer]
        where = repeat_for_beams(self.real, query) if packed is None else packed.real
        last = where.shape[1] - 1 - where.flip(1).int().argmax(dim=1)
        rows = torch.arange(len(query), device=query.device)
        own = query[rows, :, last].unsqueeze(2)
        groups = query.shape[1] // key.shape[1]
        scores = own @ key.repeat_interleave(groups, dim=1).transpose(2, 3) * scale
        allowed = where & (torch.arange(where.shape[1], device=where.device)[None] <= last[:, None])
        scores = scores.masked_fill(~allowed[:, None, None], -torch.inf)
        weights = scores.softmax(dim=-1).mean(dim=1)[:, 0]
        if packed is not None:
            weights = packed.put(weights, length=self.prompt)
        # Beams of one prompt attend alike before anything is decoded.
        self.attended[layer] = weights[:: len(weights) // len(self.real)].float()


def _within(before: PackedTokens, now: PackedTokens) -> PackedTokens:
    """Return the rows of ``now`` in the coordinates of ``before``."""
    length = int(before.places.max()) + 1
    back = torch.zeros(len(before.places), length, dtype=torch.int64, device=before.places.device)
    sample, new = before.real.nonzero(as_tuple=True)
    back[sample, before.places[sample, new]] = new
    return PackedTokens(torch.where(now.real, back.gather(1, now.places), 0), now.real)


def _cut(
    kwargs: dict[str, Any], packed: PackedTokens, states: Tensor, length: int
) -> dict[str, Any]:
    """Return a block's arguments for the rows that are left."""
    cut = dict(kwargs)
    if "attention_mask" in cut:
        cut["attention_mask"] = packed.mask(cut["attention_mask"], like=states)
    tables = cut.get("position_embeddings")
    if tables is not None:
        cut["position_embeddings"] = tuple(packed.positions(t, dim=-2) for t in tables)
    ids = cut.get("position_ids")
    if ids is not None and ids.shape[-1] == length:
        cut["position_ids"] = packed.positions(ids, dim=-1)
    return cut
