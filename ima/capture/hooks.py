"""Hook points of a running model: call-backs with activations, and whole activations of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ima.hook_points import HOOK_POINTS

if TYPE_CHECKING:
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel
    from ima.models.hook_points import HookPoints


@contextmanager
def attach_hooks(
    hook_points: HookPoints,
    *,
    names: Sequence[str],
    samples: int,
    callback: Callable[[str, int, Tensor], None],
) -> Iterator[None]:
    """Call back with each hook point of each layer while a model runs, and with nothing afterwards.

    Parameters
    ----------
    hook_points : HookPoints
        Where the hook points are.
    names : sequence of str
        Which hook points.
    samples : int
        Samples in the batch.
    callback : callable
        Receives hook point, layer and the activations, dims (sample, position, hidden): a view that
        the model may overwrite.
    """
    with ExitStack() as hooks:
        for name in names:
            for layer in hook_points.layers_of(name):

                def receive(state: Tensor, name: str = name, layer: int = layer) -> None:
                    callback(name, layer, state)

                handle = hook_points.get_hook_point(name, layer=layer).attach(
                    receive, samples=samples
                )
                hooks.callback(handle.remove)
        yield


def capture_activations(
    model: FrozenModel, batch: Batch, *, hook_points: Sequence[str] = HOOK_POINTS
) -> dict[str, dict[int, Tensor]]:
    """Return the activations of a batch.

    Parameters
    ----------
    model : FrozenModel
        The model; its language-model head does not run.
    batch : Batch
        What :meth:`ima.models.frozen.FrozenModel.encode` returned.
    hook_points : sequence of str
        Which hook points.

    Returns
    -------
    dict of str to dict of int to Tensor
        Copies per hook point and layer, dims (sample, position, hidden), on the model's device, padding
        included. Layer 0 exists for ``resid_post`` only: the input of the first block.

    Raises
    ------
    UnknownNameError
        If there is no such hook point.
    ParameterError
        If this model does not have the hook point.
    """
    states: dict[str, dict[int, Tensor]] = {name: {} for name in hook_points}

    def keep(name: str, layer: int, state: Tensor) -> None:
        # A view would keep the whole activation alive, and the model may write to it.
        states[name][layer] = state.clone()

    with (
        torch.no_grad(),
        attach_hooks(
            model.hook_points, names=hook_points, samples=len(batch.sample_ids), callback=keep
        ),
    ):
        model.forward(batch, logits=False)
    return states
