"""Hook points compared: the margin is that of the least similar one inside the block."""

from __future__ import annotations

import numpy as np
import pytest
from madestates import make_aligned_states

from ima.errors import ParameterError
from ima.measures import hook_point_comparison


def test_the_margin_inside_the_block_is_the_weakest_hook_points():
    rng = np.random.default_rng(8)
    apart, close = make_aligned_states(40, seed=9), make_aligned_states(40, seed=9)
    apart[:, 0] -= 2
    apart[:, 1] += 2
    close += 5
    close = close.isel(layer=slice(1, None))
    nearer = close + rng.normal(size=close.shape) * 0.1 + 5
    hook_points = {
        "attn_out": {"a": close},
        "mlp_out": {"a": nearer},
        "resid_post": {"a": apart},
    }
    curves = hook_point_comparison.compute_hook_point_alignment(hook_points, resamples=100)
    assert curves["layer"].values.tolist() == [1, 2, 3, 4]
    got = hook_point_comparison.compute_block_margin(curves)
    own = {
        hook_point: float(curves["estimate"].sel(hook_point=hook_point).mean())
        for hook_point in hook_points
    }
    assert got.value == pytest.approx(min(own["attn_out"], own["mlp_out"]) - own["resid_post"])
    assert got.low > 0
    assert got.n == 40
    with pytest.raises(ParameterError, match="resid_post"):
        hook_point_comparison.compute_block_margin(curves.sel(hook_point=["attn_out", "mlp_out"]))
