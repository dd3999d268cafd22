"""Norms and changes along the depth against loops over single tokens."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import cosine

from ima.errors import ParameterError, UnknownNameError
from ima.measures import norms


def make_tokens(seed=0, *, layers=4):
    rng = np.random.default_rng(seed)
    sample_of = np.repeat([0, 1, 2], [5, 3, 4])
    modality = np.array([1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    state = rng.normal(size=(len(sample_of), layers, 6)).cumsum(axis=1) + 1
    return xr.Dataset(
        {"state": (("token", "layer", "hidden"), state)},
        coords={
            "layer": np.arange(layers),
            "sample": ("token", sample_of),
            "modality": ("token", modality),
        },
    )


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("measure", norms.CHANGE_MEASURES)
def test_changes_are_the_loop_over_tokens(step, measure):
    tokens = make_tokens()
    state = tokens["state"].to_numpy()
    kind = np.where(tokens["modality"].to_numpy() > 0, 0, 1)
    result = norms.compute_token_changes(tokens, step=step, measure=measure)
    assert result.sizes == {"sample": 3, "kind": 2, "layer": 4 - step}
    for at in range(4 - step):
        centres = {
            (k, layer): state[kind == k, layer].mean(0) for k in (0, 1) for layer in range(4)
        }
        for sample in range(3):
            for k in (0, 1):
                values = []
                for token in range(len(kind)):
                    if tokens["sample"][token] != sample or kind[token] != k:
                        continue
                    a, b = state[token, at], state[token, at + step]
                    if measure == "norm-matched cosine":
                        textual = state[kind == 1, at]
                        common = np.median([np.sqrt(np.sum(vector**2)) for vector in textual])
                        b = b - a + common * a / np.sqrt(np.sum(a**2))
                    if measure == "mean-centred cosine":
                        a, b = a - centres[k, at], b - centres[k, at + step]
                    if measure == "relative change":
                        values.append(np.linalg.norm(b - a) / np.linalg.norm(a))
                    else:
                        values.append(1 - cosine(a, b))
                got = float(result[sample, k, at])
                if values:
                    assert got == pytest.approx(np.mean(values))
                else:
                    assert np.isnan(got)


def test_a_text_alone_is_centred_on_its_own_mean():
    tokens = make_tokens()
    texts = tokens.isel(token=np.flatnonzero(tokens["modality"].to_numpy() == 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = norms.compute_token_changes(texts, step=1, measure="mean-centred cosine")
    both = norms.compute_token_changes(tokens, step=1, measure="mean-centred cosine")
    np.testing.assert_allclose(alone.sel(kind="textual"), both.sel(kind="textual"))
    assert np.isnan(alone.sel(kind="perceptual")).all()


def test_identical_states_do_not_change():
    tokens = make_tokens()
    tokens["state"][:] = tokens["state"][:, :1].to_numpy()
    assert np.nanmin(norms.compute_token_changes(tokens, step=1)) == pytest.approx(1)
    assert np.nanmax(norms.compute_token_changes(tokens, step=1, measure="relative change")) == 0


def test_a_norm_explains_what_matching_norms_takes_away():
    """Tokens that get the same additions turn alike, once their norms are the same."""
    rng = np.random.default_rng(2)
    kind = np.array([1, 1, 0, 0] * 20)
    start = rng.standard_normal((80, 8)) * np.where(kind > 0, 30.0, 1.0)[:, None]
    added = rng.standard_normal((80, 8))
    tokens = xr.Dataset(
        {"state": (("token", "layer", "hidden"), np.stack([start, start + added], axis=1))},
        coords={"layer": [0, 1], "sample": ("token", np.repeat(np.arange(20), 4)),
                "modality": ("token", kind)},
    )  # fmt: skip
    plain, matched = (
        norms.compute_token_changes(tokens, step=1, measure=measure).mean(("sample", "layer"))
        for measure in ("cosine", "norm-matched cosine")
    )
    assert float(plain.sel(kind="perceptual") - plain.sel(kind="textual")) > 0.2
    assert abs(float(matched.sel(kind="perceptual") - matched.sel(kind="textual"))) < 0.1


def test_a_token_that_is_a_sink_at_either_layer_does_not_count():
    steady, turning = [[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]
    grows, shrinks = [[1.0, 0.0], [0.0, 50.0]], [[50.0, 0.0], [0.0, 1.0]]
    state = [grows, shrinks, steady, turning, steady, turning] + [steady] * 2
    tokens = xr.Dataset(
        {"state": (("token", "layer", "hidden"), np.array(state))},
        coords={
            "layer": [0, 1],
            "sample": ("token", np.zeros(8, dtype=int)),
            "modality": ("token", [1] * 6 + [0] * 2),
        },
    )
    kept, all_tokens = (
        norms.compute_token_changes(tokens, step=1, measure=measure)[0, :, 0].to_numpy().tolist()
        for measure in ("cosine without sinks", "cosine")
    )
    assert (kept, all_tokens) == ([0.5, 1.0], [pytest.approx(1 / 3), 1.0])


def table(seed, *, n=40, gap=0.4):
    rng = np.random.default_rng(seed)
    values = rng.lognormal(size=(n, 2, 5)) * np.exp([gap, 0.0])[:, None]
    return xr.DataArray(
        values,
        dims=("sample", "kind", "layer"),
        coords={"kind": ["perceptual", "textual"], "layer": range(5)},
    )


def test_averages_and_their_statistics():
    sets = {"a": table(0, gap=3.0), "b": table(1, gap=3.0)}
    result = norms.average_over_samples(sets, resamples=100)
    np.testing.assert_allclose(result["estimate"].sel(dataset="a"), sets["a"].mean("sample"))
    least = norms.compute_norm_ratio(result)
    logs = np.log2(result["estimate"])
    gap = (logs.sel(kind="perceptual") - logs.sel(kind="textual")).mean("dataset")
    assert least.value == pytest.approx(float(gap.min()))
    assert least.low > 0
    assert least.n == 80
    slow = norms.compute_drift_gap(result.isel(layer=slice(2)))
    part = result["estimate"].isel(layer=slice(2))
    expected = (part.sel(kind="perceptual") - part.sel(kind="textual")).mean()
    assert slow.value == pytest.approx(float(expected))


def plant(values, *, kinds=("perceptual", "textual")):
    """Return averages of one data set, ``(kind, layer)``, that all resamples have."""
    estimate = xr.DataArray(
        np.array(values, dtype=float)[None],
        dims=("dataset", "kind", "layer"),
        coords={"dataset": ["a"], "kind": list(kinds), "layer": range(len(values[0]))},
    )
    draws = estimate.expand_dims(draw=2)
    return xr.Dataset({"estimate": estimate, "draws": draws}, attrs={"samples": 9})


def test_norms_are_compared_at_the_layers_that_the_claim_is_about():
    # Larger at layers 0 to 3 only; equal at layer 0 would hide what the blocks do.
    averaged = plant([[1, 8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 0.5], [1] * 13])
    early = norms.select_claimed_layers(averaged, multitask=True)
    assert early["layer"].to_numpy().tolist() == [0, 1, 2, 3]
    assert norms.compute_norm_ratio(early).value == 0
    controlled = norms.select_claimed_layers(averaged, multitask=True, first=1)
    assert norms.compute_norm_ratio(controlled).value == 1
    assert norms.describe_norm_ratios(controlled, given="With equal inputs") == (
        "With equal inputs, perceptual norms are larger than textual norms at 3 of 3 layers; the "
        "ratio is smallest at layer 3: 2.00."
    )
    # Of a model with two blocks, layer 0 alone is early.
    few = norms.select_claimed_layers(averaged.isel(layer=slice(3)), multitask=True, first=1)
    assert few["layer"].to_numpy().tolist() == [1]
    single = norms.select_claimed_layers(averaged, multitask=False, first=1)
    assert norms.compute_norm_ratio(single).value == -1
    assert norms.describe_norm_ratios(single).endswith("at 3 of 12 layers; the ratio is smallest "
                                                       "at layer 12: 0.50.")  # fmt: skip


def test_the_sentence_on_change_follows_its_sign():
    slow, fast = [0.9, 0.9, 0.5], [0.6, 0.6, 0.6]
    assert norms.describe_drift_gap(plant([slow, fast]), given="With norms matched") == (
        "With norms matched, the mean cosine from one layer to the next is 0.767 for perceptual "
        "and 0.600 for textual tokens (layers 0 to 2); perceptual tokens turn less at 2 of 3 "
        "layers."
    )
    assert norms.describe_drift_gap(plant([fast, slow])).endswith("turn less at 1 of 3 layers.")


def test_bad_requests_are_refused():
    with pytest.raises(UnknownNameError, match="relative change"):
        norms.compute_token_changes(make_tokens(), step=1, measure="angle")
    with pytest.raises(ParameterError, match="between 1 and 3"):
        norms.compute_token_changes(make_tokens(), step=4)
    with pytest.raises(ParameterError, match="No data sets"):
        norms.average_over_samples({})


def test_the_released_form_compares_tokens_of_different_samples():
    tokens = make_tokens(3)
    # All states of a token are one, and yet the released form does not say 1.
    tokens["state"][:] = tokens["state"][:, :1].to_numpy() - 1
    result = norms.compute_token_changes(tokens, step=1, paper_compat=True)
    state = tokens["state"].to_numpy()[:, 0]
    kind = np.where(tokens["modality"].to_numpy() > 0, 0, 1)
    sample_of = tokens["sample"].to_numpy()
    for sample in range(3):
        for k in (0, 1):
            mine = np.flatnonzero((sample_of == sample) & (kind == k))
            others = np.flatnonzero((sample_of != sample) & (kind == k))
            pairs = [1 - cosine(state[i], state[j]) for i in mine for j in others]
            if pairs:
                assert float(result[sample, k, 0]) == pytest.approx(np.mean(pairs))
    assert np.nanmax(result) < 0.9
    with pytest.raises(ParameterError, match="no released form"):
        norms.compute_token_changes(tokens, step=1, measure="relative change", paper_compat=True)
