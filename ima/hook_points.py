"""Hook points: the places in a block whose activations are captured, and the kinds of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

HOOK_POINTS: tuple[str, ...] = (
    "ln1",
    "attn_out",
    "resid_mid",
    "ln2",
    "mlp_post",
    "mlp_out",
    "resid_post",
)
TOKEN_KINDS: tuple[str, ...] = ("perceptual", "textual")

HOOK_POINT_DESCRIPTIONS: Mapping[str, str] = {
    "ln1": "output of the first layer norm, the input of attention",
    "attn_out": "output of attention before the residual addition",
    "resid_mid": "residual stream after attention",
    "ln2": "output of the second layer norm, the input of the feed-forward network",
    "mlp_post": "hidden units of the feed-forward network after the activation",
    "mlp_out": "output of the feed-forward network before the residual addition",
    "resid_post": "residual stream after the block, before any final norm; layer 0 is the input",
}


def list_hook_point_layers(hook_point: str, layers: int) -> npt.NDArray[np.int32]:
    """Return the layer labels of a hook point in a model of so many blocks.

    Examples
    --------
    >>> layers_of("mlp_post", 3), layers_of("resid_post", 3)
    (array([1, 2, 3], dtype=int32), array([0, 1, 2, 3], dtype=int32))
    """
    return np.arange(0 if hook_point == "resid_post" else 1, layers + 1, dtype="int32")


def order_hook_points(hook_points: Sequence[str]) -> tuple[str, ...]:
    """Return the hook points without repeats in the order of ``HOOK_POINTS``."""
    return tuple(hook_point for hook_point in HOOK_POINTS if hook_point in hook_points)
