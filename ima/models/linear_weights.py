"""Weights of the linear layers of a model's blocks, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel


def get_linear_weights(model: FrozenModel) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of the blocks' linear layers, ``(layer, out_features, in_features)``."""
    blocks = [get_block_weights(model, layer) for layer in range(1, model.layers + 1)]
    return {name: np.stack([one[name] for one in blocks]) for name in model.anatomy.linears}


def get_block_weights(model: FrozenModel, layer: int) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of one block's linear layers, ``(out_features, in_features)``."""
    names = tuple(model.anatomy.linears)
    block = model.anatomy.blocks[layer - 1]
    found = {}
    for name in names:
        linear: Any = block.get_submodule(name)
        found[name] = linear.weight.detach().float().cpu().numpy()
    return found
