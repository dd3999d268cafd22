"""Masks: which weights of a language model an input activates, stored bit by bit (F2)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.cache import open_cache
from ima.errors import CacheError, ParameterError, UnknownNameError
from ima.hook_points import KINDS
from ima.measures import subnetworks
from ima.measures.similarity import FloatArray
from ima.models.linear_layers import get_linear_weights

if TYPE_CHECKING:
    from ima.cache.cache_set import CacheSet
    from ima.models.frozen import FrozenModel

_SCHEMA = "ima-masks"
_SCHEMA_VERSION = "1"


@dataclass(frozen=True, eq=False)
class Masks:
    """Kept weights of every linear layer of a language model's blocks.

    Parameters
    ----------
    kept : mapping of str to ndarray
        By linear layer ``(layer, out_features, in_features)`` bool.
    attributes : mapping
        How they were made: model and weights hash, calibration data and its fingerprint, kind of
        tokens, sparsity, method, number of samples.
    values : mapping of str to ndarray or None
        By linear layer ``(layer, out_features, in_features)`` float32, zero where removed: weights
        that take the place of the model's own, where what is kept was updated (SparseGPT).
    """

    kept: Mapping[str, subnetworks.Mask]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, npt.NDArray[np.float32]] | None = None

    @property
    def sparsity(self) -> float:
        """Share of the weights that is removed."""
        total = sum(mask.size for mask in self.kept.values())
        return 1 - sum(int(mask.sum()) for mask in self.kept.values()) / total

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the linear layers."""
        return tuple(self.kept)

    def at(self, layer: int) -> dict[str, subnetworks.Mask]:
        """Return the masks of a block, from 1: by linear layer ``(out_features, in_features)``."""
        return {name: kept[layer - 1] for name, kept in self.kept.items()}

    def values_at(self, layer: int) -> dict[str, npt.NDArray[np.float32]]:
        """Return the updated weights of one block, if there are any."""
        return {name: values[layer - 1] for name, values in (self.values or {}).items()}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Store the masks, eight weights a byte, as a Zarr group that plain xarray opens.

        An array per linear layer, ``(layer, out_features, byte)`` uint8; bits count from the
        highest, as in :func:`numpy.packbits`. Updated weights are not masks: store them with
        :func:`ima.models.sparse_checkpoint.write_sparse_checkpoint`.

        Raises
        ------
        ParameterError
            If kept weights were updated.
        """
        if self.values is not None:
            message = "These masks come with updated weights: `ima subnet` stores both."
            raise ParameterError(message)
        target = Path(path)
        begun = target.with_name(f"{target.name}.new")
        shutil.rmtree(begun, ignore_errors=True)
        begun.parent.mkdir(parents=True, exist_ok=True)
        arrays = {
            name: (
                ("layer", f"{name}.out_features", f"{name}.byte"),
                np.packbits(mask, axis=-1),
                {"in_features": mask.shape[-1]},
            )
            for name, mask in self.kept.items()
        }
        attributes = {"schema": _SCHEMA, "schema_version": _SCHEMA_VERSION, **self.attributes}
        layers = np.arange(1, 1 + next(iter(self.kept.values())).shape[0])
        xr.Dataset(arrays, coords={"layer": layers}, attrs=attributes).to_zarr(
            begun, zarr_format=3, consolidated=False
        )
        shutil.rmtree(target, ignore_errors=True)
        begun.replace(target)
        return target


@dataclass(frozen=True, eq=False)
class LazyMasks:
    """Masks of a language model that are made block by block, as they are asked for.

    Those of a model of many thousand million weights need not all be there at once.

    Parameters
    ----------
    names : tuple of str
        Of the linear layers.
    make : callable
        Takes the number of a block, from 1, and returns what :meth:`Masks.at` does.
    attributes : mapping
        As of :class:`Masks`.
    """

    names: tuple[str, ...]
    make: Callable[[int], dict[str, subnetworks.Mask]]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def at(self, layer: int) -> dict[str, subnetworks.Mask]:
        """Make the masks of one block."""
        return self.make(layer)

    def values_at(self, layer: int) -> dict[str, npt.NDArray[np.float32]]:
        """Return nothing: no weight is updated."""
        del layer
        return {}

    def whole(self, layers: int) -> Masks:
        """Return the masks of all blocks together."""
        made = [self.at(layer) for layer in range(1, layers + 1)]
        return Masks({n: np.stack([one[n] for one in made]) for n in self.names}, self.attributes)


def open_masks(path: str | os.PathLike[str]) -> Masks:
    """Read masks that :meth:`Masks.save` stored.

    Raises
    ------
    CacheError
        If there are none at the path.
    """
    where = Path(path)
    if not (where / "zarr.json").is_file():
        message = f"No masks at {str(where)!r}. Make them with Masks.save, or `make book`."
        raise CacheError(message)
    stored = xr.open_zarr(where, consolidated=False).load()
    if (
        stored.attrs.get("schema") != _SCHEMA
        or stored.attrs.get("schema_version") != _SCHEMA_VERSION
    ):
        found = f"{stored.attrs.get('schema')!r} {stored.attrs.get('schema_version')!r}"
        message = f"{str(where)!r} holds {found}, not {_SCHEMA!r} {_SCHEMA_VERSION!r}."
        raise CacheError(message)
    kept = {
        str(name): np.unpackbits(
            array.to_numpy(), axis=-1, count=int(array.attrs["in_features"])
        ).astype(bool)
        for name, array in stored.data_vars.items()
    }
    attributes = {str(k): v for k, v in stored.attrs.items() if not str(k).startswith("schema")}
    return Masks(kept, attributes)


def check_sparsity(sparsity: float) -> None:
    """Refuse a share that is not above 0 and below 1."""
    if not 0 < sparsity < 1:
        message = f"sparsity must be above 0 and below 1; got {sparsity}."
        raise ParameterError(message)


def intersect_layer_masks(masks: Sequence[Masks]) -> dict[str, subnetworks.Mask]:
    """Return the weights that all masks keep, by linear layer."""
    return {
        name: subnetworks.intersect_masks([m.kept[name] for m in masks]) for name in masks[0].kept
    }


def _sum_squares_over_kinds(
    tree: xr.DataTree, *, kinds: Sequence[str] = KINDS
) -> dict[str, FloatArray]:
    """Sum what a cache's ``/inputs`` hold over its samples and some kinds of tokens.

    Parameters
    ----------
    tree : xarray.DataTree
        A cache made with ``inputs``.
    kinds : sequence of str
        Whose tokens.

    Returns
    -------
    dict of str to ndarray
        By linear layer ``(unit, layer, in_features)`` float64: sums of squares per unit of samples.

    Raises
    ------
    CacheError
        If the cache was made without ``inputs``.
    UnknownNameError
        If there is no such kind of token.
    """
    if "inputs" not in tree.children:
        message = "The cache holds no /inputs. Make it with them: ima cache create … --inputs."
        raise CacheError(message)
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownNameError.among(kind="kind", asked=kind, available=KINDS)
    return {
        name: node["sum_squares"].sel(kind=list(kinds)).sum("kind").to_numpy().astype(np.float64)
        for name, node in tree["inputs"].children.items()
    }


def load_cache_set_models(family: CacheSet) -> dict[str, FrozenModel]:
    """Load the models that made a family's caches, by data set."""
    from ima import models

    return {str(key): models.load(str(name)) for key, name in family.members["model"].items()}


