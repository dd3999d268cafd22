"""The zoo's models of several modalities: trained alike, of equal size, saved and loaded."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ima.errors import ModelError, UnknownNameError
from ima.files import hash_file, read_json, write_json
from ima.miniature import materials, unified_parts
from ima.miniature.views import MODALITY_NAMES, open_scene_samples
from ima.miniature.workshop import REDUCED_ZOO_PLAN, ZooWorkshop
from ima.models import load_model
from ima.models.unified import load_unified_model, read_kept_router_weights
from ima.models.universal_connector import read_router_weights
from ima.models.zoo import WEIGHTS_FILE, hash_state_dict


@pytest.fixture
def made(tiny_zoo, tmp_path, monkeypatch):
    """The parts, made in a workshop that holds tiny models."""
    workshop = ZooWorkshop(tmp_path / "zoo", replace(REDUCED_ZOO_PLAN, device="cpu"))
    shutil.copytree(tiny_zoo, workshop.place)
    monkeypatch.setattr(unified_parts, "_LEAST_POOL_SIZE", 8)
    monkeypatch.setattr(unified_parts, "_N_VALIDATION", 4)
    parts = unified_parts.make_unified_parts(materials.TrainingMaterials(workshop))
    for part in parts:
        recipe = workshop.make_full_recipe(part)
        assert not workshop.is_done(part.name, recipe)
        workshop.finish_part(part.name, part.make(recipe))
    monkeypatch.setenv("IMA_ZOO", str(workshop.place))
    return workshop.place, {part.name: part for part in parts}


def test_both_arms_are_trained_saved_and_loaded(made):
    place, parts = made
    assert list(parts) == ["onellm/shared", "onellm/separate"]
    first, second = (dict(part.recipe) for part in parts.values())
    # Arms differ in what modalities share alone.
    assert {key for key in first if first[key] != second[key]} == {"shared"}
    language = load_model("llama-mini")
    digest = hash_state_dict(language.language.state_dict())
    for name in ("shared", "separate"):
        model, folder = load_unified_model(name), place / "onellm" / name
        card = read_json(folder / "card.json")
        assert model.modalities == MODALITY_NAMES
        assert card["sha256"] == hash_file(folder / WEIGHTS_FILE)
        assert card["language_state"] == digest
        assert {value.dtype for value in load_file(folder / WEIGHTS_FILE).values()} == {
            torch.float16
        }
        for modality in MODALITY_NAMES:
            samples, own = open_scene_samples(modality, "test", n=2), model.open(modality)
            batch = own.encode(samples)
            assert (batch.modality > 0).sum(dim=1).tolist() == [10, 10]
            assert len(own.generate(samples, max_new_tokens=3)) == 2
            # The language model is one object, whatever is read.
            assert own.language is model.base.language
    assert set(card["curve"][-1]) == {"step", "loss", *MODALITY_NAMES}
    with pytest.raises(UnknownNameError, match="smell"):
        model.open("smell")


def test_the_card_keeps_the_router_weights_of_the_file(made):
    kept = read_kept_router_weights("shared")
    found = read_router_weights(load_unified_model("shared").connector)
    np.testing.assert_allclose(kept["weight"], found["weight"], atol=1e-6)
    assert kept["weight"].attrs["units"] == "1"
    assert kept.attrs["model"] == "onellm/shared"
    with pytest.raises(ModelError, match="has no routers"):
        read_kept_router_weights("separate")


def test_another_part_is_refused(made):
    place, _ = made
    path = place / "onellm" / "shared" / "card.json"
    card = read_json(path)
    write_json(path, card | {"parts": card["parts"] | {"vit": "0"}})
    with pytest.raises(ModelError, match=r"another encoders/vit: it had the sha256 0, .*ima zoo"):
        load_unified_model("shared")


def test_no_scene_is_shown_in_two_modalities_in_training():
    contents = [
        sample.content_key
        for name in MODALITY_NAMES
        for sample in open_scene_samples(
            name, "train", n=30, start=30 * unified_parts._PLACES.get(name, 0)
        )
    ]
    assert len(set(contents)) == len(contents)


def test_arms_have_equally_many_weights():
    widths = dict.fromkeys(MODALITY_NAMES, 128) | {"video": 96}
    sizes = {"widths": widths, "hidden": 128, "output_norm": 1.0}
    configs = [unified_parts.make_arm_config(arm, **sizes) for arm in unified_parts.UNIFIED_ARMS]
    from ima.models.universal_connector import UniversalConnector, count_weights

    shared, separate = (count_weights(UniversalConnector(config)) for config in configs)
    assert abs(shared - separate) < 0.01 * shared
    assert configs[0].layers == configs[1].layers
    assert configs[0].queries == configs[1].queries
