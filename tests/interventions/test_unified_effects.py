"""Effects of shared experts: scores of each modality, and states with their scenes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from ima.data.samples import Sample
from ima.errors import ModelError, SampleError
from ima.interventions import unified_effects as effects
from ima.measures.modality_alignment import align_modalities, compare_modalities
from ima.measures.router_weights import compare_routers
from ima.miniature.views import MODALITY_NAMES, open_scene_samples
from ima.models.unified import load_unified_model, read_kept_router_weights, share_encoders


def test_scores_are_tabulated_and_compared_in_pairs():
    values = np.array([[[1, 1, 0, 1]], [[0, 0, 0, 1]]], float)
    coords = {"source": ["own", "shuffled"], "modality": ["depth"]}
    scores = xr.DataArray(values, coords, ("source", "modality", "sample"))
    table = effects.tabulate_scores({"shared": scores, "separate": 0 * scores})
    assert table["value"].tolist() == [0.75, 0.0, 0.25, 0.0]
    assert table["tokens"].tolist()[1:3] == ["own tokens", "tokens of another sample"]
    assert table["model"].tolist()[:2] == ["one connector", "separate connectors"]
    assert (table["low"] <= table["value"]).all()
    difference = effects.compare_arms(scores, 0 * scores)["difference"].iloc[0]
    assert difference.value == 0.75
    assert difference.n == 4


def test_only_modalities_that_are_read_count():
    own = np.array([[1, 1, 1, 1, 0, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]], float)
    coords = {"source": ["own", "shuffled"], "modality": ["image", "drawing"]}
    scores = xr.DataArray([own, 0 * own], coords, ("source", "modality", "sample"))
    # One right drawing of ten may be chance.
    assert effects.list_read_modalities(scores) == ["image"]
    assert effects.list_read_modalities(0 * scores) == []


@pytest.mark.usefixtures("unified_zoo")
def test_each_modality_is_captioned_and_captured():
    model = load_unified_model("shared")
    samples = {name: open_scene_samples(name, "test", n=4) for name in MODALITY_NAMES}
    scores = effects.score_modalities(model, samples, max_new_tokens=3)
    assert dict(scores.sizes) == {"source": 2, "modality": 6, "sample": 4}
    assert set(np.unique(scores)) <= {0.0, 1.0}
    treated = effects.capture_modalities(model, samples)
    for means in treated.values():
        assert list(means) == list(MODALITY_NAMES)
        assert means["image"]["id"].values.tolist() == means["depth"]["id"].values.tolist()
    found = align_modalities(treated["raw"], resamples=4)
    assert found["pair"].values.tolist() == [
        "image and depth", "image and drawing", "video and motion", "depth and drawing",
    ]  # fmt: skip
    similar = compare_modalities(treated["raw"], resamples=4)
    judged = effects.judge_statements(
        {"shared": scores, "separate": scores},
        similarity={"shared": similar, "separate": similar},
        matched={"shared": found, "separate": found},
        routers=compare_routers(read_kept_router_weights("shared")["weight"], permutations=19),
    )
    # An arm differs in nothing from itself.
    assert judged["holds"].tolist()[1:4] == [False] * 3
    strange = {"image": [Sample("1", "image", "caption", "caption :", ("x",), media=np.zeros)]}
    with pytest.raises(SampleError, match="truth of no world"):
        effects._score_each(strange["image"], ["a ring"], metric="exact_full")


@pytest.mark.usefixtures("unified_zoo")
def test_encoders_read_each_sample_once_for_both_arms():
    pair = {arm: load_unified_model(arm) for arm in effects.ARM_NAMES}
    (sample,) = open_scene_samples("depth", "test", n=1)
    read = []

    def media():
        read.append(sample.id)
        return sample.load()

    given = [replace(sample, media=media)]
    plain = {arm: model.open("depth").perception(given) for arm, model in pair.items()}
    assert len(read) == 2
    for arm, model in share_encoders(pair).items():
        assert model.connector is pair[arm].connector
        assert torch.equal(model.open("depth").perception(given), plain[arm])
    assert len(read) == 3
    strange = replace(pair["separate"], card={**pair["separate"].card, "parts": {}})
    with pytest.raises(ModelError, match="do not have the same encoders"):
        share_encoders({"shared": pair["shared"], "separate": strange})


def test_a_caption_ends_with_its_line():
    (sample,) = open_scene_samples("audio", "test", n=1)
    caption = f"{sample.references[0]}\nand a loud drum"
    assert effects._score_each([sample], [caption], metric="exact_full") == [1.0]
