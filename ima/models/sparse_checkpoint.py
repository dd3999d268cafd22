"""Compressed checkpoints: of pruned layers a bit for each weight, and the values kept (I4).

A weight that is kept costs its own bits and one of the mask; one that is removed, the one of the
mask: ``(1 - s) b + 1`` bits a weight at sparsity s. Where the mask's own entropy is below one bit,
deflating it can go below that; the shorter of the two forms is stored.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ima.errors import ModelError, ParameterError
from ima.files import read_json, write_json
from ima.models import load_model, zoo
from ima.models.linear_layers import KeptStructure, shrink_model
from ima.models.packing import (
    KEPT_VALUES,
    PACKED_PARTS,
    cast_to_shortest_dtype,
    pack_weight,
    unpack_weight,
)

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel


class BlockMasks(Protocol):
    """Masks of the linear layers of a model's blocks, block by block."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the linear layers."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """How the masks were made."""

    def at(self, layer: int) -> dict[str, npt.NDArray[np.bool_]]:
        """Return the masks of a block, from 1: by linear layer ``(out_features, in_features)``."""

    def values_at(self, layer: int) -> dict[str, npt.NDArray[np.float32]]:
        """Return the updated weights of a block, if there are any."""


_SCHEMA, _SCHEMA_VERSION = "ima-subnet", "2"
SPARSE_RECORD_FILE = "subnet.json"


@dataclass(frozen=True)
class CheckpointSize:
    """How long a compressed checkpoint is.

    Parameters
    ----------
    weights : int
        Weights of the pruned layers.
    kept : int
        Those that are kept.
    bits : int
        Of a stored value.
    stored : int
        Bytes of masks and kept values.
    whole : int
        Bytes of the file, which holds all other weights of the language model as well.
    dense : int
        Bytes of all weights of the language model in the same dtype.
    """

    weights: int
    kept: int
    bits: int
    stored: int
    whole: int
    dense: int

    @property
    def bound(self) -> float:
        """``(1 - s) b + 1`` bits a weight."""
        return self.kept / self.weights * self.bits + 1

    @property
    def spent(self) -> float:
        """Bits a weight that masks and kept values take."""
        return 8 * self.stored / self.weights


def write_sparse_checkpoint(
    model: FrozenModel,
    masks: BlockMasks,
    folder: Path,
    *,
    about: Mapping[str, Any] | None = None,
) -> CheckpointSize:
    """Write the language model of a model, its pruned layers compressed.

    One block is packed at a time: beside the model, masks and packed values of one block are in
    memory, however many there are.

    Parameters
    ----------
    model : FrozenModel
        Its weights are stored as they are where a mask keeps them; it need not have been masked.
    masks : BlockMasks
        Of all linear layers of its blocks. Where they come with updated weights, those are stored.
    folder : Path
        Must not exist yet, or hold a compressed checkpoint, which is replaced.
    about : mapping or None
        Goes into the record, besides what the masks say of themselves.

    Returns
    -------
    Size
        What it takes.

    Raises
    ------
    ParameterError
        If the masks are of another model, or the folder holds something else.
    """
    _check_folder(folder)
    _check(model, masks)
    with _replaced(folder) as begun:
        packer = _Packer(model.language.state_dict(keep_vars=True), begun)
        names = {id(module): name for name, module in model.language.named_modules()}
        for layer, block in enumerate(model.anatomy.blocks, start=1):
            kept = masks.at(layer)
            _check_shapes(block, kept)
            packer.block(names[id(block)], block, kept, masks.values_at(layer), layer)
        packer.others()
        size = packer.size()
        own = {"masks": dict(masks.attributes), "shapes": packer.shapes, **(about or {})}
        _tell(begun, model, packer, size, own)
    return size


