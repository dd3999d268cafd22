"""EfficientNet-Lite: a checkpoint of PyTorch becomes the folder of an ``EfficientNetModel``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ima.errors import PartError
from ima.models.conversion.checkpoint import build_model, silence_transformers

_IMAGE_SIZE = 224
#: From here on the sigmoid is exactly one in float32, float16 and bfloat16.
_SATURATED = 64.0
#: So small that each gate has one unit.
_GATE_RATIO = 1e-4
_HEAD = "_fc."
_OUTER = {
    "_conv_stem.": "embeddings.convolution.",
    "_bn0.": "embeddings.batchnorm.",
    "_conv_head.": "encoder.top_conv.",
    "_bn1.": "encoder.top_bn.",
}
_INNER = {
    "_expand_conv.": "expansion.expand_conv.",
    "_bn0.": "expansion.expand_bn.",
    "_depthwise_conv.": "depthwise_conv.depthwise_conv.",
    "_bn1.": "depthwise_conv.depthwise_norm.",
    "_project_conv.": "projection.project_conv.",
    "_bn2.": "projection.project_bn.",
}


def convert_efficientnet_lite(members: Mapping[str, Path], folder: Path) -> None:
    """Write the folder of EfficientNet-Lite0; its classifier is dropped.

    The Lite networks have no squeeze-and-excitation gates and use ReLU6. transformers' class has
    gates, so theirs are saturated: weights of zero and a bias whose sigmoid is exactly one.

    Parameters
    ----------
    members : mapping of str to Path
        One checkpoint; only its tensors are read, nothing in it is run.
    folder : Path
        Where to write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``
        (224 pixels, ``(x - 127) / 128``).

    Raises
    ------
    PartError
        If the checkpoint is of another network.

    Examples
    --------
    >>> convert_efficientnet_lite({"efficientnet-lite0.pth": path}, folder)  # doctest: +SKIP
    """
    import torch
    from transformers import BitImageProcessorPil, EfficientNetModel

    (path,) = members.values()
    weights = dict(_rename(torch.load(path, map_location="cpu", weights_only=True)))
    config = _infer_config(weights)
    with torch.device("meta"):
        shapes = EfficientNetModel(config).state_dict()
    for name, value in shapes.items():
        if ".squeeze_excite." in name:
            bias = _SATURATED if name.endswith("expand.bias") else 0.0
            weights[name] = torch.full(value.shape, bias)
    with silence_transformers():
        build_model(EfficientNetModel, config, weights).save_pretrained(folder)
        BitImageProcessorPil(
            size={"shortest_edge": _IMAGE_SIZE},
            crop_size={"height": _IMAGE_SIZE, "width": _IMAGE_SIZE},
            image_mean=[127 / 255] * 3,
            image_std=[128 / 255] * 3,
        ).save_pretrained(folder)


def _rename(weights: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in weights.items():
        if name.startswith(_HEAD):
            continue
        prefix, names, rest = "", _OUTER, name
        if name.startswith("_blocks."):
            _, block, rest = name.split(".", 2)
            prefix, names = f"encoder.blocks.{block}.", _INNER
        for theirs, ours in names.items():
            if rest.startswith(theirs):
                yield prefix + ours + rest.removeprefix(theirs), value
                break
        else:
            raise PartError(f"The checkpoint is no EfficientNet-Lite0: unknown weight {name}.")


def _infer_config(weights: Mapping[str, Any]) -> Any:
    """Read how often each stage repeats its block; the rest of Lite0 is that of B0."""
    from transformers import EfficientNetConfig

    try:
        top = weights["encoder.top_conv.weight"].shape[0]
    except KeyError as error:
        raise PartError(f"The checkpoint is no EfficientNet-Lite0: no weight {error}.") from error
    return EfficientNetConfig(
        image_size=_IMAGE_SIZE,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=top,
        hidden_act="relu6",
        squeeze_expansion_ratio=_GATE_RATIO,
    )