def read_input_norms_by_kind(family: CacheSet) -> dict[tuple[str, str], dict[str, FloatArray]]:
    """Return what :func:`_sum_squares_over_kinds` gives, by data set and kind of token, of a family's caches."""
    return {
        (key, kind): _sum_squares_over_kinds(tree, kinds=[kind])
        for kind in KINDS
        for key, tree in family.trees.items()
    }


def compute_masks_from_cache(
    model: FrozenModel,
    path: str | os.PathLike[str],
    *,
    sparsity: float,
    kinds: Sequence[str] = KINDS,
) -> Masks:
    """Return Wanda's masks in one pass: all inputs come from the unpruned model.

    Parameters
    ----------
    model : FrozenModel
        Whose weights; it must be the one that made the cache, or share its language model.
    path : str or path
        A cache made with ``inputs``.
    sparsity : float
        Share of each row that is removed.
    kinds : sequence of str
        Whose tokens calibrate: perceptual, textual, or both.

    Returns
    -------
    Masks
        Of every linear layer of the blocks.
    """
    tree = open_cache(path)
    squares = _squares_in(tree, model, path, kinds)
    kept = subnetworks.compute_wanda_masks(get_linear_weights(model), squares, sparsity=sparsity)
    about = {
        "method": "wanda",
        "sequential": False,
        "sparsity": sparsity,
        "kinds": list(kinds),
        "model": tree.attrs["model"]["name"],
        "weights_hash": tree.attrs["model"]["weights_hash"],
        "dataset": tree.attrs["dataset"]["name"],
        "split": tree.attrs["dataset"]["split"],
        "fingerprint": tree.attrs["dataset"]["fingerprint"],
        "samples": int(tree["samples"].sizes["sample"]),
    }
    return Masks(kept, about)


def read_cache_input_norms(
    model: FrozenModel, path: str | os.PathLike[str], *, kinds: Sequence[str] = KINDS
) -> dict[str, FloatArray]:
    """Return sums of squares of the inputs of a model's linear layers, all samples of a cache.

    Parameters
    ----------
    model : FrozenModel
        Whose weights read them.
    path : str or path
        A cache made with ``inputs``.
    kinds : sequence of str
        Whose tokens count.

    Returns
    -------
    dict of str to ndarray
        By linear layer ``(layer, in_features)`` float64.

    Raises
    ------
    CacheError
        If the cache was made without ``inputs``.
    ParameterError
        If it is of a language model of other layers or sizes.
    """
    return _squares_in(open_cache(path), model, path, kinds)


def _squares_in(
    tree: xr.DataTree, model: FrozenModel, path: str | os.PathLike[str], kinds: Sequence[str]
) -> dict[str, FloatArray]:
    found = _sum_squares_over_kinds(tree, kinds=kinds)
    squares = {name: units.sum(axis=0) for name, units in found.items()}
    sizes = {name: (model.layers, size) for name, size in model.anatomy.linears.items()}
    if sizes != {name: values.shape for name, values in squares.items()}:
        message = f"{os.fspath(path)} is of another language model than {model.name!r}."
        raise ParameterError(message)
    return squares
