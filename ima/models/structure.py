"""Structure: which neurons and groups of heads a smaller copy of a model keeps.

Heads that share their keys and values stay or leave together.
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
from ima.models.hook_points import find_anatomy

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

FeatureIndices = npt.NDArray[np.int64]
_OUT, _DOWN = {"o_proj", "out_proj"}, {"down_proj", "fc2"}


@dataclass(frozen=True, eq=False)
class KeptStructure:
    """Which neurons and which groups of heads stay.

    Parameters
    ----------
    neurons : sequence of ndarray
        By layer, kept neurons of the FFN, in order.
    groups : sequence of ndarray
        By layer, kept groups of heads that share keys and values, in order.
    """

    neurons: Sequence[FeatureIndices]
    groups: Sequence[FeatureIndices]

    def record(self) -> dict[str, list[list[int]]]:
        """Return it as JSON holds it."""
        return {
            "neurons": [places.tolist() for places in self.neurons],
            "groups": [places.tolist() for places in self.groups],
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> KeptStructure:
        """Return what :meth:`record` gave."""
        neurons, groups = (
            [np.asarray(places, dtype=np.int64) for places in record[name]]
            for name in ("neurons", "groups")
        )
        return cls(neurons, groups)


@dataclass(frozen=True)
class LayerRoles:
    """Linear layers of a block by what they do."""

    ups: tuple[str, ...]
    down: str
    query: str
    keys: tuple[str, ...]
    out: str


def layer_roles(model: FrozenModel) -> LayerRoles:
    """Return which linear layer of a block does what.

    Raises
    ------
    ModelError
        If the names of the layers do not tell.
    """
    inside = f"{model.anatomy.attention}."
    attention = {n.rpartition(".")[2]: n for n in model.anatomy.linears if n.startswith(inside)}
    network = {n.rpartition(".")[2]: n for n in model.anatomy.linears if not n.startswith(inside)}
    down, out = _DOWN & set(network), _OUT & set(attention)
    if len(down) != 1 or len(out) != 1 or not {"q_proj", "k_proj", "v_proj"} <= set(attention):
        message = (
            f"Neurons and heads of {model.name!r} cannot be told apart by the names of its linear "
            f"layers: {', '.join(model.anatomy.linears)}. Remove single weights instead."
        )
        raise ModelError(message)
    last = network[down.pop()]
    return LayerRoles(
        ups=tuple(name for name in network.values() if name != last),
        down=last,
        query=attention["q_proj"],
        keys=(attention["k_proj"], attention["v_proj"]),
        out=attention[out.pop()],
    )


def attention_of(model: FrozenModel, at: int) -> Any:
    """Return the attention module of a block, counted from 0."""
    return model.anatomy.blocks[at].get_submodule(model.anatomy.attention)


@torch.no_grad()
def shrink_model(model: FrozenModel, structure: KeptStructure) -> FrozenModel:
    """Return a copy of a model without the neurons and heads that a structure leaves out.

    Parameters
    ----------
    model : FrozenModel
        Unchanged.
    structure : Structure
        What stays.

    Returns
    -------
    FrozenModel
        With smaller linear layers; it computes what the whole one computes with zeros in the place
        of what left.

    Raises
    ------
    ParameterError
        If the structure is of another model.
    """
    names, language = layer_roles(model), copy.deepcopy(model.language)
    small = replace(model, language=language, anatomy=find_anatomy(language))
    if len(structure.neurons) != model.layers or len(structure.groups) != model.layers:
        message = f"The structure is of {len(structure.neurons)} layers, not {model.layers}."
        raise ParameterError(message)
    for at, block in enumerate(small.anatomy.blocks):
        neurons = torch.from_numpy(structure.neurons[at])
        attention = attention_of(small, at)
        width = int(attention.head_dim)
        asked: Any = block.get_submodule(names.keys[0])
        asks: Any = block.get_submodule(names.query)
        heads_each = int(asks.out_features // asked.out_features)
        groups = torch.from_numpy(structure.groups[at])
        asking = _spread(groups, heads_each * width)
        for name in names.ups:
            _cut(block, name, rows=neurons)
        _cut(block, names.down, columns=neurons)
        for name in names.keys:
            _cut(block, name, rows=_spread(groups, width))
        _cut(block, names.query, rows=asking)
        _cut(block, names.out, columns=asking)
        # Classes that lay out heads by a number of their own.
        if hasattr(attention, "num_heads"):
            attention.num_heads = len(asking) // width
    return small


def _spread(places: Tensor, width: int) -> Tensor:
    """Return the features of places that are so many features wide."""
    return (places[:, None] * width + torch.arange(width)).reshape(-1)


def _cut(
    block: nn.Module, name: str, *, rows: Tensor | None = None, columns: Tensor | None = None
) -> None:
    linear: Any = block.get_submodule(name)
    chosen = rows if columns is None else columns
    assert chosen is not None
    dim, size = (0, linear.out_features) if columns is None else (1, linear.in_features)
    if len(chosen) == 0 or int(chosen.max()) >= size:
        message = f"The structure does not fit {name}, which has {size} places."
        raise ParameterError(message)
    chosen = chosen.to(linear.weight.device)
    weight = linear.weight.index_select(dim, chosen)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if dim == 0 and linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.index_select(0, chosen), requires_grad=False)
    linear.out_features, linear.in_features = weight.shape
