"""The zoo's two passes: trained from the base, saved, and loaded with their base checked."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ima.errors import ModelError
from ima.files import hash_file, read_json, write_json
from ima.interventions.browsing import load_two_pass_model
from ima.miniature import browsing_parts, materials, multitask
from ima.miniature.several_pictures import open_picture_questions
from ima.miniature.workshop import REDUCED_ZOO_PLAN, ZooWorkshop
from ima.models import load_model
from ima.models.zoo import WEIGHTS_FILE, hash_state_dict

BASE = "llama-mini/vit/image-qa"
NEEDS = {
    "language": "language/llama-mini", "encoder": "encoders/vit", "base": f"connectors/{BASE}",
}  # fmt: skip


@pytest.fixture
def made(tiny_zoo, tmp_path, monkeypatch):
    """The parts, made in a workshop that holds tiny models."""
    root = tmp_path / "zoo"
    workshop = ZooWorkshop(root, replace(REDUCED_ZOO_PLAN, device="cpu"))
    shutil.copytree(tiny_zoo, workshop.place)
    monkeypatch.setattr(browsing_parts, "_BASE", BASE)
    monkeypatch.setattr(browsing_parts, "_NEEDS", NEEDS)
    monkeypatch.setattr(browsing_parts, "_LEAST_POOL_SIZE", 120)
    monkeypatch.setattr(browsing_parts, "_N_VALIDATION_PICTURES", 120)
    monkeypatch.setattr(multitask, "MULTITASK_ENCODER", "vit")
    parts = browsing_parts.make_browsing_parts(materials.TrainingMaterials(workshop))
    for part in parts:
        recipe = workshop.make_full_recipe(part)
        assert not workshop.is_done(part.name, recipe)
        workshop.finish_part(part.name, part.make(recipe))
    return workshop.place, {part.name: part for part in parts}


def test_both_arms_are_trained_saved_and_loaded(made, monkeypatch):
    place, parts = made
    assert list(parts) == ["browsing/two-pass", "browsing/one-pass"]
    first, second = (dict(part.recipe) for part in parts.values())
    # Arms differ in the second pass alone.
    assert {key for key in first if first[key] != second[key]} == {"second_pass"}
    monkeypatch.setenv("IMA_ZOO", str(place))
    base = load_model(BASE)
    questions = open_picture_questions("test", n=6)
    loaded = {}
    for name in ("two-pass", "one-pass"):
        own = loaded[name] = load_two_pass_model(name)
        card = read_json(place / "browsing" / name / "card.json")
        assert own.card["sha256"] == hash_file(place / "browsing" / name / WEIGHTS_FILE)
        stored = load_file(place / "browsing" / name / WEIGHTS_FILE)
        assert card["parameters"] == sum(value.numel() for value in stored.values())
        assert {value.dtype for value in stored.values()} == {torch.float16}
        # Layers that stay frozen are the base's, and need no place in the file.
        assert not any(key.startswith("connector.layers.0") for key in stored)
        frozen = "layers.0.linear1.weight"
        assert torch.equal(
            own.connector.state_dict()[frozen], base.perception.connector.state_dict()[frozen]
        )
        assert own.model.perception.queries == 2
        assert len(own.answer(questions, conditions=own.browse(questions))) == 6
        language = load_model("llama-mini").language.state_dict()
        assert card["language_state"] == hash_state_dict(language)
    assert loaded["two-pass"].condition.project.weight.any()
    assert not loaded["one-pass"].condition.project.weight.any()
    zero, own = (loaded["one-pass"].answer(questions, conditions=c) for c in (
        None, loaded["one-pass"].browse(questions)
    ))  # fmt: skip
    assert zero == own


def test_another_base_is_refused(made, monkeypatch):
    place, _ = made
    monkeypatch.setenv("IMA_ZOO", str(place))
    path = place / "browsing" / "two-pass" / "card.json"
    write_json(path, read_json(path) | {"base": "0"})
    with pytest.raises(ModelError, match=r"from another connector .* sha256 0, .*ima zoo train"):
        load_two_pass_model("two-pass")
