"""Compressed checkpoints: of pruned layers a bit for each weight, and the values kept (I4).

A weight that is kept costs its own bits and one of the mask; one that is removed, the one of the
mask: ``(1 - s) b + 1`` bits a weight at sparsity s. Where the mask's own entropy is below one bit,
deflating it can go below that; the shorter of the two forms is stored.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ima.errors import ModelError, ParameterError
from ima.miniature.storage import read_json, replace_file, write_json
from ima.models import load, zoo

if TYPE_CHECKING:
    from ima.interventions.masks import Masks
    from ima.models import FrozenModel

SCHEMA, VERSION = "ima-subnet", "1"
RECORD, WEIGHTS = "subnet.json", "subnet.weights"
_KEPT, _BITS, _DEFLATED = "kept", "bits", "deflated"
#: Dtypes in which values are stored if that loses nothing, the shortest first.
_SHORT = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Size:
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


def write(
    model: FrozenModel, masks: Masks, folder: Path, *, about: Mapping[str, Any] | None = None
) -> Size:
    """Write the language model of a model, its pruned layers compressed.

    Parameters
    ----------
    model : FrozenModel
        Its weights are stored as they are where a mask keeps them; it need not have been masked.
    masks : Masks
        Of all linear layers of its blocks.
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
    _check(model, masks, folder)
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    stored = 0
    linears = dict(_linears(model, masks))
    for name, (weight, kept) in linears.items():
        shapes[name] = list(weight.shape)
        tensors |= _packed(name, weight, kept)
        stored += sum(
            tensors[f"{name}.{part}"].nbytes
            for part in (_KEPT, _BITS, _DEFLATED)
            if f"{name}.{part}" in tensors
        )
    pruned = {weight.data_ptr() for weight, _ in linears.values()}
    for name, tensor in _once(model.language.state_dict()).items():
        if tensor.data_ptr() not in pruned:
            tensors[name] = _short(tensor.detach()).contiguous().cpu()
    kept_of = [kept for _, kept in linears.values()]
    weights, held = sum(k.size for k in kept_of), sum(int(k.sum()) for k in kept_of)
    value = tensors[f"{next(iter(linears))}.{_KEPT}"]
    others = sum(tensor.nbytes for name, tensor in tensors.items() if name not in shapes)
    others -= stored
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(folder / WEIGHTS) as partial:
        save_file(tensors, str(partial), metadata={"schema": SCHEMA, "schema_version": VERSION})
    size = Size(
        weights=weights,
        kept=held,
        bits=8 * value.element_size(),
        stored=stored,
        whole=(folder / WEIGHTS).stat().st_size,
        dense=others + weights * value.element_size(),
    )
    record = {
        "schema": SCHEMA,
        "schema_version": VERSION,
        "model": model.name,
        "weights_hash": model.weights_hash,
        "sha256": zoo.sha256(folder / WEIGHTS),
        "sparsity": 1 - held / weights,
        "masks": dict(masks.attributes),
        "shapes": shapes,
        **(about or {}),
    }
    write_json(folder / RECORD, record)
    return size


def is_compressed(folder: Path) -> bool:
    """Return whether a folder holds a compressed checkpoint."""
    return (folder / RECORD).is_file()


