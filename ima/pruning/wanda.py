"""Wanda (arXiv:2306.11695): run a model with masked weights, compute masks block by block (F2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ima.cache.reader import open_cache
from ima.capture.input_norms import accumulate_input_norms
from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures import overlap, subnetworks
from ima.models.hook_points import get_weight
from ima.models.linear_layers import get_linear
from ima.pruning.masks import Masks
from ima.stats import FloatArray

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel


@contextmanager
def apply_masks(model: FrozenModel, masks: Masks) -> Iterator[None]:
    """Run a model without the weights that masks remove; restore it on exit, also after an error.

    Parameters
    ----------
    model : FrozenModel
        Its weights are set to zero where the masks are false. If the masks come with updated
        weights, the model runs with those.
    masks : Masks
        Masks of all or some linear layers of this language model.

    Raises
    ------
    ParameterError
        If the masks belong to another model.

    Examples
    --------
    >>> masks = compute_masks_from_cache(model, "caption.zarr", sparsity=0.5)  # doctest: +SKIP
    >>> with apply_masks(model, masks):  # doctest: +SKIP
    ...     model.generate(samples)
    """
    foreign = sorted(set(masks.kept) - set(model.hook_points.linear_in_features))
    layers = [
        (get_linear(block, name), kept[index], name, index)
        for name, kept in masks.kept.items()
        for index, block in enumerate(model.hook_points.blocks)
        if name not in foreign
    ]
    if foreign or any(get_weight(linear).shape != kept.shape for linear, kept, _, _ in layers):
        raise ParameterError(
            f"The masks do not belong to {model.name!r}: {foreign or 'other sizes'}."
        )
    updated = masks.updated_weights
    with restore_weights([linear for linear, *_ in layers]):
        for linear, kept, name, index in layers:
            _mask_layer(linear, kept, None if updated is None else updated[name][index])
        yield


@torch.no_grad()
def _mask_layer(
    linear: nn.Linear, kept: subnetworks.Mask, updated: npt.NDArray[np.float32] | None = None
) -> None:
    weight = get_weight(linear)
    if updated is not None:
        weight.copy_(torch.from_numpy(updated))
    weight.masked_fill_(~torch.from_numpy(kept).to(weight.device), 0.0)


@contextmanager
def restore_weights(linears: Sequence[nn.Linear]) -> Iterator[None]:
    """Restore the weights of linear layers on exit, also after an error.

    Examples
    --------
    >>> linear = nn.Linear(1, 1, bias=False)
    >>> with restore_weights([linear]):
    ...     _ = nn.init.constant_(linear.weight, 7.0)
    >>> linear.weight.item() == 7.0
    False
    """
    originals = [linear.weight.detach().clone() for linear in linears]
    try:
        yield
    finally:
        with torch.no_grad():
            for linear, weight in zip(linears, originals, strict=True):
                linear.weight.copy_(weight)


def compute_sequential_masks(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    sparsity: float,
    kinds: Sequence[str] = TOKEN_KINDS,
    batch_size: int = 16,
) -> Masks:
    """Compute Wanda's masks block by block, each calibrated on the output of the pruned blocks.

    The paper and Wanda's reference code do the same. Padding does not calibrate.

    Parameters
    ----------
    model : FrozenModel
        The model; unchanged afterwards.
    samples : sequence of Sample
        The calibration set.
    sparsity : float
        Fraction of each row that is removed.
    kinds : sequence of str
        Kinds of tokens that calibrate.
    batch_size : int
        Samples of a batch.

    Returns
    -------
    Masks
        Masks of every linear layer of the blocks.

    Examples
    --------
    >>> samples = open_calibration_samples("caption.zarr", n=32)  # doctest: +SKIP
    >>> compute_sequential_masks(model, samples, sparsity=0.5).sparsity  # doctest: +SKIP
    0.5
    """
    batches = model.encode_batches(samples, batch_size=batch_size)
    attributes = {
        "method": "wanda",
        "sequential": True,
        "sparsity": sparsity,
        "kinds": list(kinds),
        "model": model.name,
        "weights_hash": model.weights_hash,
        "samples": len(samples),
    }
    recorded = [_record_block_calls(model, batch) for batch in batches]
    kept = _mask_block_by_block(model, batches, recorded, sparsity=sparsity, kinds=kinds)
    return Masks(kept, attributes)


@torch.no_grad()
def iterate_blocks(
    model: FrozenModel, batches: Sequence[Batch]
) -> Iterator[tuple[int, nn.Module, Callable[[int], Tensor]]]:
    """Iterate over the blocks; each reads the output of the earlier blocks as they are by then.

    What the decoder itself adds between two blocks (DeepStack) is added here, too.

    Parameters
    ----------
    model : FrozenModel
        The model.
    batches : sequence of Batch
        The input of the first block.

    Yields
    ------
    layer : int
        Number of the block, from 1.
    block : torch.nn.Module
        The block. The caller may change it before asking for the next one.
    run : callable
        Runs the block on the batch with a given index, for hooks to observe.

    Examples
    --------
    >>> for layer, block, run in iterate_blocks(model, batches):  # doctest: +SKIP
    ...     for index in range(len(batches)):
    ...         run(index)
    """
    yield from _iterate_recorded(model, [_record_block_calls(model, batch) for batch in batches])


def _iterate_recorded(
    model: FrozenModel, recorded: Sequence[_BlockCalls]
) -> Iterator[tuple[int, nn.Module, Callable[[int], Tensor]]]:
    states = [calls.state for calls in recorded]
    for index, block in enumerate(model.hook_points.blocks):

        def run(batch: int, index: int = index, block: nn.Module = block) -> Tensor:
            args, kwargs = recorded[batch].arguments[index]
            output = block(states[batch], *args, **kwargs)
            state: Tensor = output[0] if isinstance(output, tuple) else output
            return state

        yield index + 1, block, run
        for batch in range(len(recorded)):
            states[batch] = run(batch)
            added = recorded[batch].added[index]
            if added is not None:
                states[batch] = states[batch] + added


@torch.no_grad()
def _mask_block_by_block(
    model: FrozenModel,
    batches: Sequence[Batch],
    recorded: Sequence[_BlockCalls],
    *,
    sparsity: float,
    kinds: Sequence[str],
) -> dict[str, subnetworks.Mask]:
    """Return masks by linear layer; a pruned block feeds the next one."""
    rows = [TOKEN_KINDS.index(kind) for kind in kinds]
    masks: dict[str, list[subnetworks.Mask]] = {
        name: [] for name in model.hook_points.linear_in_features
    }
    with ExitStack() as stack:
        for layer, block, run in _iterate_recorded(model, recorded):
            norms: dict[str, Any] = dict.fromkeys(masks, 0.0)
            for index, batch in enumerate(batches):
                with accumulate_input_norms(model.hook_points, batch) as sums:
                    run(index)
                for name, layers in sums.items():
                    norms[name] += layers[layer - 1][rows].sum(dim=0).double().cpu().numpy()
            for name, layer_masks in masks.items():
                linear = get_linear(block, name)
                mask = _compute_mask(linear, norms[name], sparsity=sparsity)
                layer_masks.append(mask)
                stack.enter_context(restore_weights([linear]))
                _mask_layer(linear, mask)
    return {name: np.stack(layers) for name, layers in masks.items()}


def _compute_mask(linear: nn.Linear, squares: FloatArray, *, sparsity: float) -> subnetworks.Mask:
    weight = get_weight(linear).float().cpu().numpy()
    return subnetworks.compute_wanda_mask(weight, squares, sparsity=sparsity)


@dataclass(frozen=True)
class _BlockCalls:
    """What the blocks of a model received in one run of a batch.

    Parameters
    ----------
    state : Tensor
        Input of the first block.
    arguments : sequence of (tuple, dict)
        By block, its other arguments.
    added : sequence of Tensor or None
        By block, what the decoder adds after it.
    """

    state: Tensor
    arguments: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]
    added: Sequence[Tensor | None]


def open_calibration_samples(path: str | os.PathLike[str], *, n: int) -> list[Sample]:
    """Open the first samples that a cache was made from, at most all of them.

    Parameters
    ----------
    path : str or path
        A cache of a data set that can be opened again by its name.
    n : int
        Number of samples.

    Examples
    --------
    >>> len(open_calibration_samples("caption.zarr", n=32))  # doctest: +SKIP
    32
    """
    tree = open_cache(path)
    name, seed = (tree.attrs["parameters"][key] for key in ("dataset", "seed"))
    return list(open_samples(name, n=min(n, tree["samples"].sizes["sample"]), seed=seed))


def compare_wanda_variants(
    model: FrozenModel, path: str | os.PathLike[str], *, sparsity: float, samples: int
) -> dict[str, float]:
    """Compare Wanda in one pass with Wanda block by block, on the calibration set of a cache.

    Parameters
    ----------
    model : FrozenModel
        The model that made the cache.
    path : str or path
        A cache with ``/input_norms``.
    sparsity : float
        Fraction of each row that is removed.
    samples : int
        Calibration samples of both variants: the first of the cache, at most all of them.

    Returns
    -------
    dict of str to float
        Overlap (IoU) of perceptual and textual tokens within each variant, and of both variants for
        each kind of token.

    Examples
    --------
    >>> overlaps = compare_wanda_variants(  # doctest: +SKIP
    ...     model, "caption.zarr", sparsity=0.5, samples=32
    ... )
    >>> round(overlaps["one pass"], 2)  # doctest: +SKIP
    0.77
    """
    batches = model.encode_batches(open_calibration_samples(path, n=samples))
    # One run of the whole model serves all masks: its norms give those of one pass, and its blocks
    # run again from what they received.
    recorded = []
    totals: dict[str, Any] = dict.fromkeys(model.hook_points.linear_in_features, 0.0)
    for batch in batches:
        with accumulate_input_norms(model.hook_points, batch) as sums:
            recorded.append(_record_block_calls(model, batch))
        for name, layers in sums.items():
            totals[name] = totals[name] + torch.stack(layers).double().cpu().numpy()
    one_pass, by_block = {}, {}
    for row, kind in enumerate(TOKEN_KINDS):
        one_pass[kind] = np.concatenate(
            [
                _compute_mask(
                    get_linear(block, name), squares[index, row], sparsity=sparsity
                ).ravel()
                for name, squares in totals.items()
                for index, block in enumerate(model.hook_points.blocks)
            ]
        )
        masks = _mask_block_by_block(model, batches, recorded, sparsity=sparsity, kinds=[kind])
        by_block[kind] = subnetworks.flatten_masks(masks)
    return {
        "one pass": overlap.compute_iou(one_pass["perceptual"], one_pass["textual"]),
        "block after block": overlap.compute_iou(by_block["perceptual"], by_block["textual"]),
        **{
            f"both forms, {kind}": overlap.compute_iou(one_pass[kind], by_block[kind])
            for kind in ("perceptual", "textual")
        },
    }


def _record_block_calls(model: FrozenModel, batch: Batch) -> _BlockCalls:
    """Run the model, and record what its blocks receive."""
    states: list[Tensor] = []
    arguments = []
    added: list[Tensor | None] = [None] * model.layers
    with ExitStack() as hooks:
        if model.hook_points.adds_between_blocks:
            _record_additions(hooks, model, added)
        for block in model.hook_points.blocks:

            def receive(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                others = dict(kwargs)
                state = args[0] if args else others.pop("hidden_states")
                if not states:
                    states.append(state.clone())
                arguments.append((args[1:], others))

            hooks.callback(block.register_forward_pre_hook(receive, with_kwargs=True).remove)
        model.forward(batch)
    return _BlockCalls(states[0], arguments, added)


def _record_additions(hooks: ExitStack, model: FrozenModel, added: list[Tensor | None]) -> None:
    """Record, for each block, the next one's input minus its output where they differ."""
    outputs: dict[int, Tensor] = {}
    for index, block in enumerate(model.hook_points.blocks):

        def leave(_: nn.Module, __: Any, output: Any, index: int = index) -> None:
            outputs[index] = (output[0] if isinstance(output, tuple) else output).clone()

        def enter(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], index: int = index
        ) -> None:
            if index > 0:
                difference = (args[0] if args else kwargs["hidden_states"]) - outputs.pop(index - 1)
                added[index - 1] = difference if bool(difference.any()) else None

        hooks.callback(block.register_forward_hook(leave).remove)
        hooks.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
