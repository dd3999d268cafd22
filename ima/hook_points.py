"""Names of the hook points, where activations of a block are captured, and of the token kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

HOOK_POINT_DESCRIPTIONS: Mapping[str, str] = {
    "ln1": "output of the first layer norm, the input of attention",
    "attn_out": "output of attention before the residual addition",
    "resid_mid": "residual stream after attention",
    "ln2": "output of the second layer norm, the input of the feed-forward network",
    "mlp_post": "hidden units of the feed-forward network after the activation",
    "mlp_out": "output of the feed-forward network before the residual addition",
    "resid_post": "residual stream after the block, before any final norm; layer 0 is the input",
}
#: In the order in which a block computes them.
HOOK_POINTS: tuple[str, ...] = tuple(HOOK_POINT_DESCRIPTIONS)
#: What the parts of a block add or compute, off the residual stream and not its rescaled copy.
OUTPUT_HOOK_POINTS: tuple[str, ...] = ("attn_out", "mlp_post", "mlp_out")
TOKEN_KINDS: tuple[str, ...] = ("perceptual", "textual")
#: A token is a sink if its norm exceeds this multiple of the median norm of its kind in its sample.
SINK_NORM_RATIO = 10.0


def list_hook_point_layers(hook_point: str, layers: int) -> npt.NDArray[np.int32]:
    """Return the layer labels of a hook point in a model with this number of blocks.

    Examples
    --------
    >>> list_hook_point_layers("mlp_post", 3), list_hook_point_layers("resid_post", 3)
    (array([1, 2, 3], dtype=int32), array([0, 1, 2, 3], dtype=int32))
    """
    return np.arange(0 if hook_point == "resid_post" else 1, layers + 1, dtype="int32")


def order_hook_points(names: Sequence[str]) -> tuple[str, ...]:
    """Return hook points without repeats, in the order of ``HOOK_POINTS``.

    Examples
    --------
    >>> order_hook_points(["resid_post", "ln1", "ln1"])
    ('ln1', 'resid_post')
    """
    return tuple(name for name in HOOK_POINTS if name in names)
