"""Hook points compared: the margin is that of the least similar one inside the block."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from madestates import make_aligned_states

from ima.errors import ParameterError
from ima.hook_points import OUTPUT_HOOK_POINTS
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
    gaps = hook_point_comparison.compute_block_gaps(curves)
    got = hook_point_comparison.compute_block_margin(gaps)
    own = {
        hook_point: float(curves["estimate"].sel(hook_point=hook_point).mean())
        for hook_point in hook_points
    }
    assert got.value == pytest.approx(min(own["attn_out"], own["mlp_out"]) - own["resid_post"])
    assert got.low > 0
    assert got.n == 40
    with pytest.raises(ParameterError, match="resid_post"):
        hook_point_comparison.compute_block_gaps(curves.sel(hook_point=["attn_out", "mlp_out"]))


def test_a_block_is_compared_with_the_stream_that_it_reads():
    """A hook point that repeats the stream before the block differs from the stream after it."""
    stream = make_aligned_states(40, seed=9)
    labels = stream["layer"][1:].values
    read = stream.isel(layer=slice(None, -1)).assign_coords(layer=labels)
    given = {name: {"a": read} for name in hook_point_comparison.BLOCK_HOOK_POINTS}
    given["resid_post"] = {"a": stream}
    curves = hook_point_comparison.compute_hook_point_alignment(given, resamples=50)
    written = hook_point_comparison.compute_block_gaps(curves)
    mean = curves["estimate"].sel(hook_point=["resid_pre", "resid_post"])
    first, last = float(mean[0, 0]), float(mean[1, -1])
    assert abs(last - first) > 0.1
    np.testing.assert_allclose(written["estimate"], -(last - first) / 4)
    tested = hook_point_comparison.compute_block_gaps(
        curves,
        hook_points=OUTPUT_HOOK_POINTS,
        stream=hook_point_comparison.READ_STREAM,
    )
    assert tested["hook_point"].values.tolist() == ["attn_out", "mlp_post", "mlp_out"]
    np.testing.assert_allclose(tested["estimate"], 0, atol=1e-12)
    np.testing.assert_allclose(tested["draws"], 0, atol=1e-12)
    margin = hook_point_comparison.compute_block_margin(tested)
    assert (round(margin.value, 9), margin.n) == (0, 40)


def test_norm_layers_do_not_decide_the_outputs():
    stream, apart = make_aligned_states(40, seed=9), make_aligned_states(40, seed=9)
    apart[:, 0] -= 9
    apart[:, 1] += 9
    close = stream.isel(layer=slice(1, None)) + 9
    given = {name: {"a": close} for name in hook_point_comparison.BLOCK_HOOK_POINTS}
    given |= {"ln1": {"a": apart.isel(layer=slice(1, None))}, "resid_post": {"a": stream}}
    curves = hook_point_comparison.compute_hook_point_alignment(given, resamples=50)
    every = hook_point_comparison.compute_block_gaps(curves)
    outputs = hook_point_comparison.compute_block_gaps(curves, hook_points=OUTPUT_HOOK_POINTS)
    assert hook_point_comparison.compute_block_margin(every).high < 0
    assert hook_point_comparison.compute_block_margin(outputs).low > 0
    assert "At 4 of 5 hook points" in hook_point_comparison.describe_block_gaps(every)
    assert hook_point_comparison.describe_block_gaps(every).endswith(", at ln1.")


def test_a_finding_names_the_treatments_that_disagree():
    gap = xr.DataArray(
        [[-0.2, 0.1], [0.3, 0.05]],
        {"treatment": ["without sinks", "standardised"], "hook_point": ["attn_out", "mlp_out"]},
    )
    gaps = xr.Dataset({"estimate": gap}, attrs={"stream": "resid_pre"})
    found = hook_point_comparison.describe_block_gaps(gaps)
    assert found.startswith("At 1 of 2 hook points inside the block")
    assert (
        "-0.200, at attn_out (without sinks, which gives the smallest gap of 2 treatments)."
        in found
    )
    assert found.endswith("Treatments disagree: standardised gives +0.050.")
    alike = hook_point_comparison.describe_block_gaps(gaps.isel(treatment=[1]))
    assert "disagree" not in alike


def test_a_direction_that_all_states_share_raises_the_level_and_not_the_rest():
    """PvsT of a shifted space is high; its distance from the level of the space is small."""
    apart = make_aligned_states(40, seed=9)
    shifted = (apart + 50).isel(layer=slice(1, None))
    given = {"mlp_out": {"a": shifted}, "resid_post": {"a": apart}}
    table = hook_point_comparison.tabulate_levels(given, resamples=50)
    assert table.index.tolist() == ["mlp_out", "resid_post", "resid_pre"]
    values = table.map(lambda cell: float(cell.partition(" ")[0]))
    assert (values.loc["mlp_out", ["PvsT", "P intra", "T intra"]] > 0.9).all()
    assert abs(values.loc["mlp_out", "PvsT − mean of both"]) < 0.01
    curves = hook_point_comparison.compute_hook_point_alignment(given, resamples=50)
    expected = curves["estimate"].mean("layer").to_series()
    for name in table.index:
        assert values.loc[name, "PvsT"] == pytest.approx(expected[name], abs=6e-4)
    ends = table["PvsT"].str.extract(r"\[(.*), (.*)\]").astype(float)
    assert (ends[0] <= values["PvsT"]).all()
    assert (values["PvsT"] <= ends[1]).all()