def read(folder: Path, *, device: str = "cpu") -> FrozenModel:
    """Load a model whose language model is that of a compressed checkpoint.

    Parameters
    ----------
    folder : Path
        From :func:`write`. What perceives, and the tokenizer, come from the model that it was made
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
    model = load(record["model"], device=device)
    if model.weights_hash != record["weights_hash"]:
        message = (
            f"{folder} was made of {record['model']!r} with weights {record['weights_hash']}; now "
            f"it has {model.weights_hash}. Make it again: ima subnet {record['model']} --out …"
        )
        raise ModelError(message)
    zoo.verify(folder / WEIGHTS, expected=record["sha256"])
    state = model.language.state_dict()
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file, torch.no_grad():
            for name, shape in record["shapes"].items():
                state[name].copy_(_unpacked(file, name, shape))
            parts = tuple(f".{part}" for part in (_KEPT, _BITS, _DEFLATED))
            for name in file.keys():  # noqa: SIM118 - no mapping
                if not name.endswith(parts):
                    state[name].copy_(file.get_tensor(name))
    except (SafetensorError, KeyError, ValueError, zlib.error) as error:
        message = f"The compressed checkpoint {folder} is damaged: {error}. Make it again."
        raise ModelError(message) from error
    return replace(model, name=str(folder), weights_hash=record["sha256"])


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = read_json(folder / RECORD)
    except (OSError, json.JSONDecodeError) as error:
        message = f"No compressed checkpoint at {folder}: {error}. `ima subnet` makes one."
        raise ModelError(message) from error
    found = f"{record.get('schema')!r} {record.get('schema_version')!r}"
    if found != f"{SCHEMA!r} {VERSION!r}":
        message = f"{folder} holds {found}, not {SCHEMA!r} {VERSION!r}. Make it again."
        raise ModelError(message)
    return record


def _check(model: FrozenModel, masks: Masks, folder: Path) -> None:
    if folder.exists() and not is_compressed(folder) and any(folder.iterdir()):
        message = f"{folder} is there and is no compressed checkpoint. Name another folder."
        raise ParameterError(message)
    known = masks.attributes.get("weights_hash")
    if set(masks.kept) != set(model.anatomy.linears):
        found = ", ".join(sorted(masks.kept))
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


def _linears(
    model: FrozenModel, masks: Masks
) -> Iterator[tuple[str, tuple[Tensor, npt.NDArray[np.bool_]]]]:
    names = {tensor.data_ptr(): name for name, tensor in _once(model.language.state_dict()).items()}
    for linear, kept in masks.kept.items():
        for at, block in enumerate(model.anatomy.blocks):
            weight: Any = block.get_submodule(linear).weight
            if tuple(weight.shape) != kept[at].shape:
                message = (
                    f"The mask of {linear} has shape {kept[at].shape}, its weights "
                    f"{tuple(weight.shape)}."
                )
                raise ParameterError(message)
            yield names[weight.data_ptr()], (weight.detach(), kept[at])


def _once(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without second names of the same weights."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        found.setdefault(tensor.data_ptr(), (name, tensor))
    return dict(found.values())


def _short(values: Tensor) -> Tensor:
    """Return values in the shortest dtype that holds them exactly."""
    if not values.is_floating_point():
        return values
    for dtype in _SHORT:
        if values.element_size() > 2 and torch.equal(values.to(dtype).to(values.dtype), values):
            return values.to(dtype)
    return values


def _packed(name: str, weight: Tensor, kept: npt.NDArray[np.bool_]) -> dict[str, Tensor]:
    bits = np.packbits(kept.ravel())
    deflated = np.frombuffer(zlib.compress(bits.tobytes(), 9), dtype=np.uint8)
    short = len(deflated) < len(bits)
    chosen = torch.from_numpy((deflated if short else bits).copy())
    values = _short(weight.cpu()[torch.from_numpy(kept)])
    return {f"{name}.{_KEPT}": values, f"{name}.{_DEFLATED if short else _BITS}": chosen}


def _unpacked(file: Any, name: str, shape: list[int]) -> Tensor:
    values = file.get_tensor(f"{name}.{_KEPT}")
    if f"{name}.{_BITS}" not in set(file.keys()):
        packed = zlib.decompress(file.get_tensor(f"{name}.{_DEFLATED}").numpy().tobytes())
        bits = np.frombuffer(packed, dtype=np.uint8)
    else:
        bits = file.get_tensor(f"{name}.{_BITS}").numpy()
    kept = torch.from_numpy(np.unpackbits(bits, count=int(np.prod(shape))).astype(bool))
    found = torch.zeros(kept.numel(), dtype=values.dtype)
    found[kept] = values
    return found.reshape(shape)
