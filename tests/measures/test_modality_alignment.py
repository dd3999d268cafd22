"""Similarity of modalities: all pairs as the paper has them, and scenes matched in order."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import xarray as xr

from ima.errors import ParameterError
from ima.measures import modality_alignment as alignment
from ima.measures.similarity import cosine_over_pairs

N, LAYERS, HIDDEN = 12, 3, 16


def states(seed, *, ids=None, like=None):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(N, 2, LAYERS, HIDDEN))
    if like is not None:
        values = like.to_numpy() + 0.5 * values
    coords = {
        "kind": ["perceptual", "textual"], "layer": range(LAYERS),
        "id": ("sample", ids or [f"{seed}-{n}" for n in range(N)]),
    }  # fmt: skip
    return xr.DataArray(values, coords, ("sample", "kind", "layer", "hidden"))


@pytest.fixture
def means():
    scenes = [f"scene-{n}" for n in range(N)]
    image = states(0, ids=scenes)
    return {"image": image, "depth": states(1, ids=scenes, like=image), "audio": states(2)}


def test_pairs_of_modalities_are_compared_over_all_pairs_of_samples(means):
    found = alignment.compare_modalities(means, resamples=20)
    assert found["pair"].values.tolist() == [
        "image and depth", "image and audio", "depth and audio",
    ]  # fmt: skip
    for pair in found["pair"].values:
        left, right = (means[name].sel(kind="perceptual") for name in pair.split(" and "))
        expected = cosine_over_pairs(left, right)
        np.testing.assert_allclose(found["estimate"].sel(pair=pair), expected)
    assert found["draws"].sizes["draw"] == 20
    assert found["n"].values.tolist() == [N, 2 * N, 2 * N]


def test_matched_scenes_are_those_that_two_modalities_show(means):
    found = alignment.align_modalities(means, resamples=50)
    assert found["pair"].values.tolist() == ["image and depth"]
    left, right = (means[name].sel(kind="perceptual") for name in ("image", "depth"))
    unit = [each / np.sqrt((each**2).sum("hidden")) for each in (left, right)]
    matched = (unit[0] * unit[1]).sum("hidden").mean("sample")
    expected = matched - cosine_over_pairs(left, right)
    np.testing.assert_allclose(found["estimate"].sel(pair="image and depth"), expected)
    interval = alignment.average_pairs(found)
    assert interval.low > 0.2
    assert interval.n == N


def test_the_mean_over_pairs_holds_for_other_modalities_too(means):
    # One pair is alike and the others are not: their mean is no property of modalities.
    rng = np.random.default_rng(0)
    names = [f"m{number}" for number in range(6)]
    pairs = [alignment.name_pair(a, b) for a, b in combinations(names, 2)]
    values = np.zeros((len(pairs), 3))
    values[0] = 1.0
    draws = values + rng.normal(size=(200, len(pairs), 1)) / 1000
    curves = xr.Dataset(
        {"estimate": (("pair", "layer"), values), "draws": (("draw", "pair", "layer"), draws)},
        {"pair": pairs, "n": ("pair", [7] * len(pairs))},
        {"samples": 42},
    )
    mean = alignment.average_pairs(curves)
    assert (mean.value, mean.n) == (pytest.approx(1 / 15), 42)
    assert mean.low <= 0.0 + 1e-3
    one = alignment.average_pairs(curves.isel(pair=[0]))
    assert one.n == 7
    assert one.low > 0.99
    # What all pairs share is one of modalities.
    shared = alignment.average_pairs(curves.assign(draws=0 * curves["draws"] + 0.5))
    assert shared.high - shared.low < 1e-9


def test_scenes_that_are_matched_at_random_give_nothing(means):
    rng = np.random.default_rng(0)
    values = []
    for _ in range(40):
        order = rng.permutation(N)
        other = means["depth"].isel(sample=order).assign_coords(id=means["image"]["id"])
        found = alignment.align_modalities({"image": means["image"], "depth": other}, resamples=2)
        values.append(alignment.average_pairs(found).value)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40)


def test_modalities_of_other_scenes_have_no_matched_pairs(means):
    with pytest.raises(ParameterError, match="image, audio show the same scenes"):
        alignment.align_modalities({name: means[name] for name in ("image", "audio")})


def test_arms_are_compared_draw_by_draw(means):
    first = alignment.compare_modalities(means, resamples=30)
    table = alignment.compare_curves(first, first).set_index("pair")
    same = table.loc["all", "difference"]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    closer = {"image": means["image"], "depth": means["image"], "audio": means["audio"]}
    other = alignment.compare_modalities(closer, resamples=30)
    table = alignment.compare_curves(other, first).set_index("pair")
    assert table.loc["image and audio", "difference"].value == 0.0
    value = table.loc["all", "first"].value - table.loc["all", "second"].value
    assert table.loc["all", "difference"].value == pytest.approx(value)
    text = alignment.compare_text_alignment(means, means, resamples=10)
    assert text["modality"].tolist() == ["all", "image", "depth", "audio"]
    assert [each.value for each in text["difference"]] == [0.0] * 4
    # Two modalities show the same scenes.
    assert [each.n for each in text["first"]] == [2 * N, N, N, N]
