"""Sparse checkpoints (I4): a mask of one bit a weight, and the kept values of pruned layers.

A checkpoint at sparsity s with b bits a value takes ``(1 - s) b + 1`` bits a weight. It takes less
if the mask has fewer than one bit of entropy a weight: the mask is deflated if that is shorter.

The sparse-bitmask format of ``compressed-tensors`` is no alternative. It stores 64 bits of offset a
row, which at s = 0.5 exceeds the bound by 5.6 % for 128 x 128 weights in float16 and by 24 % for
32 x 32 (this format: 0.0 %); it drops kept zeros and the sign of -0.0; and it was removed in
version 0.15, so transformers 5 does not load it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ima.errors import ModelError, ParameterError
from ima.files import hash_file, read_json, replace_folder, write_json
from ima.models import load_model, zoo
from ima.models.hook_points import get_weight
from ima.models.linear_layers import KeptStructure, get_linear, shrink_model

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

_SCHEMA, _SCHEMA_VERSION = "ima-subnet", "2"
#: File that describes a sparse checkpoint.
SPARSE_RECORD_FILE = "subnet.json"
#: Suffixes of the stored parts of a pruned weight: kept values, and the mask, plain or deflated.
_VALUES, _BITS, _DEFLATED = ".kept", ".bits", ".deflated"


class BlockMasks(Protocol):
    """Masks of the linear layers of a model, block by block."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the linear layers."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """How the masks were made."""

    def get_block_masks(self, layer: int) -> dict[str, npt.NDArray[np.bool_]]:
        """Return the masks of one block, counted from 1: ``(out_features, in_features)`` each."""

    def get_block_updates(self, layer: int) -> dict[str, npt.NDArray[np.float32]]:
        """Return the updated weights of one block; empty if there are none."""


@dataclass(frozen=True)
class CheckpointSize:
    """Size of a sparse checkpoint.

    Parameters
    ----------
    weights : int
        Number of weights of the pruned layers.
    kept_weights : int
        Number of those that are kept.
    value_bits : int
        Bits of a stored value.
    packed_bytes : int
        Bytes of masks and kept values.
    file_bytes : int
        Bytes of all files, which also hold the other weights of the language model.
    dense_bytes : int
        Bytes of all weights of the full language model in the same dtype.
    """

    weights: int
    kept_weights: int
    value_bits: int
    packed_bytes: int
    file_bytes: int
    dense_bytes: int

    @property
    def sparsity(self) -> float:
        """Fraction of the weights of the pruned layers that is removed."""
        return 1 - self.kept_weights / self.weights

    @property
    def bits_per_weight(self) -> float:
        """Bits that masks and kept values take, divided by the number of weights."""
        return 8 * self.packed_bytes / self.weights

    @property
    def bits_per_weight_bound(self) -> float:
        """``(1 - s) b + 1`` bits a weight."""
        return self.kept_weights / self.weights * self.value_bits + 1


def write_sparse_checkpoint(
    model: FrozenModel,
    masks: BlockMasks,
    folder: Path,
    *,
    about: Mapping[str, Any] | None = None,
) -> CheckpointSize:
    """Write a language model with masks: its pruned layers packed, its other weights as they are.

    Blocks are packed one at a time, so that only one block's masks and packed values are in memory.

    Parameters
    ----------
    model : FrozenModel
        The unmasked model. Its weights are stored as they are where a mask keeps them.
    masks : BlockMasks
        Masks of all linear layers of its blocks. Updated weights, if any, are stored instead of the
        model's.
    folder : Path
        A new folder, or a sparse checkpoint, which is replaced.
    about : mapping or None
        Entries that are added to the record.

    Returns
    -------
    CheckpointSize
        Size of the checkpoint.

    Raises
    ------
    ParameterError
        If the masks belong to another model, or the folder holds anything else.

    Examples
    --------
    >>> size = write_sparse_checkpoint(model, masks, Path("my-subnet"))  # doctest: +SKIP
    >>> size.bits_per_weight  # doctest: +SKIP
    8.98
    """
    require_target(folder)
    _check_masks(model, masks)
    with replace_folder(folder) as partial:
        writer = _CheckpointWriter(model.language, partial)
        module_names = {id(module): name for name, module in model.language.named_modules()}
        for layer, block in enumerate(model.hook_points.blocks, start=1):
            kept, updates = masks.get_block_masks(layer), masks.get_block_updates(layer)
            _check_shapes(block, kept)
            writer.write_block(layer, module_names[id(block)], block, kept, updates)
        writer.write_others()
        return writer.finish(model, {"masks": dict(masks.attributes), **(about or {})})


