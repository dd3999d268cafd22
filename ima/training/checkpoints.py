"""Weights on disk: float16 safetensors, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ima.files import replace_file


def save_weights(state: Mapping[str, Any], path: Path) -> None:
    """Write a state dict as float16 safetensors."""
    import torch
    from safetensors.torch import save_file

    halves = {
        name: (tensor.to(torch.float16) if tensor.is_floating_point() else tensor)
        .contiguous()
        .cpu()
        for name, tensor in state.items()
    }
    with replace_file(path) as partial:
        save_file(halves, str(partial), metadata={"format": "pt"})
