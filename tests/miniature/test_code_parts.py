"""The zoo's codes: trained, saved, loaded with their parts checked, and used."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ima.data.samples import open_samples
from ima.errors import ModelError
from ima.files import hash_file, read_json, write_json
from ima.miniature import code_parts, materials
from ima.miniature.datasets import make_description
from ima.miniature.workshop import REDUCED_ZOO_PLAN, ZooWorkshop
from ima.models import load_model
from ima.models.code_model import load_code_model
from ima.models.zoo import WEIGHTS_FILE, hash_state_dict


@pytest.fixture
def made(tiny_zoo, tmp_path, monkeypatch):
    """The parts, made in a workshop that holds tiny models."""
    workshop = ZooWorkshop(tmp_path / "zoo", replace(REDUCED_ZOO_PLAN, device="cpu"))
    shutil.copytree(tiny_zoo, workshop.place)
    monkeypatch.setattr(code_parts, "_LEAST_POOL_SIZE", 40)
    monkeypatch.setattr(code_parts, "_N_VALIDATION_PICTURES", 16)
    chosen = {
        name: replace(code_parts.CODE_RECIPES[source], codes=codes, width=16)
        for name, source, codes in (("teal-8", "teal-32", 8), ("dense", "dense", None))
    }
    monkeypatch.setattr(code_parts, "CODE_RECIPES", chosen)
    parts = code_parts.make_code_parts(materials.TrainingMaterials(workshop))
    for part in parts:
        recipe = workshop.make_full_recipe(part)
        assert not workshop.is_done(part.name, recipe)
        workshop.finish_part(part.name, part.make(recipe))
    return workshop.place, {part.name: part for part in parts}


def test_codes_and_control_are_trained_saved_and_loaded(made, monkeypatch):
    place, parts = made
    assert list(parts) == ["codes/teal-8", "codes/dense"]
    first, second = (dict(part.recipe) for part in parts.values())
    assert {key for key in first if first[key] != second[key]} == {"codes"}
    monkeypatch.setenv("IMA_ZOO", str(place))
    pictures = open_samples("mini-image-caption", n=4)
    plain = load_model("llama-mini")
    for name, codes in (("teal-8", 8), ("dense", 0)):
        own, card = load_code_model(name), read_json(place / "codes" / name / "card.json")
        stored = load_file(place / "codes" / name / WEIGHTS_FILE)
        assert card["sha256"] == hash_file(place / "codes" / name / WEIGHTS_FILE)
        assert {value.dtype for value in stored.values()} == {torch.float16}
        centroids = stored.get("connector.centroids", torch.zeros(0))
        total = sum(value.numel() for value in stored.values())
        assert card["parameters"] == total - centroids.numel()
        assert own.connector.n_codes == codes
        assert own.n_words == plain.hook_points.vocab_size
        assert card["language_state"] == hash_state_dict(plain.language.state_dict())
        assert len(own.model.generate(pictures, max_new_tokens=4)) == 4
    drawing = load_code_model("teal-8")
    codes = drawing.draw([make_description(own) for own in pictures])
    assert drawing.decode(codes).shape == (4, 64, 64, 3)


def test_altered_parts_and_weights_are_refused(made, monkeypatch):
    place, _ = made
    monkeypatch.setenv("IMA_ZOO", str(place))
    path = place / "codes" / "teal-8" / "card.json"
    card = read_json(path)
    write_json(path, card | {"parts": {**card["parts"], "encoder": "0"}})
    with pytest.raises(ModelError, match=r"trained with other parts .*ima zoo train --keep"):
        load_code_model("teal-8")
    sizes = {**card["configuration"]["connector"], "codes": 9}
    write_json(path, card | {"configuration": {**card["configuration"], "connector": sizes}})
    with pytest.raises(
        ModelError,
        match=r"connector.centroids has the shape \(8, 16\) and should have \(9",
    ):
        load_code_model("teal-8")


def test_recipes_differ_in_the_codebook_alone():
    recipes = code_parts.CODE_RECIPES
    assert [recipe.codes for recipe in recipes.values()] == [*code_parts.CODEBOOK_SIZES, None]
    assert len({replace(recipe, codes=None) for recipe in recipes.values()}) == 1


def test_a_description_says_where_each_object_is():
    for sample in open_samples("mini-image-caption", n=20):
        text = make_description(sample)
        assert text.modality == "text"
        for thing in sample.truth["entities"]:
            words = f"{thing['noun']} {thing['colour']} {thing['size']} {thing['place']}"
            assert words in text.prompt
