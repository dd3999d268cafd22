"""ONNX: the initialisers of an exported DINOv2 become the folder of a ``Dinov2Model``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ima.errors import PartError
from ima.models.conversion.checkpoint import build_model, silence_transformers

#: Weights of linear layers have no names of their own; the nodes that read them do.
_LINEAR_NODE = re.compile(r"^/backbone/(?P<layer>encoder/.*)/MatMul$")
_PREFIX = "backbone."
_POSITION_NODE = re.compile(r"^/backbone/embeddings/(Reshape|Concat)(_\d+)?$")
_POSITIONS = "embeddings.position_embeddings"
_IMAGE_SIZE = 224
_HEAD_SIZE = 64
#: Mean and standard deviation of ImageNet's pixels.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def convert_dinov2(members: Mapping[str, Path], folder: Path) -> None:
    """Write the folder of the DINOv2 backbone inside an exported model; a decoder is dropped.

    Parameters
    ----------
    members : mapping of str to Path
        One ONNX file, whose backbone was exported from ``Dinov2Model``.
    folder : Path
        Where to write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``
        (224 pixels, the mean and standard deviation of ImageNet).

    Raises
    ------
    PartError
        If the file holds no such backbone.

    Examples
    --------
    >>> convert_dinov2({"model.onnx": path}, folder)  # doctest: +SKIP
    """
    import onnx
    import torch
    from transformers import BitImageProcessorPil, Dinov2Model

    (path,) = members.values()
    weights = dict(_read_weights(onnx.load(str(path)).graph))
    config = _infer_config(weights)
    # The token of masked patches is needed in training only; exports leave it out.
    weights.setdefault("embeddings.mask_token", torch.zeros(1, config.hidden_size))
    with silence_transformers():
        build_model(Dinov2Model, config, weights).save_pretrained(folder)
        BitImageProcessorPil(
            size={"shortest_edge": _IMAGE_SIZE},
            crop_size={"height": _IMAGE_SIZE, "width": _IMAGE_SIZE},
            image_mean=_MEAN,
            image_std=_STD,
        ).save_pretrained(folder)


def _read_weights(graph: Any) -> Iterator[tuple[str, Any]]:
    """Yield the backbone's weights under the names of ``Dinov2Model``."""
    import torch
    from onnx import numpy_helper

    arrays = {
        entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy())
        for entry in graph.initializer
    }
    for name, array in arrays.items():
        if name.startswith(_PREFIX):
            yield name.removeprefix(_PREFIX), array
    positions = []
    for node in graph.node:
        read = [arrays[name] for name in node.input if name in arrays]
        if (found := _LINEAR_NODE.match(node.name)) and len(read) == 1:
            layer = found["layer"].replace("/", ".")
            yield f"{layer}.weight", read[0].T.contiguous()
        elif _POSITION_NODE.match(node.name):
            positions += [array for array in read if array.ndim == 3 and array.shape[0] == 1]
    if positions:
        # One position of the class token, and those of the patches.
        yield _POSITIONS, torch.cat(sorted(positions, key=lambda array: array.shape[1]), dim=1)


def _infer_config(weights: Mapping[str, Any]) -> Any:
    from transformers import Dinov2Config

    try:
        projection = weights["embeddings.patch_embeddings.projection.weight"]
        n_positions = weights[_POSITIONS].shape[1] - 1
        hidden = projection.shape[0]
        inner = weights["encoder.layer.0.mlp.fc1.bias"].shape[0]
    except KeyError as error:
        raise PartError(f"The ONNX file holds no DINOv2 backbone: no weight {error}.") from error
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layer.")}
    patch = projection.shape[-1]
    return Dinov2Config(
        hidden_size=hidden,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, hidden // _HEAD_SIZE),
        mlp_ratio=inner // hidden,
        patch_size=patch,
        image_size=patch * round(n_positions**0.5),
    )
