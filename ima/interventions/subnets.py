"""One subnetwork for all tasks (I4): the α-SubNet, and what it must be compared with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ima.cache import open_cache
from ima.cache.schema import KINDS
from ima.errors import ParameterError
from ima.interventions.masks import Masks, masks_from_cache, squares_of, weights_of
from ima.measures import subnetworks

if TYPE_CHECKING:
    from ima.models import FrozenModel

#: Masks at equal sparsity, by what they know: of all tasks' inputs together, of text alone, of the
#: weights' size within rows and over all layers, of nothing.
UNION, TEXT, SIZE, SIZE_OVERALL, RANDOM = (
    "Wanda on all tasks", "Wanda on text", "|W| in rows", "|W| overall", "random"
)  # fmt: skip
ALPHA = "α-SubNet"


def alpha(masks: Sequence[Masks]) -> Masks:
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
    if len(masks) < 2:
        message = f"An intersection needs two masks or more; got {len(masks)}."
        raise ParameterError(message)
    shapes = [{name: kept.shape for name, kept in one.kept.items()} for one in masks]
    if any(shape != shapes[0] for shape in shapes):
        message = "The masks are of different language models: their layers or sizes differ."
        raise ParameterError(message)
    kept = {name: subnetworks.shared([m.kept[name] for m in masks]) for name in masks[0].kept}
    return Masks(kept, {"method": "alpha", "of": [dict(one.attributes) for one in masks]})


def sparsity_by_layer(masks: Masks) -> pd.DataFrame:
    """Return which share of the weights of each linear layer is removed, layers in rows."""
    shares = {name: 1 - kept.mean(axis=(1, 2)) for name, kept in masks.kept.items()}
    layers = len(next(iter(shares.values())))
    return pd.DataFrame(shares, index=pd.Index(range(1, layers + 1), name="layer"))


def equally_sparse(
    model: FrozenModel,
    caches: Mapping[str, str | os.PathLike[str]],
    *,
    sparsity: float,
    seed: int = 0,
) -> dict[str, Masks]:
    """Return masks as sparse as another, each of which knows something else.

    Parameters
    ----------
    model : FrozenModel
        Any of the models that made the caches: their language model.
    caches : mapping of str to path
        By task, a cache of calibration samples with ``inputs``.
    sparsity : float
        Share of each row that is removed; of all weights for :data:`SIZE_OVERALL`.
    seed : int
        Of the random one.

    Returns
    -------
    dict of str to Masks
        By name: each task's own, then :data:`UNION`, :data:`TEXT`, :data:`SIZE`,
        :data:`SIZE_OVERALL` and :data:`RANDOM`.
    """
    weights = weights_of(model)
    rng = np.random.default_rng(seed)
    found = {
        name: masks_from_cache(model, path, sparsity=sparsity) for name, path in caches.items()
    }
    for label, kinds in ((UNION, KINDS), (TEXT, ("textual",))):
        squares = _summed([squares_of(open_cache(p), kinds=kinds) for p in caches.values()])
        kept = subnetworks.split(weights, squares, sparsity=sparsity)
        found[label] = _named(kept, label, model, sparsity)
    by_size = {n: subnetworks.magnitude(w, sparsity=sparsity) for n, w in weights.items()}
    overall = subnetworks.magnitude_everywhere(weights, sparsity=sparsity)
    drawn = {
        name: subnetworks.least_removed(rng.random(w.shape, dtype=np.float32), sparsity=sparsity)
        for name, w in weights.items()
    }
    for label, kept in ((SIZE, by_size), (SIZE_OVERALL, overall), (RANDOM, drawn)):
        found[label] = _named(kept, label, model, sparsity)
    return found


def of_pattern(
    model: FrozenModel, caches: Sequence[str | os.PathLike[str]], *, pattern: str = "2:4"
) -> Masks:
    """Return Wanda's masks that keep so many of so many neighbours, calibrated on all caches.

    Parameters
    ----------
    model : FrozenModel
        Whose weights.
    caches : sequence of path
        Caches of calibration samples with ``inputs``.
    pattern : str
        ``"2:4"`` keeps two of four, as sparse tensor cores need it.

    Raises
    ------
    ParameterError
        If the pattern is none, or rows are no whole number of groups.
    """
    kept, _, group = pattern.partition(":")
    if not (kept.isdecimal() and group.isdecimal() and 0 < int(kept) < int(group)):
        message = f"A pattern is two numbers such as 2:4, the first smaller; got {pattern!r}."
        raise ParameterError(message)
    squares = _summed([squares_of(open_cache(path)) for path in caches])
    chosen = {
        name: subnetworks.of_each_group(
            np.abs(weight) * np.sqrt(squares[name])[..., None, :], kept=int(kept), group=int(group)
        )
        for name, weight in weights_of(model).items()
    }
    return _named(chosen, f"Wanda, {pattern}", model, 1 - int(kept) / int(group))


def _summed(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum squares over units and tasks, each token counted once."""
    return {name: sum(part[name].sum(axis=0) for part in parts) for name in parts[0]}


def _named(
    kept: Mapping[str, subnetworks.Mask], label: str, model: FrozenModel, sparsity: float
) -> Masks:
    about = {"method": label, "sparsity": sparsity, "weights_hash": model.weights_hash}
    return Masks(kept, about)
