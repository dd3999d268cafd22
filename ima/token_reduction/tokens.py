"""Tokens of a running batch that remain in the residual stream, with masks and positions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PackedTokens:
    """Tokens of each sample, moved in their order to the right end of a shorter sequence.

    Parameters
    ----------
    places : Tensor
        ``(sample, new position)`` int64: the old position of each token; 0 at padding.
    real : Tensor
        ``(sample, new position)`` bool: false at padding, which is on the left.
    """

    places: Tensor
    real: Tensor

    @property
    def whole(self) -> bool:
        """Whether no sample needs padding."""
        return bool(self.real.all())

    def take(self, values: Tensor) -> Tensor:
        """Return the tokens of ``(sample, position, ...)``."""
        index = self.places.reshape(*self.places.shape, *[1] * (values.ndim - 2))
        return torch.take_along_dim(values, index, dim=1)

    def put(self, tokens: Tensor, *, length: int) -> Tensor:
        """Return ``(sample, position, ...)``: tokens at old positions, zeros elsewhere."""
        values = tokens.new_zeros(tokens.shape[0], length, *tokens.shape[2:])
        sample, new = self.real.nonzero(as_tuple=True)
        values[sample, self.places[sample, new]] = tokens[sample, new]
        return values

    def take_positions(self, values: Tensor, *, dim: int) -> Tensor:
        """Return the tokens' position ids or rotary tables.

        Position ids are ``(…, sample or 1, position)`` with ``dim`` -1, rotary tables
        ``(…, sample or 1, position, feature)`` with ``dim`` -2.
        """
        features = -1 - dim
        before, after = [1] * (values.ndim - 2 - features), [1] * features
        index = self.places.reshape(*before, *self.places.shape, *after)
        return torch.take_along_dim(values, index, dim=dim)

    def prompt_mask(self, mask: Tensor | None, *, like: Tensor) -> Tensor | None:
        """Return the attention mask among the tokens.

        Parameters
        ----------
        mask : Tensor or None
            ``(sample or 1, 1, position, position)`` of the longer sequence: bool, or numbers that
            are added; None is causal attention without padding.
        like : Tensor
            States of the model, for the device.

        Returns
        -------
        Tensor or None
            None where attention among the tokens is causal without padding.
        """
        if mask is None and self.whole:
            return None
        count = self.places.shape[1]
        order = torch.arange(count, device=like.device)
        # A padded token attends to itself, else its softmax would be over nothing.
        eye = torch.eye(count, dtype=torch.bool, device=like.device)
        if mask is None:
            return ((order[:, None] >= order[None])[None, None] & self.real[:, None, None]) | eye
        cut = self.take_mask_keys(self.take_mask_queries(mask))
        if mask.dtype == torch.bool:
            return (cut & self.real[:, None, None]) | eye
        closed = ~self.real[:, None, None] & ~eye
        cut = cut.masked_fill(closed, torch.finfo(cut.dtype).min)
        return cut.masked_fill(eye & ~self.real[:, None, :, None], 0.0)

    def take_mask_queries(self, mask: Tensor) -> Tensor:
        """Return the tokens' queries of a mask ``(sample or 1, head, position, key)``."""
        return torch.take_along_dim(mask, self.places[:, None, :, None], dim=2)

    def take_mask_keys(self, mask: Tensor) -> Tensor:
        """Return the tokens' keys of a mask ``(sample or 1, head, query, position)``."""
        return torch.take_along_dim(mask, self.places[:, None, None], dim=3)

    def decoding_mask(
        self,
        mask: Tensor | None,
        *,
        prompt_length: int,
        keys: int,
        cached: int,
        window: int | None,
    ) -> Tensor | None:
        """Return the mask of one token that is decoded after the prompt.

        Parameters
        ----------
        mask : Tensor or None
            The mask that the model made for the whole prompt, for its kind only: bool, or numbers
            that are added; None allows all.
        prompt_length : int
            Tokens of the whole prompt.
        keys : int
            Keys that the layer has seen: the tokens that remain, and the decoded ones.
        cached : int
            How many of these, from the end, the layer's cache still holds.
        window : int or None
            Positions to which a token attends, its own among them; None for all before it.

        Returns
        -------
        Tensor or None
            ``(sample, 1, 1, key)``; None where all keys are attended to.
        """
        decoded = keys - self.places.shape[1]
        later = prompt_length + torch.arange(decoded, device=self.places.device)
        places = torch.cat([self.places, later.expand(len(self.places), -1)], dim=1)
        allowed = torch.cat([self.real, self.real.new_ones(len(self.real), decoded)], dim=1)
        if window is not None:
            # Positions count, and not how many tokens are left between them.
            allowed = allowed & (places[:, -1:] - places < window)
        allowed = allowed[:, keys - cached :]
        if mask is None and bool(allowed.all()):
            return None
        allowed = allowed[:, None, None]
        if mask is None or mask.dtype == torch.bool:
            return allowed
        closed = torch.zeros_like(allowed, dtype=mask.dtype)
        return closed.masked_fill(~allowed, torch.finfo(mask.dtype).min)


