"""Linear layers of a model's blocks: their weights, their roles, and copies with fewer features.

A smaller copy drops whole neurons of the FFN and whole attention heads. Heads that share keys and
values form a group; a group is kept or dropped as a whole.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ima.errors import ModelError, ParameterError
from ima.models.hook_point_search import find_hook_points
from ima.models.hook_points import get_weight

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

FeatureIndices = npt.NDArray[np.int64]
_OUT_NAMES, _DOWN_NAMES = {"o_proj", "out_proj"}, {"down_proj", "fc2"}


def get_linear(block: nn.Module, name: str) -> nn.Linear:
    """Return a linear layer of a block by its name.

    Examples
    --------
    >>> get_linear(nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(2, 3))}), "mlp.0")
    Linear(in_features=2, out_features=3, bias=True)
    """
    linear: Any = block.get_submodule(name)
    return linear  # type: ignore[no-any-return]


def get_block_weights(model: FrozenModel, layer: int) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of the linear layers of one block.

    Parameters
    ----------
    model : FrozenModel
        The model.
    layer : int
        Number of the block, from 1.

    Returns
    -------
    dict of str to ndarray
        By linear layer ``(out_features, in_features)``.

    Examples
    --------
    >>> get_block_weights(load_model("llama-mini"), 1)["mlp.up_proj"].shape  # doctest: +SKIP
    (352, 128)
    """
    # The names are read from the first block, which may not be in memory with this one.
    names = tuple(model.hook_points.linear_in_features)
    block = model.hook_points.blocks[layer - 1]
    weights = {name: get_weight(get_linear(block, name)).detach() for name in names}
    return {name: weight.float().cpu().numpy() for name, weight in weights.items()}


