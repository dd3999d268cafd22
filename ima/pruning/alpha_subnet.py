"""The α-SubNet (I4): the weights that Wanda keeps for every task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ima.errors import ParameterError, UnknownNameError
from ima.measures import subnetworks
from ima.models.linear_layers import get_block_weights, get_linear_weights
from ima.pruning.masks import (
    LazyMasks,
    Masks,
    check_sparsity,
    compute_masks_from_cache,
    intersect_layer_masks,
    read_cache_input_norms,
)
from ima.stats import FloatArray

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

_Path = str | os.PathLike[str]
_Ranks = npt.NDArray[np.int32]
#: Name of the α-SubNet in tables of scores.
ALPHA_SUBNET = "α-SubNet"
#: Fraction of the weights that each task's mask removes, where nothing else is asked.
DEFAULT_SPARSITY = 0.5
#: Methods of :func:`build_lazy_masks`.
MASK_METHODS = ("alpha", "wanda", "magnitude")


def build_alpha_subnet(masks: Sequence[Masks]) -> Masks:
    """Intersect the masks of several tasks: the α-SubNet keeps what every task keeps (§4).

    Parameters
    ----------
    masks : sequence of Masks
        Masks of two or more tasks, all of the same language model.

    Returns
    -------
    Masks
        At least as sparse as each of the masks; see :class:`ima.pruning.masks.Masks`.

    Raises
    ------
    ParameterError
        If there are fewer than two masks, or they belong to different models.

    Examples
    --------
    >>> masks = [Masks({"fc1": np.array([[row]])}) for row in ([True, True], [True, False])]
    >>> build_alpha_subnet(masks).sparsity
    0.5
    """
    _require_two_tasks(masks)
    shapes = [{name: kept.shape for name, kept in each.kept.items()} for each in masks]
    if any(shape != shapes[0] for shape in shapes):
        raise ParameterError(
            "The masks belong to different language models: their layers or sizes differ."
        )
    attributes = {"method": "alpha", "of": [dict(each.attributes) for each in masks]}
    return Masks(intersect_layer_masks(masks), attributes)


def build_alpha_at_sparsity(
    model: FrozenModel, caches: Sequence[_Path], *, sparsity: float, votes: int = 1
) -> Masks:
    """Build the α-SubNet with a given sparsity, or a mask that needs more votes to drop a weight.

    A task votes to remove a weight if its Wanda mask removes it. All tasks' masks remove the same
    fraction of each row, the largest for which the result is at most as sparse as requested.

    Parameters
    ----------
    model : FrozenModel
        Any of the models that made the caches; they share one language model.
    caches : sequence of path
        For each task, a cache of calibration samples with ``/input_norms``.
    sparsity : float
        Fraction of all weights that the result removes at most.
    votes : int
        Votes that remove a weight. One vote gives the α-SubNet; as many votes as tasks give the
        union of the tasks' masks.

    Returns
    -------
    Masks
        Its attribute ``sparsity`` is the fraction of each row that every task's mask removes.

    Raises
    ------
    ParameterError
        If the sparsity is outside (0, 1), there are fewer caches than votes, or the caches belong
        to another model.

    Examples
    --------
    >>> model = load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
    >>> alpha = build_alpha_at_sparsity(  # doctest: +SKIP
    ...     model, ["caption.zarr", "qa.zarr"], sparsity=0.6
    ... )
    >>> alpha.sparsity  # doctest: +SKIP
    0.598
    """
    check_sparsity(sparsity)
    if not 1 <= votes <= len(caches):
        raise ParameterError(
            f"votes must be from 1 to the number of caches, {len(caches)}; got {votes}."
        )
    ranks = _compute_vote_ranks(model, caches, votes=votes)
    widest = max(layer_ranks.shape[-1] for layer_ranks in ranks.values())
    low, high = 0, widest
    # The sparsity of the result never falls as the tasks' masks remove more.
    while high - low > 1:
        middle = (low + high) // 2
        dropped = _drop_low_ranks(ranks, middle, of=widest)
        reached = 1 - subnetworks.flatten_masks(dropped).mean()
        low, high = (middle, high) if reached <= sparsity else (low, middle)
    attributes = {
        "method": "alpha" if votes == 1 else "votes",
        "votes": votes,
        "tasks": len(caches),
        "sparsity": low / widest,
        "weights_hash": model.weights_hash,
    }
    return Masks(_drop_low_ranks(ranks, low, of=widest), attributes)


def _compute_vote_ranks(
    model: FrozenModel, caches: Sequence[_Path], *, votes: int
) -> dict[str, _Ranks]:
    """Rank each weight in its row by Wanda's score for each task; return the votes-th lowest rank.

    At least ``votes`` tasks remove a weight exactly if its votes-th lowest rank is removed.
    """
    lowest: dict[str, list[_Ranks]] = {}
    weights = get_linear_weights(model)
    for path in caches:
        for name, norms in read_cache_input_norms(model, path).items():
            order = np.argsort(
                np.abs(weights[name]) * np.sqrt(norms)[..., None, :], axis=-1, kind="stable"
            )
            ranks = np.empty(order.shape, dtype=np.int32)
            np.put_along_axis(ranks, order, np.arange(order.shape[-1], dtype=np.int32), axis=-1)
            ascending = lowest.setdefault(name, [])
            for index, lower in enumerate(ascending):
                ascending[index], ranks = np.minimum(lower, ranks), np.maximum(lower, ranks)
            if len(ascending) < votes:
                ascending.append(ranks)
    return {name: ascending[votes - 1] for name, ascending in lowest.items()}


def _drop_low_ranks(
    ranks: Mapping[str, _Ranks], removed: int, *, of: int
) -> dict[str, subnetworks.Mask]:
    """Remove from each row the fraction ``removed / of``, in whole numbers: no rounding error."""
    return {name: ranked >= ranked.shape[-1] * removed // of for name, ranked in ranks.items()}


def compute_layer_sparsity(masks: Masks) -> pd.DataFrame:
    """Compute the fraction of weights removed from each linear layer of each block.

    Returns
    -------
    pandas.DataFrame
        Blocks in rows (``layer``, from 1), linear layers in columns.

    Examples
    --------
    >>> masks = Masks({"fc1": np.array([[[True, False]], [[True, True]]])})
    >>> compute_layer_sparsity(masks)["fc1"].to_dict()
    {1: 0.5, 2: 0.0}
    """
    removed = {name: 1 - kept.mean(axis=(1, 2)) for name, kept in masks.kept.items()}
    layers = len(next(iter(removed.values())))
    return pd.DataFrame(removed, index=pd.Index(range(1, layers + 1), name="layer"))


def build_modality_subnets(
    model: FrozenModel,
    caches: Mapping[str, _Path],
    *,
    modalities: Mapping[str, str],
    sparsity: float,
) -> dict[str, Masks]:
    """Build the α-SubNets of the tasks of each modality, of textual tokens, and of all tasks.

    Parameters
    ----------
    model : FrozenModel
        The tasks' language model.
    caches : mapping of str to path
        By task, a cache of calibration samples with ``/input_norms``; two or more.
    modalities : mapping of str to str
        The modality of each task.
    sparsity : float
        Fraction of each row that every task's mask removes.

    Returns
    -------
    dict of str to Masks
        By modality (only those with two tasks or more), ``text`` (masks calibrated on textual
        tokens only) and ``all``.

    Examples
    --------
    >>> subnets = build_modality_subnets(  # doctest: +SKIP
    ...     load_model("llama-mini/vit/image-caption"),
    ...     {"caption": "caption.zarr", "qa": "qa.zarr"},
    ...     modalities={"caption": "image", "qa": "image"},
    ...     sparsity=0.5,
    ... )
    >>> list(subnets)  # doctest: +SKIP
    ['image', 'text', 'all']
    """
    by_task = {
        task: compute_masks_from_cache(model, path, sparsity=sparsity)
        for task, path in caches.items()
    }
    textual = [
        compute_masks_from_cache(model, path, sparsity=sparsity, kinds=["textual"])
        for path in caches.values()
    ]
    groups = {
        modality: [by_task[task] for task in caches if modalities[task] == modality]
        for modality in dict.fromkeys(modalities[task] for task in caches)
    }
    groups = {modality: masks for modality, masks in groups.items() if len(masks) > 1}
    groups |= {"text": textual, "all": list(by_task.values())}
    return {name: build_alpha_subnet(masks) for name, masks in groups.items()}


def build_lazy_masks(
    model: FrozenModel,
    caches: Sequence[_Path],
    *,
    method: str | None = None,
    sparsity: float | None = None,
    pattern: str = "",
) -> LazyMasks:
    """Build masks that are computed one block at a time, so that large models fit into memory.

    Parameters
    ----------
    model : FrozenModel
        The model whose weights are masked.
    caches : sequence of path
        Caches of calibration samples with ``/input_norms``.
    method : str or None
        One of :data:`MASK_METHODS`: the α-SubNet of the caches' Wanda masks, Wanda on all caches
        together, or the largest weights. None: ``alpha``; with a pattern ``wanda``.
    sparsity : float or None
        Fraction of each row that a mask removes. None: half; with a pattern, what it removes.
    pattern : str
        If given, Wanda on all caches keeps N of every M neighbouring weights instead: ``"2:4"``
        keeps two of four, as sparse tensor cores require.

    Raises
    ------
    ParameterError
        If the sparsity is outside (0, 1), the pattern is invalid or comes with a sparsity or
        another method than Wanda, the caches belong to another model, or ``alpha`` gets fewer than
        two caches.
    UnknownNameError
        If the method is unknown.

    Examples
    --------
    >>> model = load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
    >>> masks = build_lazy_masks(model, ["caption.zarr"], pattern="2:4")  # doctest: +SKIP
    >>> masks.get_block_masks(1)["mlp.up_proj"].mean()  # doctest: +SKIP
    0.5
    """
    if method not in {None, *MASK_METHODS}:
        raise UnknownNameError.among("method", method, MASK_METHODS)
    group: tuple[int, int] | None = None
    if pattern:
        group = parse_pattern(pattern)
        if method not in {None, "wanda"}:
            raise ParameterError(f"Wanda chooses {pattern}; leave out the method {method!r}.")
        if sparsity is not None:
            raise ParameterError(
                f"The pattern {pattern} sets the sparsity; leave out sparsity = {sparsity}."
            )
        removed, label = 1 - group[0] / group[1], f"wanda, {pattern}"
    else:
        removed = DEFAULT_SPARSITY if sparsity is None else sparsity
        method = label = method or "alpha"
        check_sparsity(removed)
        if method == "alpha":
            _require_two_tasks(caches)
    attributes = {
        "method": label,
        "sparsity": removed,
        "weights_hash": model.weights_hash,
        "caches": [os.fspath(path) for path in caches],
    }
    norms_by_cache = [read_cache_input_norms(model, path) for path in caches]

    def compute_mask(weight: npt.NDArray[Any], norms: Sequence[FloatArray]) -> subnetworks.Mask:
        """Return the mask of one linear layer from the squared input norms of each cache."""
        if group is not None:
            scores = np.abs(weight) * np.sqrt(np.sum(norms, axis=0))[None]
            return subnetworks.compute_nm_sparsity_mask(scores, kept=group[0], group=group[1])
        if method == "alpha":
            return subnetworks.intersect_masks(
                [subnetworks.compute_wanda_mask(weight, each, sparsity=removed) for each in norms]
            )
        if method == "wanda":
            return subnetworks.compute_wanda_mask(weight, np.sum(norms, axis=0), sparsity=removed)
        return subnetworks.compute_magnitude_mask(weight, sparsity=removed)

    def compute_block(layer: int) -> dict[str, subnetworks.Mask]:
        weights = get_block_weights(model, layer)
        # pop releases a layer's float32 copy as soon as its mask is computed.
        return {
            name: compute_mask(
                weights.pop(name), [norms[name][layer - 1] for norms in norms_by_cache]
            )
            for name in list(weights)
        }

    return LazyMasks(tuple(model.hook_points.linear_in_features), compute_block, attributes)


def parse_pattern(pattern: str) -> tuple[int, int]:
    """Parse an N:M sparsity pattern, which keeps N of every M neighbouring weights.

    Raises
    ------
    ParameterError
        If the pattern is not of the form N:M with 0 < N < M.

    Examples
    --------
    >>> parse_pattern("2:4")
    (2, 4)
    """
    kept, _, group = pattern.partition(":")
    if not (kept.isdecimal() and group.isdecimal() and 0 < int(kept) < int(group)):
        raise ParameterError(
            f"A pattern is two numbers such as 2:4, the first smaller; got {pattern!r}."
        )
    return int(kept), int(group)


def _require_two_tasks(tasks: Sequence[Any]) -> None:
    if len(tasks) < 2:
        raise ParameterError(f"An α-SubNet needs the masks of two tasks or more; got {len(tasks)}.")
