"""One subnetwork for all tasks (I4): the α-SubNet, and what it must be compared with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ima.errors import ParameterError
from ima.hook_points import KINDS
from ima.measures import subnetworks
from ima.models.linear_layers import get_block_weights, get_linear_weights
from ima.pruning import votes
from ima.pruning.masks import (
    LazyMasks,
    Masks,
    check_sparsity,
    compute_masks_from_cache,
    intersect_layer_masks,
    read_cache_input_norms,
)

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

_Path = str | os.PathLike[str]
#: Masks at equal sparsity, by what they know: of all tasks' inputs together, of what more than half
#: of the tasks drop, of text alone, of the weights' size within rows and over all layers, and of
#: nothing.
WANDA_ALL_TASKS, WANDA_MOST_TASKS, WANDA_TEXT, MAGNITUDE_PER_ROW, MAGNITUDE_GLOBAL, RANDOM_BASELINE = (
    "Wanda on all tasks", "Wanda of most tasks", "Wanda on text", "|W| in rows", "|W| overall",
    "random",
)  # fmt: skip
BASELINE_MASKS = (
    WANDA_ALL_TASKS,
    WANDA_MOST_TASKS,
    WANDA_TEXT,
    MAGNITUDE_PER_ROW,
    MAGNITUDE_GLOBAL,
    RANDOM_BASELINE,
)
ALPHA_SUBNET = "α-SubNet"
#: Ways of :func:`build_lazy_masks`.
MASK_METHODS = ("alpha", "wanda", "magnitude")


def build_alpha_subnet(masks: Sequence[Masks]) -> Masks:
    """Return the α-SubNet: the weights that the masks of all tasks keep (§4).

    Parameters
    ----------
    masks : sequence of Masks
        Of one language model, from two tasks or more.

    Returns
    -------
    Masks
        Sparser than each of them; ``sparsity`` says what was achieved.

    Raises
    ------
    ParameterError
        If there are fewer than two, or they are of different models.
    """
    _check_several(masks)
    shapes = [{name: kept.shape for name, kept in one.kept.items()} for one in masks]
    if any(shape != shapes[0] for shape in shapes):
        message = "The masks are of different language models: their layers or sizes differ."
        raise ParameterError(message)
    return Masks(
        intersect_layer_masks(masks),
        {"method": "alpha", "of": [dict(one.attributes) for one in masks]},
    )


def build_alpha_at_sparsity(
    model: FrozenModel, caches: Sequence[_Path], *, sparsity: float
) -> Masks:
    """Return the α-SubNet of the sparsity that is asked for, or the next lower one.

    Parameters
    ----------
    model : FrozenModel
        Any of the models that made the caches: their language model.
    caches : sequence of path
        Caches of calibration samples with ``inputs``, of two tasks or more.
    sparsity : float
        Share of all weights that no task's mask or not every task's mask keeps. The share that
        each task's mask removes follows from it.

    Returns
    -------
    Masks
        Its attribute ``sparsity`` is the share that each task's mask removes.

    Raises
    ------
    ParameterError
        If the share is not in (0, 1), or caches are fewer than two or of another model.
    """
    _check_several(caches)
    found = votes.build_voted_masks(model, caches, sparsity=sparsity)
    return Masks(found.kept, {**found.attributes, "method": "alpha"})


def compute_layer_sparsity(masks: Masks) -> pd.DataFrame:
    """Return which share of the weights of each linear layer is removed, layers in rows."""
    shares = {name: 1 - kept.mean(axis=(1, 2)) for name, kept in masks.kept.items()}
    layers = len(next(iter(shares.values())))
    return pd.DataFrame(shares, index=pd.Index(range(1, layers + 1), name="layer"))


def build_modality_subnets(
    model: FrozenModel,
    caches: Mapping[str, _Path],
    *,
    modalities: Mapping[str, str],
    sparsity: float,
) -> dict[str, Masks]:
    """Return α-SubNets of the tasks of each modality, of their text, and of all tasks.

    Parameters
    ----------
    model : FrozenModel
        Their language model.
    caches : mapping of str to path
        By task, a cache of calibration samples with ``inputs``; two or more.
    modalities : mapping of str to str
        The modality of each task.
    sparsity : float
        Share that each task's mask removes of each row.

    Returns
    -------
    dict of str to Masks
        By modality (those with two tasks or more), ``text`` (masks from textual tokens alone) and
        ``all``.
    """
    own = {
        name: compute_masks_from_cache(model, path, sparsity=sparsity)
        for name, path in caches.items()
    }
    text = [
        compute_masks_from_cache(model, path, sparsity=sparsity, kinds=["textual"])
        for path in caches.values()
    ]
    groups = {
        modality: [own[name] for name in caches if modalities[name] == modality]
        for modality in dict.fromkeys(modalities[name] for name in caches)
    }
    groups = {modality: masks for modality, masks in groups.items() if len(masks) > 1}
    groups |= {"text": text, "all": list(own.values())}
    return {name: build_alpha_subnet(masks) for name, masks in groups.items()}


def build_baseline_masks(
    model: FrozenModel, caches: Sequence[_Path], *, which: str, sparsity: float, seed: int = 0
) -> Masks:
    """Return one of the masks that the α-SubNet is compared with.

    Parameters
    ----------
    model : FrozenModel
        Any of the models that made the caches: their language model.
    caches : sequence of path
        Of each task, a cache of calibration samples with ``inputs``.
    which : str
        One of :data:`BASELINE_MASKS`.
    sparsity : float
        Share of each row that is removed; of all weights for :data:`MAGNITUDE_GLOBAL` and, at most,
        for :data:`WANDA_MOST_TASKS`.
    seed : int
        Of the random one.
    """
    if which == WANDA_MOST_TASKS:
        most = len(caches) // 2 + 1
        kept = votes.build_voted_masks(model, caches, sparsity=sparsity, votes=most).kept
    elif which in {WANDA_ALL_TASKS, WANDA_TEXT}:
        kinds = KINDS if which == WANDA_ALL_TASKS else ("textual",)
        squares = sum_input_norms(model, caches, kinds=kinds)
        kept = subnetworks.compute_wanda_masks(
            get_linear_weights(model), squares, sparsity=sparsity
        )
    elif which == MAGNITUDE_PER_ROW:
        kept = subnetworks.compute_magnitude_masks(get_linear_weights(model), sparsity=sparsity)
    elif which == MAGNITUDE_GLOBAL:
        kept = subnetworks.compute_global_magnitude_masks(
            get_linear_weights(model), sparsity=sparsity
        )
    else:
        rng = np.random.default_rng(seed)
        kept = subnetworks.draw_random_masks(get_linear_weights(model), sparsity=sparsity, rng=rng)
    return Masks(kept, _about(which, model, sparsity))


def build_lazy_masks(
    model: FrozenModel,
    caches: Sequence[_Path],
    *,
    method: str = "alpha",
    sparsity: float = 0.5,
    pattern: str = "",
) -> LazyMasks:
    """Return masks that are made one block at a time, as large models need it.

    Parameters
    ----------
    model : FrozenModel
        Whose weights.
    caches : sequence of path
        Caches of calibration samples with ``inputs``.
    method : str
        One of :data:`MASK_METHODS`: the α-SubNet of the caches' masks, Wanda on all of them, or
        the weights' size alone.
    sparsity : float
        Share of each row that a mask removes.
    pattern : str
        Where given, Wanda on all caches keeps so many of so many neighbours: ``"2:4"`` keeps two of
        four, as sparse tensor cores need it.

    Raises
    ------
    ParameterError
        If the share is not in (0, 1), the pattern is none, or caches are of another model or, for
        ``alpha``, fewer than two.
    """
    check_sparsity(sparsity)
    if method not in MASK_METHODS:
        message = f"method must be one of {', '.join(MASK_METHODS)}; got {method!r}."
        raise ParameterError(message)
    if method == "alpha" and not pattern:
        _check_several(caches)
    choose = partial(_CHOICES[method], sparsity=sparsity)
    if pattern:
        kept, group = parse_pattern(pattern)
        choose = partial(_grouped, kept=kept, group=group)
        method, sparsity = f"wanda, {pattern}", 1 - kept / group
    each = [read_cache_input_norms(model, path) for path in caches]

    def make(layer: int) -> dict[str, subnetworks.Mask]:
        weights = get_block_weights(model, layer)
        # A layer's float32 copy goes as soon as its mask is there.
        return {
            name: choose(weights.pop(name), [one[name][layer - 1] for one in each])
            for name in list(weights)
        }

    about = _about(method, model, sparsity) | {"caches": [os.fspath(path) for path in caches]}
    return LazyMasks(tuple(model.anatomy.linears), make, about)


def _alpha(
    weight: npt.NDArray[Any], squares: Sequence[npt.NDArray[Any]], *, sparsity: float
) -> subnetworks.Mask:
    return subnetworks.intersect_masks(
        [subnetworks.compute_wanda_mask(weight, s, sparsity=sparsity) for s in squares]
    )


def _wanda(
    weight: npt.NDArray[Any], squares: Sequence[npt.NDArray[Any]], *, sparsity: float
) -> subnetworks.Mask:
    return subnetworks.compute_wanda_mask(weight, np.sum(squares, axis=0), sparsity=sparsity)


def _magnitude(
    weight: npt.NDArray[Any], squares: Sequence[npt.NDArray[Any]], *, sparsity: float
) -> subnetworks.Mask:
    del squares
    return subnetworks.compute_magnitude_mask(weight, sparsity=sparsity)


def _grouped(
    weight: npt.NDArray[Any], squares: Sequence[npt.NDArray[Any]], *, kept: int, group: int
) -> subnetworks.Mask:
    scores = np.abs(weight) * np.sqrt(np.sum(squares, axis=0))[None]
    return subnetworks.compute_nm_sparsity_mask(scores, kept=kept, group=group)


_CHOICES = dict(zip(MASK_METHODS, (_alpha, _wanda, _magnitude), strict=True))


def sum_input_norms(
    model: FrozenModel, caches: Sequence[_Path], *, kinds: Sequence[str] = KINDS
) -> dict[str, npt.NDArray[Any]]:
    """Return sums of squares over all tasks' caches, each token counted once.

    See :func:`ima.pruning.masks.read_cache_input_norms`.
    """
    parts = [read_cache_input_norms(model, path, kinds=kinds) for path in caches]
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def _check_several(given: Sequence[Any]) -> None:
    if len(given) < 2:
        message = f"An intersection needs the masks of two tasks or more; got {len(given)}."
        raise ParameterError(message)


def parse_pattern(pattern: str) -> tuple[int, int]:
    """Return how many of how many neighbours a pattern such as 2:4 keeps."""
    kept, _, group = pattern.partition(":")
    if not (kept.isdecimal() and group.isdecimal() and 0 < int(kept) < int(group)):
        message = f"A pattern is two numbers such as 2:4, the first smaller; got {pattern!r}."
        raise ParameterError(message)
    return int(kept), int(group)


def _about(label: str, model: FrozenModel, sparsity: float) -> dict[str, Any]:
    return {"method": label, "sparsity": sparsity, "weights_hash": model.weights_hash}