def get_linear_weights(model: FrozenModel) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of the linear layers of all blocks.

    Returns
    -------
    dict of str to ndarray
        By linear layer ``(layer, out_features, in_features)``.

    Examples
    --------
    >>> get_linear_weights(load_model("llama-mini"))["mlp.up_proj"].shape  # doctest: +SKIP
    (12, 352, 128)
    """
    blocks = [get_block_weights(model, layer) for layer in range(1, model.layers + 1)]
    return {
        name: np.stack([block[name] for block in blocks])
        for name in model.hook_points.linear_in_features
    }


@dataclass(frozen=True)
class LayerRoles:
    """Names of a block's linear layers by their role.

    Parameters
    ----------
    ups : tuple of str
        FFN layers that read the residual stream.
    down : str
        FFN layer that writes to the residual stream.
    query : str
        Query projection.
    keys : tuple of str
        Key and value projections.
    out : str
        Output projection of attention.
    """

    ups: tuple[str, ...]
    down: str
    query: str
    keys: tuple[str, ...]
    out: str


def find_layer_roles(model: FrozenModel) -> LayerRoles:
    """Find the role of each linear layer from its name.

    Raises
    ------
    ModelError
        If the names do not determine the roles.

    Examples
    --------
    >>> find_layer_roles(load_model("llama-mini")).down  # doctest: +SKIP
    'mlp.down_proj'
    """
    prefix = f"{model.hook_points.attention}."
    names = model.hook_points.linear_in_features
    attention, ffn = (
        {name.rpartition(".")[2]: name for name in names if name.startswith(prefix) == inside}
        for inside in (True, False)
    )
    down, out = _DOWN_NAMES & set(ffn), _OUT_NAMES & set(attention)
    if len(down) != 1 or len(out) != 1 or not {"q_proj", "k_proj", "v_proj"} <= set(attention):
        raise ModelError(
            f"The names of the linear layers of {model.name!r} do not tell neurons from heads: "
            f"{', '.join(model.hook_points.linear_in_features)}. Remove single weights instead."
        )
    down_name = ffn[down.pop()]
    return LayerRoles(
        ups=tuple(name for name in ffn.values() if name != down_name),
        down=down_name,
        query=attention["q_proj"],
        keys=(attention["k_proj"], attention["v_proj"]),
        out=attention[out.pop()],
    )


def get_attention(model: FrozenModel, index: int) -> Any:
    """Return the attention module of a block, counted from 0.

    Examples
    --------
    >>> get_attention(load_model("llama-mini"), 0).head_dim  # doctest: +SKIP
    32
    """
    return model.hook_points.get_attention(index)


@dataclass(frozen=True, eq=False)
class KeptStructure:
    """Neurons and groups of heads that a smaller copy of a model keeps.

    Parameters
    ----------
    neurons : sequence of ndarray
        By layer, sorted indices of the kept FFN neurons.
    groups : sequence of ndarray
        By layer, sorted indices of the kept groups of heads that share keys and values.
    """

    neurons: Sequence[FeatureIndices]
    groups: Sequence[FeatureIndices]

    def to_record(self) -> dict[str, list[list[int]]]:
        """Return the structure as JSON values."""
        return {
            "neurons": [indices.tolist() for indices in self.neurons],
            "groups": [indices.tolist() for indices in self.groups],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> KeptStructure:
        """Build a structure from the values that :meth:`to_record` returned."""
        neurons, groups = (
            [np.asarray(indices, dtype=np.int64) for indices in record[name]]
            for name in ("neurons", "groups")
        )
        return cls(neurons, groups)


@torch.no_grad()
def shrink_model(model: FrozenModel, structure: KeptStructure) -> FrozenModel:
    """Copy a model without the neurons and heads that a structure drops.

    Parameters
    ----------
    model : FrozenModel
        The full model; unchanged afterwards.
    structure : KeptStructure
        Neurons and groups of heads to keep.

    Returns
    -------
    FrozenModel
        A model with smaller linear layers. It computes what the full model computes with the
        dropped features set to zero.

    Raises
    ------
    ParameterError
        If the structure belongs to another model.

    Examples
    --------
    >>> model = load_model("llama-mini")  # doctest: +SKIP
    >>> half = KeptStructure([np.arange(176)] * 12, [np.arange(2)] * 12)  # doctest: +SKIP
    >>> get_block_weights(shrink_model(model, half), 1)["mlp.up_proj"].shape  # doctest: +SKIP
    (176, 128)
    """
    roles, language = find_layer_roles(model), copy.deepcopy(model.language)
    small = replace(model, language=language, hook_points=find_hook_points(language))
    if len(structure.neurons) != model.layers or len(structure.groups) != model.layers:
        raise ParameterError(
            f"The structure has {len(structure.neurons)} layers, the model {model.layers}."
        )
    for index, block in enumerate(small.hook_points.blocks):
        neurons = torch.from_numpy(structure.neurons[index])
        groups = torch.from_numpy(structure.groups[index])
        attention = get_attention(small, index)
        width = int(attention.head_dim)
        query, key = get_linear(block, roles.query), get_linear(block, roles.keys[0])
        heads_per_group = query.out_features // key.out_features
        query_features = _expand_to_features(groups, heads_per_group * width)
        for name in roles.ups:
            _select_features(block, name, neurons, dim=0)
        _select_features(block, roles.down, neurons, dim=1)
        for name in roles.keys:
            _select_features(block, name, _expand_to_features(groups, width), dim=0)
        _select_features(block, roles.query, query_features, dim=0)
        _select_features(block, roles.out, query_features, dim=1)
        # Some classes reshape by a stored number of heads.
        if hasattr(attention, "num_heads"):
            attention.num_heads = len(query_features) // width
    return small


def _expand_to_features(indices: Tensor, width: int) -> Tensor:
    """Return the features of heads or groups that are ``width`` features wide."""
    return (indices[:, None] * width + torch.arange(width)).reshape(-1)


def _select_features(block: nn.Module, name: str, indices: Tensor, *, dim: int) -> None:
    """Keep some output (dim 0) or input (dim 1) features of a linear layer."""
    linear = get_linear(block, name)
    size = linear.weight.shape[dim]
    if len(indices) == 0 or int(indices.max()) >= size:
        raise ParameterError(f"The structure does not fit {name}, which has {size} features.")
    indices = indices.to(linear.weight.device)
    weight = linear.weight.index_select(dim, indices)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if dim == 0 and linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.index_select(0, indices), requires_grad=False)
    linear.out_features, linear.in_features = weight.shape
