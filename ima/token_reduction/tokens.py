"""Rows of a running batch: which are still in the stream, and how masks and positions follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PackedTokens:
    """Rows of each sample, moved to the right end of a shorter sequence, in their order.

    Parameters
    ----------
    places : Tensor
        ``(sample, new position)`` int64: the old position of each row; 0 where there is none.
    real : Tensor
        ``(sample, new position)`` bool: false at padding, which stands on the left.
    """

    places: Tensor
    real: Tensor

    @property
    def whole(self) -> bool:
        """Whether no sample needs padding."""
        return bool(self.real.all())

    def take(self, states: Tensor) -> Tensor:
        """Return rows of ``(sample, position, ...)``."""
        index = self.places.reshape(*self.places.shape, *[1] * (states.ndim - 2))
        return states.gather(1, index.expand(-1, -1, *states.shape[2:]))

    def put(self, rows: Tensor, *, length: int) -> Tensor:
        """Return ``(sample, position, ...)``: the rows at their old places, zeros elsewhere."""
        found = rows.new_zeros(rows.shape[0], length, *rows.shape[2:])
        sample, new = self.real.nonzero(as_tuple=True)
        found[sample, self.places[sample, new]] = rows[sample, new]
        return found

    def positions(self, values: Tensor, *, dim: int) -> Tensor:
        """Return positions along ``dim``, behind which at most one dim of values follows.

        Position ids are ``(…, sample or 1, position)``, rotary tables
        ``(…, sample or 1, position, feature)``.
        """
        behind = -1 - dim
        shape = list(values.shape)
        shape[dim - 1] = len(self.places)
        values = values.expand(shape)
        index = self.places.reshape(*[1] * (values.ndim - 2 - behind), *self.places.shape)
        index = index.reshape(*index.shape, *[1] * behind)
        target = list(values.shape)
        target[dim] = self.places.shape[1]
        return values.gather(dim, index.expand(target))

    def mask(self, given: Tensor | None, *, like: Tensor) -> Tensor | None:
        """Return the mask of attention among the rows.

        Parameters
        ----------
        given : Tensor or None
            ``(sample or 1, 1, position, position)``, of the longer sequence: bool, or numbers that
            are added; None is causal attention without padding.
        like : Tensor
            States of the model, for dtype and device.

        Returns
        -------
        Tensor or None
            None where attention among the rows is causal without padding.
        """
        if given is None and self.whole:
            return None
        count = self.places.shape[1]
        order = torch.arange(count, device=like.device)
        if given is None:
            allowed = (order[:, None] >= order[None])[None, None] & self.real[:, None, None]
            # A padded row attends to itself, else its softmax would be over nothing.
            return allowed | torch.eye(count, dtype=torch.bool, device=like.device)
        rows = self.rows_of(given)
        cut = self.columns_of(rows)
        eye = torch.eye(count, dtype=torch.bool, device=like.device)
        if given.dtype == torch.bool:
            return (cut & self.real[:, None, None]) | eye
        closed = ~self.real[:, None, None] & ~eye
        cut = cut.masked_fill(closed, torch.finfo(cut.dtype).min)
        return cut.masked_fill(eye & ~self.real[:, None, :, None], 0.0)

    def rows_of(self, mask: Tensor) -> Tensor:
        """Return the rows of a mask ``(sample or 1, head, position, key)``."""
        mask = mask.expand(len(self.places), *mask.shape[1:])
        index = self.places[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
        return mask.gather(2, index)

    def columns_of(self, mask: Tensor) -> Tensor:
        """Return the columns of a mask ``(sample or 1, head, query, position)``."""
        mask = mask.expand(len(self.places), *mask.shape[1:])
        index = self.places[:, None, None, :].expand(-1, mask.shape[1], mask.shape[2], -1)
        return mask.gather(3, index)

    def later_mask(self, given: Tensor | None, *, prompt: int, keys: int) -> Tensor | None:
        """Return the mask of one row that is decoded after the prompt.

        Parameters
        ----------
        given : Tensor or None
            ``(sample or 1, 1, 1, key)`` over the whole prompt and what was decoded; None allows
            all. Where rows left before the first layer the model makes it for fewer keys, and
            what it says of them is not looked at.
        prompt : int
            Rows of the whole prompt.
        keys : int
            Keys of the layer: the rows that are left, and what was decoded.
        """
        if given is None and self.whole:
            return None
        decoded = keys - self.places.shape[1]
        if given is None or given.shape[-1] < prompt + decoded:
            later = self.real.new_ones(len(self.real), decoded)
            allowed = torch.cat([self.real, later], dim=1)[:, None, None]
            if given is None or given.dtype == torch.bool:
                return allowed
            closed = torch.zeros_like(allowed, dtype=given.dtype)
            return closed.masked_fill(~allowed, torch.finfo(given.dtype).min)
        own = self.columns_of(given[..., :prompt])
        if given.dtype == torch.bool:
            own = own & self.real[:, None, None]
        else:
            own = own.masked_fill(~self.real[:, None, None], torch.finfo(own.dtype).min)
        later = given[..., prompt : prompt + decoded].expand(len(own), -1, -1, -1)
        return torch.cat([own, later], dim=-1)


@dataclass(frozen=True, eq=False)
class ActiveTokens:
    """The rows that run in a sub-block, handed to it one behind the other.

    Parameters
    ----------
    runs : Tensor
        ``(sample, position)`` bool.
    """

    runs: Tensor

    @cached_property
    def index(self) -> Tensor:
        """Their places among all rows of all samples, int64."""
        return self.runs.reshape(-1).nonzero()[:, 0]

    @cached_property
    def packed(self) -> PackedTokens:
        """The same at the right end of each sample."""
        return pack_tokens(self.runs)

    def take(self, states: Tensor) -> Tensor:
        """Return the rows of ``(…, feature)``, in as many dims as they came in."""
        index = self.index.to(states.device)
        chosen = states.reshape(-1, states.shape[-1]).index_select(0, index)
        return chosen if states.ndim == 2 else chosen.unsqueeze(0)

    def put(self, output: Any, *, flat: bool = False) -> Any:
        """Return the rows that ran at their places, and zeros at those of the others.

        Parameters
        ----------
        output : Tensor or tuple
            What the sub-block returned; of a tuple, the first is meant.
        flat : bool
            Whether sample and position stay in one dim.
        """
        rows = output[0] if isinstance(output, tuple) else output
        found = rows.new_zeros(self.runs.numel(), rows.shape[-1])
        index = self.index.to(rows.device)
        found = found.index_copy(0, index, rows.reshape(-1, rows.shape[-1]))
        if not flat:
            found = found.reshape(*self.runs.shape, -1)
        return (found, *output[1:]) if isinstance(output, tuple) else found


def pack_tokens(kept: Tensor) -> PackedTokens:
    """Return the kept rows of each sample at the right end of a sequence as long as the longest.

    Parameters
    ----------
    kept : Tensor
        ``(sample, position)`` bool; at least one row of a sample is kept.
    """
    counts = kept.sum(dim=1)
    longest = int(counts.max())
    # A stable sort puts kept rows last, in their order.
    order = torch.argsort(kept.to(torch.int8), dim=1, stable=True)
    places = order[:, kept.shape[1] - longest :]
    new = torch.arange(longest, device=kept.device)
    real = new[None] >= longest - counts[:, None]
    return PackedTokens(torch.where(real, places, 0), real)


def repeat_for_beams(values: Tensor, like: Any) -> Tensor:
    """Return rows for each beam of a sample, next to each other as generation lays them out."""
    return values.repeat_interleave(like.shape[0] // values.shape[0], dim=0)
