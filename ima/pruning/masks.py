"""Masks of the weights that a language model keeps: made from a cache, stored bit by bit (F2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.cache.reader import open_cache
from ima.cache.store import choose_codecs
from ima.errors import CacheCorruptError, CacheError, ParameterError, UnknownNameError
from ima.files import replace_folder
from ima.hook_points import TOKEN_KINDS
from ima.measures import subnetworks
from ima.models.linear_layers import get_linear_weights
from ima.stats import FloatArray

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
        By linear layer ``(layer, out_features, in_features)`` bool, true where kept.
    attributes : mapping
        How the masks were made: model and weights hash, calibration data and its fingerprint, kinds
        of tokens, sparsity, method, number of samples.
    updated_weights : mapping of str to ndarray or None
        By linear layer ``(layer, out_features, in_features)`` float32, zero where removed. They
        replace the model's own weights if the method updates what it keeps (SparseGPT).
    """

    kept: Mapping[str, subnetworks.Mask]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    updated_weights: Mapping[str, npt.NDArray[np.float32]] | None = None

    @property
    def sparsity(self) -> float:
        """Fraction of all weights that is removed."""
        total = sum(mask.size for mask in self.kept.values())
        return 1 - sum(int(mask.sum()) for mask in self.kept.values()) / total

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the linear layers."""
        return tuple(self.kept)

    def get_block_masks(self, layer: int) -> dict[str, subnetworks.Mask]:
        """Return the masks of one block, counted from 1: ``(out_features, in_features)`` each."""
        return {name: kept[layer - 1] for name, kept in self.kept.items()}

    def get_block_updates(self, layer: int) -> dict[str, npt.NDArray[np.float32]]:
        """Return the updated weights of one block; empty if the method updates none."""
        return {name: updated[layer - 1] for name, updated in (self.updated_weights or {}).items()}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Store the masks, eight weights a byte, as a Zarr group that plain xarray opens.

        Each linear layer is one array ``(layer, out_features, byte)`` uint8. Bits count from the
        highest, as in :func:`numpy.packbits`. Updated weights are not stored; use
        :func:`ima.models.sparse_checkpoint.write_sparse_checkpoint` for them.

        Raises
        ------
        ParameterError
            If the masks come with updated weights.
        """
        if self.updated_weights is not None:
            raise ParameterError("These masks come with updated weights: `ima subnet` stores both.")
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
        dataset = xr.Dataset(arrays, coords={"layer": layers}, attrs=attributes)
        codecs = {
            name: {"compressors": choose_codecs(str(variable.dtype))}
            for name, variable in dataset.variables.items()
        }
        with replace_folder(Path(path)) as partial:
            dataset.to_zarr(partial, zarr_format=3, consolidated=False, encoding=codecs)
        return Path(path)


@dataclass(frozen=True, eq=False)
class LazyMasks:
    """Masks that are computed one block at a time, so that large models fit into memory.

    Parameters
    ----------
    names : tuple of str
        Names of the linear layers.
    compute_block : callable
        Takes the number of a block, from 1, and returns what :meth:`Masks.get_block_masks` does.
    attributes : mapping
        As for :class:`Masks`.
    """

    names: tuple[str, ...]
    compute_block: Callable[[int], dict[str, subnetworks.Mask]]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def get_block_masks(self, layer: int) -> dict[str, subnetworks.Mask]:
        """Compute the masks of one block, counted from 1."""
        return self.compute_block(layer)

    def get_block_updates(self, layer: int) -> dict[str, npt.NDArray[np.float32]]:
        """Return an empty mapping: lazy masks update no weights."""
        del layer
        return {}

    def compute_all(self, layers: int) -> Masks:
        """Compute the masks of the first ``layers`` blocks at once."""
        blocks = [self.get_block_masks(layer) for layer in range(1, layers + 1)]
        kept = {name: np.stack([block[name] for block in blocks]) for name in self.names}
        return Masks(kept, self.attributes)