def write_structured_checkpoint(
    model: FrozenModel,
    structure: KeptStructure,
    folder: Path,
    *,
    about: Mapping[str, Any] | None = None,
) -> CheckpointSize:
    """Write the language model of a model without the neurons and heads that leave.

    Parameters
    ----------
    model : FrozenModel
        The whole one.
    structure : Structure
        What stays.
    folder, about
        As :func:`write_sparse_checkpoint` takes them.

    Returns
    -------
    Size
        What it takes: no mask is needed, so ``spent`` is below ``bound``.

    Raises
    ------
    ParameterError
        If the structure is of another model, or the folder holds something else.
    """
    _check_folder(folder)
    small = shrink_model(model, structure)
    weights, kept = _linear_weights(model), _linear_weights(small)
    with _replaced(folder) as begun:
        packer = _Packer(small.language.state_dict(keep_vars=True), begun)
        packer.others()
        packer.weights, packer.kept = weights, kept
        packer.stored = kept * packer.bits // 8
        # Counted with the others, as they are no less than those.
        packer.plain -= packer.stored
        size = packer.size()
        own = {"structure": structure.record(), "shapes": {}, **(about or {})}
        _tell(begun, model, packer, size, own)
    return size


def _linear_weights(model: FrozenModel) -> int:
    blocks, names = model.anatomy.blocks, model.anatomy.linears
    weights: Any = [block.get_submodule(name).weight for block in blocks for name in names]
    return sum(weight.numel() for weight in weights)


