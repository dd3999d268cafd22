"""Codes of the pretrained zoo: the recipes, and a training on planted drawings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tinyhub import save_parts

from ima.data.samples import Sample, open_samples
from ima.drawings import code_zoo
from ima.drawings import zoo as pretrained
from ima.files import hash_file, read_json
from ima.models.code_model import load_code_model
from ima.models.zoo import WEIGHTS_FILE
from ima.studies.picture_worlds import find_picture_world
from ima.training.codes import ReadingRecipe

pytestmark = pytest.mark.usefixtures("planted", "few_counted")


def test_recipes_differ_in_the_codebook_alone():
    recipes = code_zoo.CODE_RECIPES
    (base,) = {recipe.base for recipe in recipes.values()}
    assert base in pretrained.PRETRAINED_RECIPES
    same = {replace(own, codes=replace(own.codes, codes=None)) for own in recipes.values()}
    assert len(same) == 1
    assert [own.codes.codes for own in recipes.values()] == [128, 512, 2048, None]
    assert {name.partition("/")[0] for name in recipes} == {"codes"}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An empty zoo whose recipes connect tiny models."""
    save_parts(tmp_path, patch_size=7)
    base = {
        "language": str(tmp_path / "language"), "encoder": str(tmp_path / "vit"),
        "data": "drawings-image-caption", "samples": 8, "epochs": 1, "batch_size": 8, "width": 16,
        "feed_forward": 16, "layers": 1, "word_steps": 0, "checkpoints": 0, "device": "cpu",
    }  # fmt: skip
    monkeypatch.setattr(pretrained, "PRETRAINED_RECIPES", {"tiny/vit/image-caption": base})
    own = code_zoo.CODE_RECIPES["codes/smollm2-teal-128"]
    training = replace(own.codes.training, steps=3, warmup=1, probe_every=3, save_every=1)
    codes = replace(own.codes, training=training, batch_size=4, codes=8, width=16, pixels=32)
    own = replace(
        own,
        base="tiny/vit/image-caption",
        samples=100,
        codes=codes,
        reading=ReadingRecipe(word_steps=2),
    )
    for module in (code_zoo, pretrained):
        monkeypatch.setattr(module, "CODE_RECIPES", {"codes/tiny": own})
    monkeypatch.setenv("IMA_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def test_codes_are_trained_between_pretrained_parts_and_kept(tiny, monkeypatch):
    pretrained.train_pretrained_zoo(only=["tiny/*"], samples=4)
    pretrained.train_pretrained_zoo(only=["codes/*"], samples=4)
    folder = tiny / "codes" / "tiny"
    card = read_json(folder / "card.json")
    assert card["sha256"] == hash_file(folder / WEIGHTS_FILE)
    assert [entry["step"] for entry in card["word_curve"]] == [2]
    assert card["curve"][-1].keys() == {"step", "loss", "caption", "code", "pixel"}
    own = load_code_model("tiny")
    assert own.connector.n_codes == 8
    pictures = open_samples("drawings-image-caption", n=3)
    codes = own.read_codes(pictures)
    assert codes.shape == (3, 16)
    assert own.decode(codes).shape == (3, 32, 32, 3)
    assert own.draw([Sample("a", "text", "caption", "a red thing", ())]).shape == (1, 16)
    assert not list((tiny / ".training" / "pretrained").glob("codes*"))
    made = (folder / WEIGHTS_FILE).stat().st_mtime_ns
    monkeypatch.setattr(code_zoo, "train_codes", None)
    pretrained.train_pretrained_zoo(only=["codes/*"])
    assert (folder / WEIGHTS_FILE).stat().st_mtime_ns == made


def test_a_drawing_is_drawn_from_its_caption():
    world = find_picture_world("drawings-image-caption")
    for sample in open_samples("drawings-image-caption", n=6):
        description = world.describe(sample)
        assert (description.id, description.modality) == (sample.id, "text")
        assert world.score_overlap(sample, description.prompt) == 1.0
        assert world.score_overlap(sample, "nothing") == 0.0