def write_structured_checkpoint(
    model: FrozenModel,
    structure: KeptStructure,
    folder: Path,
    *,
    about: Mapping[str, Any] | None = None,
) -> CheckpointSize:
    """Write a language model without the neurons and heads that a structure drops.

    Parameters
    ----------
    model : FrozenModel
        The full model.
    structure : KeptStructure
        Neurons and groups of heads to keep.
    folder, about
        As for :func:`write_sparse_checkpoint`.

    Returns
    -------
    CheckpointSize
        Size of the checkpoint. It needs no masks, so ``bits_per_weight`` is below the bound.

    Raises
    ------
    ParameterError
        If the structure belongs to another model, or the folder holds anything else.

    Examples
    --------
    >>> write_structured_checkpoint(model, structure, Path("half")).sparsity  # doctest: +SKIP
    0.5
    """
    require_target(folder)
    small = shrink_model(model, structure)
    with replace_folder(folder) as partial:
        writer = _CheckpointWriter(small.language, partial)
        writer.write_others()
        writer.weights, writer.kept_weights = _count_weights(model), _count_weights(small)
        # The kept weights were counted as other weights, in the same dtype.
        writer.packed_bytes = writer.kept_weights * writer.value_bits // 8
        writer.other_bytes -= writer.packed_bytes
        return writer.finish(model, {"structure": structure.to_record(), **(about or {})})


def load_sparse_checkpoint(folder: Path, *, device: str = "cpu") -> FrozenModel:
    """Load a model whose language model is a sparse checkpoint.

    Parameters
    ----------
    folder : Path
        A folder from :func:`write_sparse_checkpoint` or :func:`write_structured_checkpoint`. The
        model that it was made from must be available: it supplies encoder, connector and tokenizer.
    device : str
        Device of the model.

    Returns
    -------
    FrozenModel
        The pruned model, bit for bit. Its name is the folder.

    Raises
    ------
    ModelError
        If the checkpoint is damaged, or the model that it was made from now has other weights.

    Examples
    --------
    >>> load_sparse_checkpoint(Path("my-subnet")).name  # doctest: +SKIP
    'my-subnet'
    """
    record = _read_record(folder)
    model = load_model(record["model"], device=device)
    if model.weights_hash != record["weights_hash"]:
        raise ModelError(
            f"{folder} was made from {record['model']!r} with weights {record['weights_hash']}; "
            f"its weights are now {model.weights_hash}. Make the checkpoint again: "
            f"ima subnet {record['model']} --out …"
        )
    if "structure" in record:
        model = shrink_model(model, KeptStructure.from_record(record["structure"]))
    state = model.language.state_dict()
    try:
        for part, digest in record["sha256"].items():
            zoo.verify_weights(folder / part, expected=digest)
            with safe_open(folder / part, framework="pt") as file, torch.no_grad():
                for key in file.keys():  # noqa: SIM118 - the file is no mapping
                    name, _, suffix = key.rpartition(".")
                    if f".{suffix}" == _VALUES:
                        state[name].copy_(_unpack_weight(file, name, state[name].shape))
                    elif f".{suffix}" not in {_BITS, _DEFLATED}:
                        state[key].copy_(file.get_tensor(key))
    except (SafetensorError, KeyError, ValueError, zlib.error) as error:
        raise ModelError(
            f"The sparse checkpoint {folder} is damaged: {error}. Make it again."
        ) from error
    return replace(model, name=str(folder), weights_hash=hash_file(folder / SPARSE_RECORD_FILE))


