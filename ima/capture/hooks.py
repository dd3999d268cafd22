"""Taps of a running model: call-backs with activations, and whole activations of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ima.hook_points import HOOK_POINTS

if TYPE_CHECKING:
    from ima.models import Batch
    from ima.models.frozen import FrozenModel
    from ima.models.hook_points import HookPoints


@contextmanager
def attach_hooks(
    anatomy: HookPoints,
    *,
    taps: Sequence[str],
    samples: int,
    receive: Callable[[str, int, Tensor], None],
) -> Iterator[None]:
    """Call back with each tap of each layer while a model runs, and with nothing afterwards.

    Parameters
    ----------
    anatomy : Anatomy
        Where the taps are.
    taps : sequence of str
        Which taps.
    samples : int
        Samples in the batch.
    receive : callable
        Receives tap, layer and the activations, dims (sample, position, hidden): a view that
        the model may overwrite.
    """
    with ExitStack() as hooks:
        for tap in taps:
            for layer in anatomy.layers_of(tap):

                def callback(state: Tensor, tap: str = tap, layer: int = layer) -> None:
                    receive(tap, layer, state)

                handle = anatomy.tap(tap, layer=layer).attach(callback, samples=samples)
                hooks.callback(handle.remove)
        yield


def capture_activations(
    model: FrozenModel, batch: Batch, *, taps: Sequence[str] = HOOK_POINTS
) -> dict[str, dict[int, Tensor]]:
    """Return the activations of a batch.

    Parameters
    ----------
    model : FrozenModel
        The model; its language-model head does not run.
    batch : Batch
        What :meth:`ima.models.frozen.FrozenModel.encode` returned.
    taps : sequence of str
        Which taps.

    Returns
    -------
    dict of str to dict of int to Tensor
        Copies per tap and layer, dims (sample, position, hidden), on the model's device, padding
        included. Layer 0 exists for ``resid_post`` only: the input of the first block.

    Raises
    ------
    UnknownNameError
        If there is no such tap.
    ParameterError
        If this model does not have the tap.
    """
    states: dict[str, dict[int, Tensor]] = {tap: {} for tap in taps}

    def keep(tap: str, layer: int, state: Tensor) -> None:
        # A view would keep the whole activation alive, and the model may write to it.
        states[tap][layer] = state.clone()

    with (
        torch.no_grad(),
        attach_hooks(model.anatomy, taps=taps, samples=len(batch.sample_ids), receive=keep),
    ):
        model.forward(batch, logits=False)
    return states