def open_masks(path: str | os.PathLike[str]) -> Masks:
    """Read masks that :meth:`Masks.save` stored.

    Raises
    ------
    CacheError
        If the path holds no masks.
    CacheCorruptError
        If their bytes are damaged.

    Examples
    --------
    >>> open_masks("data/masks/standard/caption--50%.zarr").sparsity  # doctest: +SKIP
    0.5
    """
    folder = Path(path)
    if not (folder / "zarr.json").is_file():
        raise CacheError(f"No masks at {str(folder)!r}. Make them with Masks.save, or `make book`.")
    try:
        stored = xr.open_zarr(folder, consolidated=False).load()
    # Damaged bytes make xarray, zarr and codecs fail in every way that they have.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CacheCorruptError(
            f"The masks at {str(folder)!r} are damaged: {reason:.200} Remove them and make them "
            "again with Masks.save, or `make book`."
        ) from error
    schema, version = (stored.attrs.get(key) for key in ("schema", "schema_version"))
    if (schema, version) != (_SCHEMA, _SCHEMA_VERSION):
        raise CacheError(
            f"{str(folder)!r} holds {schema!r} {version!r}, not {_SCHEMA!r} {_SCHEMA_VERSION!r}."
        )
    kept = {
        str(name): np.unpackbits(
            array.to_numpy(), axis=-1, count=int(array.attrs["in_features"])
        ).astype(bool)
        for name, array in stored.data_vars.items()
    }
    attributes = {str(k): v for k, v in stored.attrs.items() if not str(k).startswith("schema")}
    return Masks(kept, attributes)


def check_sparsity(sparsity: float) -> None:
    """Raise an error unless a sparsity is above 0 and below 1.

    Raises
    ------
    ParameterError
        If the sparsity is outside (0, 1).

    Examples
    --------
    >>> check_sparsity(0.5)
    """
    if not 0 < sparsity < 1:
        raise ParameterError(f"sparsity must be above 0 and below 1; got {sparsity}.")


def intersect_layer_masks(masks: Sequence[Masks]) -> dict[str, subnetworks.Mask]:
    """Return the weights that all masks keep.

    Parameters
    ----------
    masks : sequence of Masks
        Masks of the same language model.

    Returns
    -------
    dict of str to ndarray
        By linear layer ``(layer, out_features, in_features)`` bool.

    Examples
    --------
    >>> masks = [Masks({"fc1": np.array([[row]])}) for row in ([True, True], [True, False])]
    >>> intersect_layer_masks(masks)
    {'fc1': array([[[ True, False]]])}
    """
    return {
        name: subnetworks.intersect_masks([each.kept[name] for each in masks])
        for name in masks[0].kept
    }


def load_cache_set_models(cache_set: CacheSet) -> dict[str, FrozenModel]:
    """Load the models that made the caches of a set, by data set; each model once.

    Examples
    --------
    >>> cache_set = open_cache_set(["caption.zarr", "qa.zarr"])  # doctest: +SKIP
    >>> list(load_cache_set_models(cache_set))  # doctest: +SKIP
    ['mini-image-caption', 'mini-image-qa']
    """
    from ima import models

    names = cache_set.members["model"].astype(str)
    loaded = {name: models.load_model(name) for name in names.unique()}
    return {str(key): loaded[name] for key, name in names.items()}


def read_input_norms_by_kind(
    cache_set: CacheSet,
) -> dict[tuple[str, str], dict[str, FloatArray]]:
    """Read the squared input norms of a set of caches for each kind of token.

    Returns
    -------
    dict of (str, str) to dict of str to ndarray
        By data set and kind, and by linear layer ``(unit, layer, in_features)``: sums of squares
        over the tokens of each unit of samples.

    Examples
    --------
    >>> norms = read_input_norms_by_kind(open_cache_set(["caption.zarr"]))  # doctest: +SKIP
    >>> norms["mini-image-caption", "textual"]["mlp.up_proj"].shape  # doctest: +SKIP
    (8, 12, 128)
    """
    for key, tree in cache_set.trees.items():
        _require_norms(tree, f"The cache of {key}")
    return {
        (key, kind): _read_unit_norms(tree, kinds=[kind])
        for kind in TOKEN_KINDS
        for key, tree in cache_set.trees.items()
    }


