"""Pruning: run a frozen model with some weights left out, and find them block after block (F2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ima.cache import open_cache
from ima.capture.input_norms import InputNormAccumulator
from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures import subnetworks
from ima.pruning.masks import Masks

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models import Batch
    from ima.models.frozen import FrozenModel


@contextmanager
def apply_masks(model: FrozenModel, masks: Masks) -> Iterator[None]:
    """Run a model without the weights that masks leave out; afterwards it is what it was.

    Parameters
    ----------
    model : FrozenModel
        Its weights are set to zero where the masks are false, and put back on leaving, also after
        an error.
    masks : Masks
        Of this language model's linear layers, or some of them. Where they come with updated
        weights, the model runs with those.

    Raises
    ------
    ParameterError
        If the masks are of another model.
    """
    linears = [
        (_linear(block, name), mask[at], None if masks.values is None else masks.values[name][at])
        for name, mask in masks.kept.items()
        for at, block in enumerate(model.anatomy.blocks)
        if name in model.anatomy.linears
    ]
    foreign = sorted(set(masks.kept) - set(model.anatomy.linears))
    if foreign or any(linear.weight.shape != mask.shape for linear, mask, _ in linears):
        message = f"The masks are not of {model.name!r}: {foreign or 'other sizes'}."
        raise ParameterError(message)
    with ExitStack() as stack:
        for linear, mask, values in linears:
            stack.enter_context(_without(linear, mask, values))
        yield


@contextmanager
def _without(
    linear: nn.Linear, mask: subnetworks.Mask, values: npt.NDArray[np.float32] | None = None
) -> Iterator[None]:
    before = linear.weight.detach().clone()
    try:
        with torch.no_grad():
            if values is not None:
                linear.weight.copy_(torch.from_numpy(values))
            linear.weight.masked_fill_(~torch.from_numpy(mask).to(linear.weight.device), 0.0)
        yield
    finally:
        with torch.no_grad():
            linear.weight.copy_(before)


def compute_sequential_masks(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    sparsity: float,
    kinds: Sequence[str] = TOKEN_KINDS,
    batch_size: int = 16,
) -> Masks:
    """Return Wanda's masks block after block, each calibrated on what the pruned ones feed it.

    As the paper and Wanda's reference code do. Padding calibrates nothing.

    Parameters
    ----------
    model : FrozenModel
        Unchanged afterwards.
    samples : sequence of Sample
        The calibration set.
    sparsity : float
        Share of each row that is removed.
    kinds : sequence of str
        Whose tokens calibrate.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    Masks
        Of every linear layer of the blocks.
    """
    batches = model.batches(samples, batch_size=batch_size)
    about = {
        "method": "wanda",
        "sequential": True,
        "sparsity": sparsity,
        "kinds": list(kinds),
        "model": model.name,
        "weights_hash": model.weights_hash,
        "samples": len(samples),
    }
    return Masks(_block_by_block(model, batches, sparsity, kinds, sequential=True), about)


@contextmanager
def restore_weights(model: FrozenModel) -> Iterator[None]:
    """Put the weights of the blocks' linear layers back on leaving, also after an error."""
    linears = [
        _linear(block, name) for block in model.anatomy.blocks for name in model.anatomy.linears
    ]
    before = [linear.weight.detach().clone() for linear in linears]
    try:
        yield
    finally:
        with torch.no_grad():
            for linear, weight in zip(linears, before, strict=True):
                linear.weight.copy_(weight)


@torch.no_grad()
def iterate_blocks(
    model: FrozenModel, batches: Sequence[Batch]
) -> Iterator[tuple[int, nn.Module, Callable[[int], None]]]:
    """Go through the blocks; each is fed by what those before it have become meanwhile.

    Parameters
    ----------
    model : FrozenModel
        The model.
    batches : sequence of Batch
        What runs through it.

    Yields
    ------
    layer : int
        Of the block, from 1.
    block : torch.nn.Module
        The block, which may be changed before the next is asked for.
    run : callable
        Runs the block on the batch of a number, for hooks to see.
    """
    calls = [_calls(model, batch) for batch in batches]
    for at, block in enumerate(model.anatomy.blocks):

        def run(number: int, at: int = at, block: nn.Module = block) -> None:
            _run(block, calls[number], at)

        yield at + 1, block, run
        for call in calls:
            call.state = _run(block, call, at)