@dataclass(frozen=True, eq=False)
class ActiveTokens:
    """The tokens that run in a sub-block, concatenated over samples.

    Parameters
    ----------
    active : Tensor
        ``(sample, position)`` bool.
    """

    active: Tensor

    @cached_property
    def index(self) -> Tensor:
        """Their places among all tokens of all samples, int64."""
        return self.active.reshape(-1).nonzero()[:, 0]

    @cached_property
    def packed(self) -> PackedTokens:
        """The same tokens at the right end of each sample."""
        return pack_tokens(self.active)

    def take(self, states: Tensor) -> Tensor:
        """Return the active tokens of ``(…, feature)``, with the same number of dims."""
        index = self.index.to(states.device)
        tokens = states.reshape(-1, states.shape[-1]).index_select(0, index)
        return tokens if states.ndim == 2 else tokens.unsqueeze(0)

    def put(self, output: Any, *, flat: bool = False) -> Any:
        """Return the active tokens at their places, and zeros at the others.

        Parameters
        ----------
        output : Tensor or tuple
            Output of the sub-block; the first element of a tuple.
        flat : bool
            Whether sample and position stay in one dim.
        """
        tokens = output[0] if isinstance(output, tuple) else output
        states = tokens.new_zeros(self.active.numel(), tokens.shape[-1])
        index = self.index.to(tokens.device)
        states = states.index_copy(0, index, tokens.reshape(-1, tokens.shape[-1]))
        if not flat:
            states = states.reshape(*self.active.shape, -1)
        return (states, *output[1:]) if isinstance(output, tuple) else states


def pack_tokens(kept: Tensor) -> PackedTokens:
    """Pack the kept tokens of each sample at the right end of the shortest sequence for all.

    Parameters
    ----------
    kept : Tensor
        ``(sample, position)`` bool; at least one token is kept.

    Examples
    --------
    >>> kept = torch.tensor([[True, False, True], [False, True, False]])
    >>> packed = pack_tokens(kept)
    >>> packed.places.tolist(), packed.real.tolist()
    ([[0, 2], [0, 1]], [[True, True], [False, True]])
    """
    counts = kept.sum(dim=1)
    longest = int(counts.max())
    # A stable sort puts kept tokens last, in their order.
    order = torch.argsort(kept.to(torch.int8), dim=1, stable=True)
    places = order[:, kept.shape[1] - longest :]
    new = torch.arange(longest, device=kept.device)
    real = new[None] >= longest - counts[:, None]
    return PackedTokens(torch.where(real, places, 0), real)


def repeat_for_beams(values: Tensor, like: Tensor) -> Tensor:
    """Repeat each sample for its beams, adjacent as generation lays them out.

    Examples
    --------
    >>> repeat_for_beams(torch.tensor([1, 2]), torch.zeros(4, 3)).tolist()
    [1, 1, 2, 2]
    """
    return values.repeat_interleave(like.shape[0] // values.shape[0], dim=0)