def _tell(
    folder: Path, model: FrozenModel, packer: _Packer, size: CheckpointSize, own: Mapping[str, Any]
) -> None:
    record = {
        "schema": _SCHEMA,
        "schema_version": _SCHEMA_VERSION,
        "model": model.name,
        "weights_hash": model.weights_hash,
        "sha256": packer.sha256,
        "sparsity": 1 - size.kept / size.weights,
        **own,
    }
    write_json(folder / SPARSE_RECORD_FILE, record)


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, and put it in the place of another when that succeeded."""
    begun = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    try:
        yield begun
        shutil.rmtree(folder, ignore_errors=True)
        begun.replace(folder)
    finally:
        shutil.rmtree(begun, ignore_errors=True)


class _Packer:
    """Writes a language model block by block, and counts."""

    def __init__(self, state: Mapping[str, Tensor], folder: Path) -> None:
        # A second name of the same weights is not written.
        seen: dict[int, str] = {}
        for name, tensor in state.items():
            seen.setdefault(id(tensor), name)
        self.left = set(seen.values())
        self.state, self.folder = state, folder
        self.sha256: dict[str, str] = {}
        self.shapes: dict[str, list[int]] = {}
        self.weights = self.kept = self.stored = self.bits = self.plain = 0

    def block(
        self,
        name: str,
        block: nn.Module,
        kept: Mapping[str, npt.NDArray[np.bool_]],
        values: Mapping[str, npt.NDArray[np.float32]],
        layer: int,
    ) -> None:
        """Write one block: its pruned layers packed, its other weights as they are."""
        tensors: dict[str, Tensor] = {}
        for key, tensor in block.state_dict(keep_vars=True).items():
            full = f"{name}.{key}"
            linear = key.removesuffix(".weight")
            if linear in kept and linear != key:
                weight = tensor.detach()
                if linear in values:
                    weight = torch.from_numpy(values[linear]).to(weight.dtype)
                packed = pack_weight(full, weight, kept[linear])
                self.shapes[full] = list(weight.shape)
                self.weights += weight.numel()
                self.kept += int(kept[linear].sum())
                self.stored += sum(one.nbytes for one in packed.values())
                self.bits = max(self.bits, 8 * packed[f"{full}.{KEPT_VALUES}"].element_size())
                tensors |= packed
            elif full in self.left:
                tensors[full] = self._plain(tensor)
            self.left.discard(full)
        self._save(tensors, f"block-{layer:03d}.safetensors")

    def others(self) -> None:
        """Write what is in no block: embeddings and the last norm."""
        tensors = {n: self._plain(self.state[n]) for n in self.state if n in self.left}
        self._save(tensors, "others.safetensors")

    def size(self) -> CheckpointSize:
        """Return what was written."""
        return CheckpointSize(
            weights=self.weights,
            kept=self.kept,
            bits=self.bits,
            stored=self.stored,
            whole=sum((self.folder / name).stat().st_size for name in self.sha256),
            dense=self.plain + self.weights * self.bits // 8,
        )

    def _plain(self, tensor: Tensor) -> Tensor:
        found = cast_to_shortest_dtype(tensor.detach()).contiguous().cpu()
        self.plain += found.nbytes
        self.bits = max(self.bits, 8 * found.element_size() if found.is_floating_point() else 0)
        return found

    def _save(self, tensors: Mapping[str, Tensor], name: str) -> None:
        about = {"schema": _SCHEMA, "schema_version": _SCHEMA_VERSION}
        save_file(dict(tensors), str(self.folder / name), metadata=about)
        self.sha256[name] = zoo.hash_file(self.folder / name)


def _is_sparse_checkpoint(folder: Path) -> bool:
    """Return whether a folder holds a compressed checkpoint."""
    return (folder / SPARSE_RECORD_FILE).is_file()


def load_sparse_checkpoint(folder: Path, *, device: str = "cpu") -> FrozenModel:
    """Load a model whose language model is that of a compressed checkpoint.

    Parameters
    ----------
    folder : Path
        From :func:`write_sparse_checkpoint`. What perceives, and the tokenizer, come from the model that it was made
        of, which must be there.
    device : str
        Where to.

    Returns
    -------
    FrozenModel
        Equal bit for bit to the pruned one. Its name is the folder.

    Raises
    ------
    ModelError
        If the checkpoint is damaged, or the model that it was made of has other weights now.
    """
    record = _record(folder)
    model = load_model(record["model"], device=device)
    if model.weights_hash != record["weights_hash"]:
        message = (
            f"{folder} was made of {record['model']!r} with weights {record['weights_hash']}; now "
            f"it has {model.weights_hash}. Make it again: ima subnet {record['model']} --out …"
        )
        raise ModelError(message)
    if "structure" in record:
        model = shrink_model(model, KeptStructure.of_record(record["structure"]))
    state = model.language.state_dict()
    try:
        for part, digest in record["sha256"].items():
            zoo.verify_weights(folder / part, expected=digest)
            with safe_open(folder / part, framework="pt") as file, torch.no_grad():
                _fill(state, file, record["shapes"])
    except (SafetensorError, KeyError, ValueError, zlib.error) as error:
        message = f"The compressed checkpoint {folder} is damaged: {error}. Make it again."
        raise ModelError(message) from error
    return replace(model, name=str(folder), weights_hash=zoo.hash_file(folder / SPARSE_RECORD_FILE))


def _fill(state: Mapping[str, Tensor], file: Any, shapes: Mapping[str, list[int]]) -> None:
    held = set(file.keys())
    packed = {key.rpartition(".")[0] for key in held if key.endswith(f".{KEPT_VALUES}")}
    for name in packed:
        state[name].copy_(unpack_weight(file, name, shapes[name]))
    parts = {f"{name}.{part}" for name in packed for part in PACKED_PARTS}
    for name in held - parts:
        state[name].copy_(file.get_tensor(name))


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = read_json(folder / SPARSE_RECORD_FILE)
    except (OSError, json.JSONDecodeError) as error:
        message = f"No compressed checkpoint at {folder}: {error}. `ima subnet` makes one."
        raise ModelError(message) from error
    found = f"{record.get('schema')!r} {record.get('schema_version')!r}"
    if found != f"{_SCHEMA!r} {_SCHEMA_VERSION!r}":
        message = f"{folder} holds {found}, not {_SCHEMA!r} {_SCHEMA_VERSION!r}. Make it again."
        raise ModelError(message)
    return record


def _check_folder(folder: Path) -> None:
    if folder.exists() and not _is_sparse_checkpoint(folder) and any(folder.iterdir()):
        message = f"{folder} is there and is no compressed checkpoint. Name another folder."
        raise ParameterError(message)


def _check(model: FrozenModel, masks: BlockMasks) -> None:
    known = masks.attributes.get("weights_hash")
    if set(masks.names) != set(model.anatomy.linears):
        found = ", ".join(sorted(masks.names))
        message = (
            f"The masks are of {found}; {model.name!r} has {', '.join(model.anatomy.linears)}."
        )
        raise ParameterError(message)
    if known not in {None, model.weights_hash}:
        message = (
            f"The masks were made of a model with weights {known}; {model.name!r} has "
            f"{model.weights_hash}. Make them of it."
        )
        raise ParameterError(message)


def _check_shapes(block: nn.Module, kept: Mapping[str, npt.NDArray[np.bool_]]) -> None:
    for name, mask in kept.items():
        linear: Any = block.get_submodule(name)
        if tuple(linear.weight.shape) != mask.shape:
            message = (
                f"The mask of {name} has shape {mask.shape}, its weights "
                f"{tuple(linear.weight.shape)}."
            )
            raise ParameterError(message)