@torch.no_grad()
def _block_by_block(
    model: FrozenModel,
    batches: Sequence[Batch],
    sparsity: float,
    kinds: Sequence[str],
    *,
    sequential: bool,
) -> dict[str, subnetworks.Mask]:
    """Return masks by linear layer; a pruned block feeds the next only if sequential."""
    anatomy = model.anatomy
    kept: dict[str, list[subnetworks.Mask]] = {name: [] for name in anatomy.linears}
    with ExitStack() as stack:
        for layer, block, run in iterate_blocks(model, batches):
            squares = dict.fromkeys(anatomy.linears, 0.0)
            for number, batch in enumerate(batches):
                for name, found in _block_squares(model, batch, layer, partial(run, number), kinds):
                    squares[name] = squares[name] + found
            for name in anatomy.linears:
                linear = _linear(block, name)
                weight = linear.weight.float().cpu().numpy()
                mask = subnetworks.compute_wanda_mask(
                    weight, np.asarray(squares[name]), sparsity=sparsity
                )
                kept[name].append(mask)
                if sequential:
                    stack.enter_context(_without(linear, mask))
    return {name: np.stack(masks) for name, masks in kept.items()}


def open_calibration_samples(path: str | os.PathLike[str], *, n: int) -> list[Sample]:
    """Return the first samples that a cache was made from, at most all of them.

    Parameters
    ----------
    path : str or path
        A cache of samples that can be opened by name again.
    n : int
        How many.
    """
    tree = open_cache(path)
    name, seed = (tree.attrs["parameters"][key] for key in ("dataset", "seed"))
    return list(open_samples(name, n=min(n, tree["samples"].sizes["sample"]), seed=seed))


def compare_wanda_variants(
    model: FrozenModel, path: str | os.PathLike[str], *, sparsity: float, samples: int
) -> dict[str, float]:
    """Compare Wanda in one pass with Wanda block after block, on the calibration set of a cache.

    Parameters
    ----------
    model : FrozenModel
        What made the cache.
    path : str or path
        A cache with ``inputs``.
    sparsity : float
        Share of each row that is left out.
    samples : int
        Calibration samples of both forms: the first of the cache's, at most all of them.

    Returns
    -------
    dict of str to float
        Overlap of perceptual and textual tokens in either form, and of both forms for either kind.
    """
    batches = model.batches(open_calibration_samples(path, n=samples))
    once, after = (
        {
            kind: subnetworks.flatten_masks(
                _block_by_block(model, batches, sparsity, [kind], sequential=sequential)
            )
            for kind in TOKEN_KINDS
        }
        for sequential in (False, True)
    )
    return {
        "one pass": subnetworks.compute_iou(once["perceptual"], once["textual"]),
        "block after block": subnetworks.compute_iou(after["perceptual"], after["textual"]),
        "both forms, perceptual": subnetworks.compute_iou(once["perceptual"], after["perceptual"]),
        "both forms, textual": subnetworks.compute_iou(once["textual"], after["textual"]),
    }


class _Call:
    """How the model calls its blocks for one batch: the state, and what else each is given."""

    def __init__(self) -> None:
        self.state: Any = None
        self.others: list[tuple[tuple[Any, ...], dict[str, Any]]] = []


def _calls(model: FrozenModel, batch: Batch) -> _Call:
    call = _Call()
    with ExitStack() as hooks:
        for block in model.anatomy.blocks:

            def receive(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                given = dict(kwargs)
                state = args[0] if args else given.pop("hidden_states")
                if call.state is None:
                    call.state = state.clone()
                call.others.append((args[1:], given))

            hooks.callback(block.register_forward_pre_hook(receive, with_kwargs=True).remove)
        model.forward(batch)
    return call


def _run(block: nn.Module, call: _Call, at: int) -> Tensor:
    args, kwargs = call.others[at]
    found = block(call.state, *args, **kwargs)
    state: Tensor = found[0] if isinstance(found, tuple) else found
    return state


def _block_squares(
    model: FrozenModel,
    batch: Batch,
    layer: int,
    run: Callable[[], None],
    kinds: Sequence[str],
) -> list[tuple[str, Any]]:
    squares = InputNormAccumulator(model.anatomy, batch)
    with squares.watching():
        run()
    chosen = [TOKEN_KINDS.index(kind) for kind in kinds]
    return [
        (name, layers[layer - 1][chosen].sum(dim=0).double().cpu().numpy())
        for name, layers in squares.sums.items()
    ]


def _linear(block: nn.Module, name: str) -> nn.Linear:
    linear: Any = block.get_submodule(name)
    found: nn.Linear = linear
    return found