def read_cache_input_norms(
    model: FrozenModel, path: str | os.PathLike[str], *, kinds: Sequence[str] = TOKEN_KINDS
) -> dict[str, FloatArray]:
    """Read the squared norms of the inputs of a model's linear layers over all samples of a cache.

    Parameters
    ----------
    model : FrozenModel
        The model whose linear layers read these inputs.
    path : str or path
        A cache with ``/input_norms``.
    kinds : sequence of str
        Kinds of tokens that count.

    Returns
    -------
    dict of str to ndarray
        By linear layer ``(layer, in_features)`` float64: sums of squares over tokens.

    Raises
    ------
    CacheError
        If the cache has no ``/input_norms``.
    UnknownNameError
        If a kind of token does not exist.
    ParameterError
        If the cache belongs to a language model with other layers or sizes.

    Examples
    --------
    >>> model = load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
    >>> read_cache_input_norms(model, "caption.zarr")["mlp.up_proj"].shape  # doctest: +SKIP
    (12, 128)
    """
    return _sum_unit_norms(model, require_input_norms(path), path=path, kinds=kinds)


def sum_input_norms(
    model: FrozenModel,
    caches: Sequence[str | os.PathLike[str]],
    *,
    kinds: Sequence[str] = TOKEN_KINDS,
) -> dict[str, FloatArray]:
    """Add up :func:`read_cache_input_norms` over the caches of several tasks.

    Examples
    --------
    >>> model = load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
    >>> sum_input_norms(model, ["caption.zarr", "qa.zarr"])["mlp.up_proj"].shape  # doctest: +SKIP
    (12, 128)
    """
    by_cache = [read_cache_input_norms(model, path, kinds=kinds) for path in caches]
    return {name: np.sum([norms[name] for norms in by_cache], axis=0) for name in by_cache[0]}


def compute_masks_from_cache(
    model: FrozenModel,
    path: str | os.PathLike[str],
    *,
    sparsity: float,
    kinds: Sequence[str] = TOKEN_KINDS,
) -> Masks:
    """Compute Wanda's masks in one pass: all inputs come from the unpruned model.

    Parameters
    ----------
    model : FrozenModel
        The model that made the cache, or one that shares its language model.
    path : str or path
        A cache with ``/input_norms``.
    sparsity : float
        Fraction of each row's weights that is removed.
    kinds : sequence of str
        Kinds of tokens that calibrate: perceptual, textual, or both.

    Returns
    -------
    Masks
        Masks of every linear layer of the blocks.

    Raises
    ------
    CacheError, UnknownNameError, ParameterError
        As :func:`read_cache_input_norms` raises them.

    Examples
    --------
    >>> model = load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
    >>> compute_masks_from_cache(model, "caption.zarr", sparsity=0.5).sparsity  # doctest: +SKIP
    0.5
    """
    tree = require_input_norms(path)
    norms = _sum_unit_norms(model, tree, path=path, kinds=kinds)
    attributes = {
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
    weights = get_linear_weights(model)
    return Masks(subnetworks.compute_wanda_masks(weights, norms, sparsity=sparsity), attributes)


def _sum_unit_norms(
    model: FrozenModel, tree: xr.DataTree, *, path: str | os.PathLike[str], kinds: Sequence[str]
) -> dict[str, FloatArray]:
    norms = {name: units.sum(axis=0) for name, units in _read_unit_norms(tree, kinds=kinds).items()}
    shapes = {
        name: (model.layers, size) for name, size in model.hook_points.linear_in_features.items()
    }
    if shapes != {name: values.shape for name, values in norms.items()}:
        raise ParameterError(
            f"{os.fspath(path)} belongs to another language model than {model.name!r}."
        )
    return norms


def require_input_norms(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open a cache that must hold input norms, before a model is read for minutes.

    Raises
    ------
    CacheError
        If there is no finished cache, or it holds none.

    Examples
    --------
    >>> "input_norms" in require_input_norms("caption.zarr").children  # doctest: +SKIP
    True
    """
    tree = open_cache(path)
    _require_norms(tree, os.fspath(path))
    return tree


def _require_norms(tree: xr.DataTree, name: str) -> None:
    if "input_norms" not in tree.children:
        raise CacheError(
            f"{name} holds no /input_norms. Make it with them: ima cache create … --input-norms."
        )


def _read_unit_norms(tree: xr.DataTree, *, kinds: Sequence[str]) -> dict[str, FloatArray]:
    """Return sums of squares ``(unit, layer, in_features)`` float64 over some kinds of tokens."""
    for kind in kinds:
        if kind not in TOKEN_KINDS:
            raise UnknownNameError.among(kind="kind", asked=kind, available=TOKEN_KINDS)
    return {
        name: node["sum_squares"].sel(kind=list(kinds)).sum("kind").to_numpy().astype(np.float64)
        for name, node in tree["input_norms"].children.items()
    }
