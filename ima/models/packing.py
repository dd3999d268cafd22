"""Packing of pruned weights (I4): the values that stay, and a bit for each weight."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: Ends of the names of what is stored of a weight: kept values, and the mask, plain or deflated.
PACKED_PARTS = ("kept", "bits", "deflated")
KEPT_VALUES, _MASK_BITS, _MASK_DEFLATED = PACKED_PARTS
#: Dtypes in which values are stored if that loses nothing, the shortest first.
_SHORT = (torch.float16, torch.bfloat16)


def cast_to_shortest_dtype(values: Tensor) -> Tensor:
    """Return values in the shortest dtype that holds them exactly."""
    if not values.is_floating_point():
        return values
    for dtype in _SHORT:
        if values.element_size() > 2 and torch.equal(values.to(dtype).to(values.dtype), values):
            return values.to(dtype)
    return values


def pack_weight(name: str, weight: Tensor, kept: npt.NDArray[np.bool_]) -> dict[str, Tensor]:
    """Pack a pruned weight.

    Parameters
    ----------
    name : str
        Of the weight.
    weight : Tensor
        ``(out_features, in_features)``.
    kept : ndarray
        The same shape, bool.

    Returns
    -------
    dict of str to Tensor
        Under names with :data:`PACKED_PARTS` at their ends: kept values in the shortest dtype that loses
        nothing, and eight weights a byte, deflated where that is shorter.
    """
    bits = np.packbits(kept.ravel())
    deflated = np.frombuffer(zlib.compress(bits.tobytes(), 9), dtype=np.uint8)
    smaller = len(deflated) < len(bits)
    chosen = torch.from_numpy((deflated if smaller else bits).copy())
    values = cast_to_shortest_dtype(weight.cpu()[torch.from_numpy(kept)])
    return {
        f"{name}.{KEPT_VALUES}": values,
        f"{name}.{_MASK_DEFLATED if smaller else _MASK_BITS}": chosen,
    }


def unpack_weight(file: Any, name: str, shape: list[int]) -> Tensor:
    """Return a weight that :func:`pack_weight` packed, zero where removed.

    Parameters
    ----------
    file : safe_open
        What holds it.
    name : str
        Of the weight.
    shape : list of int
        Its shape.
    """
    values = file.get_tensor(f"{name}.{KEPT_VALUES}")
    if f"{name}.{_MASK_BITS}" not in set(file.keys()):
        packed = zlib.decompress(file.get_tensor(f"{name}.{_MASK_DEFLATED}").numpy().tobytes())
        bits = np.frombuffer(packed, dtype=np.uint8)
    else:
        bits = file.get_tensor(f"{name}.{_MASK_BITS}").numpy()
    kept = torch.from_numpy(np.unpackbits(bits, count=int(np.prod(shape))).astype(bool))
    found = torch.zeros(kept.numel(), dtype=values.dtype)
    found[kept] = values
    return found.reshape(shape)
