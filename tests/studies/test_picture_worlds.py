"""Questions about several pictures, by the data set of a model; how two passes were trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from ima.drawings.browsing_zoo import BROWSING_RECIPES
from ima.drawings.code_zoo import CODE_RECIPES
from ima.errors import UnknownNameError
from ima.files import read_json
from ima.studies.picture_worlds import (
    describe_code_training,
    describe_two_pass_training,
    find_picture_world,
)

CARD = Path(__file__).parents[2] / "data" / "zoo" / "browsing" / "two-pass" / "card.json"


def test_a_model_is_asked_about_pictures_of_its_own_world():
    caption, qa = (find_picture_world(f"mini-image-{task}") for task in ("caption", "qa"))
    assert caption is qa
    for question in caption.open_questions("test", n=12):
        shown = caption.describe_pictures(question).split(" | ")
        pictures = question.question.truth["pictures"]
        assert len(shown) == len(pictures) == len(question.pictures)
        for text, things in zip(shown, pictures, strict=True):
            assert text == ", ".join(f"{own['noun']} ({own['colour']})" for own in things)
    drawings = find_picture_world("drawings-image-caption")
    assert drawings is find_picture_world("drawings-image-qa")
    assert drawings.wording.attribute_name == "ground"
    with pytest.raises(UnknownNameError, match=r"'mini-image-qas'.*Did you mean 'mini-image-qa'"):
        find_picture_world("mini-image-qas")


def test_settings_are_read_from_cards_of_both_zoos():
    card = read_json(CARD)
    mini = describe_two_pass_training(card)
    recipe = BROWSING_RECIPES["browsing/smollm2-two-pass"]
    nested = {
        "dataset": "drawings-image-caption",
        "configuration": {"queries": recipe.queries},
        "recipe": {**asdict(recipe), "base_sha256": "0"},
    }
    drawings = describe_two_pass_training(nested)
    assert mini.keys() == drawings.keys()
    assert mini["training steps"] == str(card["trained"]["steps"])
    assert mini["training pictures"] == str(card["data"]["samples"])
    assert drawings["training steps"] == str(recipe.two_passes.training.steps)
    assert drawings["training pictures"] == str(recipe.samples)
    assert drawings["rows read in one pass"] == f"{recipe.two_passes.one_pass_ratio:.0%}"
    assert (mini["attribute"], drawings["attribute"]) == (
        "the colour of a thing", "the background of a thing",
    )  # fmt: skip


def test_settings_of_codes_are_read_from_cards_of_both_zoos():
    mini = describe_code_training(read_json(CARD.parents[2] / "codes" / "dense" / "card.json"))
    recipe = CODE_RECIPES["codes/smollm2-dense"]
    card = {"dataset": "drawings-image-caption", "model": recipe.base, "recipe": asdict(recipe)}
    drawings = describe_code_training(card)
    assert mini.keys() == drawings.keys()
    assert drawings["training pictures"] == str(recipe.samples)
    assert drawings["training steps"] == str(recipe.codes.training.steps)
    assert mini["training pictures"] == "6000"