class _CheckpointWriter:
    """Writes a language model block by block and adds up its size."""

    def __init__(self, language: nn.Module, folder: Path) -> None:
        self.state = language.state_dict(keep_vars=True)
        self.folder = folder
        # Tied weights are written once, under their first name.
        first_names: dict[int, str] = {}
        for name, tensor in self.state.items():
            first_names.setdefault(id(tensor), name)
        self.unwritten = set(first_names.values())
        self.sha256: dict[str, str] = {}
        self.weights = self.kept_weights = self.value_bits = 0
        self.packed_bytes = self.other_bytes = 0

    def write_block(
        self,
        layer: int,
        prefix: str,
        block: nn.Module,
        kept: Mapping[str, npt.NDArray[np.bool_]],
        updates: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        """Write one block: its pruned layers packed, its other weights as they are."""
        tensors: dict[str, Tensor] = {}
        # A file holds a weight as its layer does: GPT-2's hold the transpose.
        flips = {name: isinstance(block.get_submodule(name), Conv1D) for name in kept}
        masks = {f"{n}.weight": mask.T if flips[n] else mask for n, mask in kept.items()}
        for key, tensor in block.state_dict(keep_vars=True).items():
            name = f"{prefix}.{key}"
            if key in masks:
                weight = tensor.detach()
                if (linear := key.removesuffix(".weight")) in updates:
                    update = torch.from_numpy(updates[linear]).to(weight.dtype)
                    weight = update.T if flips[linear] else update
                tensors |= self._pack(name, weight, masks[key])
            elif name in self.unwritten:
                tensors[name] = self._prepare(tensor)
            self.unwritten.discard(name)
        self._save(tensors, f"block-{layer:03d}.safetensors")

    def write_others(self) -> None:
        """Write the weights outside the blocks that were written: embeddings and the last norm."""
        tensors = {n: self._prepare(self.state[n]) for n in self.state if n in self.unwritten}
        self._save(tensors, "others.safetensors")

    def finish(self, model: FrozenModel, details: Mapping[str, Any]) -> CheckpointSize:
        """Write the record of a checkpoint made from a model, and return the size."""
        size = CheckpointSize(
            weights=self.weights,
            kept_weights=self.kept_weights,
            value_bits=self.value_bits,
            packed_bytes=self.packed_bytes,
            file_bytes=sum((self.folder / name).stat().st_size for name in self.sha256),
            dense_bytes=self.other_bytes + self.weights * self.value_bits // 8,
        )
        record = {
            "schema": _SCHEMA,
            "schema_version": _SCHEMA_VERSION,
            "model": model.name,
            "weights_hash": model.weights_hash,
            "sha256": self.sha256,
            "sparsity": size.sparsity,
            **details,
        }
        write_json(self.folder / SPARSE_RECORD_FILE, record)
        return size

    def _pack(self, name: str, weight: Tensor, kept: npt.NDArray[np.bool_]) -> dict[str, Tensor]:
        packed = _pack_weight(name, weight, kept)
        self.weights += weight.numel()
        self.kept_weights += int(kept.sum())
        self.packed_bytes += sum(part.nbytes for part in packed.values())
        self.value_bits = max(self.value_bits, 8 * packed[name + _VALUES].element_size())
        return packed

    def _prepare(self, tensor: Tensor) -> Tensor:
        short = _cast_to_shortest_dtype(tensor.detach()).contiguous().cpu()
        self.other_bytes += short.nbytes
        if short.is_floating_point():
            self.value_bits = max(self.value_bits, 8 * short.element_size())
        return short

    def _save(self, tensors: Mapping[str, Tensor], name: str) -> None:
        metadata = {"schema": _SCHEMA, "schema_version": _SCHEMA_VERSION}
        save_file(dict(tensors), str(self.folder / name), metadata=metadata)
        self.sha256[name] = hash_file(self.folder / name)


def _pack_weight(name: str, weight: Tensor, kept: npt.NDArray[np.bool_]) -> dict[str, Tensor]:
    """Pack a weight into its kept values and its mask, eight weights a byte, or deflated."""
    bits = np.packbits(kept.ravel())
    deflated = np.frombuffer(zlib.compress(bits.tobytes(), 9), dtype=np.uint8)
    suffix, mask = (_DEFLATED, deflated) if len(deflated) < len(bits) else (_BITS, bits)
    values = _cast_to_shortest_dtype(weight.cpu()[torch.from_numpy(kept)])
    return {name + _VALUES: values, name + suffix: torch.from_numpy(mask.copy())}


def _unpack_weight(file: Any, name: str, shape: torch.Size) -> Tensor:
    """Return a weight that :func:`_pack_weight` packed, zero where removed."""
    values = file.get_tensor(name + _VALUES)
    if name + _BITS in file.keys():  # noqa: SIM118 - the file is no mapping
        bits = file.get_tensor(name + _BITS).numpy()
    else:
        deflated = file.get_tensor(name + _DEFLATED).numpy().tobytes()
        bits = np.frombuffer(zlib.decompress(deflated), dtype=np.uint8)
    kept = torch.from_numpy(np.unpackbits(bits, count=shape.numel()).astype(bool))
    weight = torch.zeros(kept.numel(), dtype=values.dtype)
    weight[kept] = values
    return weight.reshape(shape)


def _cast_to_shortest_dtype(values: Tensor) -> Tensor:
    """Return values in float16 or bfloat16 if that loses nothing, else as they are."""
    if values.is_floating_point() and values.element_size() > 2:
        for dtype in (torch.float16, torch.bfloat16):
            if torch.equal(values.to(dtype).to(values.dtype), values):
                return values.to(dtype)
    return values


def _count_weights(model: FrozenModel) -> int:
    return sum(
        get_linear(block, name).weight.numel()
        for block in model.hook_points.blocks
        for name in model.hook_points.linear_in_features
    )


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = read_json(folder / SPARSE_RECORD_FILE)
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(
            f"No sparse checkpoint at {folder}: {error}. `ima subnet` makes one."
        ) from error
    schema, version = record.get("schema"), record.get("schema_version")
    if (schema, version) != (_SCHEMA, _SCHEMA_VERSION):
        raise ModelError(
            f"{folder} holds {schema!r} {version!r}, not {_SCHEMA!r} {_SCHEMA_VERSION!r}. "
            "Make it again."
        )
    return record


def require_target(folder: Path) -> None:
    """Refuse a folder for a checkpoint that holds something else.

    Raises
    ------
    ParameterError
        If it is not empty and no sparse checkpoint.

    Examples
    --------
    >>> require_target(Path("a folder that does not exist"))
    """
    if folder.exists() and not (folder / SPARSE_RECORD_FILE).is_file() and any(folder.iterdir()):
        raise ParameterError(f"{folder} exists and is no sparse checkpoint. Choose another folder.")


def _check_masks(model: FrozenModel, masks: BlockMasks) -> None:
    weights_hash = masks.attributes.get("weights_hash")
    if set(masks.names) != set(model.hook_points.linear_in_features):
        raise ParameterError(
            f"The masks cover the layers {', '.join(sorted(masks.names))}; {model.name!r} has "
            f"{', '.join(model.hook_points.linear_in_features)}."
        )
    if weights_hash not in {None, model.weights_hash}:
        raise ParameterError(
            f"The masks were made from a model with weights {weights_hash}; {model.name!r} has "
            f"{model.weights_hash}. Make masks from this model."
        )


def _check_shapes(block: nn.Module, kept: Mapping[str, npt.NDArray[np.bool_]]) -> None:
    for name, mask in kept.items():
        shape = tuple(get_weight(get_linear(block, name)).shape)
        if shape != mask.shape:
            raise ParameterError(f"The mask of {name} has shape {mask.shape}, its weights {shape}.")
