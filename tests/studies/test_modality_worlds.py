"""Test samples of several modalities, by the world of a model; how the models were trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from ima.data.worlds import world_of
from ima.drawings.unified_zoo import UNIFIED_RECIPES
from ima.errors import UnknownNameError
from ima.files import read_json
from ima.miniature.views import MODALITY_NAMES, open_scene_samples
from ima.studies.modality_worlds import (
    describe_modalities,
    describe_unified_training,
    find_modality_world,
    list_differing_settings,
)

ZOO = Path(__file__).parents[2] / "data" / "zoo" / "onellm"


def read_mini_cards():
    return [read_json(ZOO / name / "card.json") for name in ("shared", "separate")]


def make_drawings_cards():
    """Return what the cards of a training of the pretrained zoo say of its recipe."""
    cards = []
    for recipe in UNIFIED_RECIPES.values():
        readers = {name: asdict(reader) for name, reader in recipe.readers.items()}
        sizes = {"queries": 10, "experts": 0 if recipe.separate else 3, **recipe.sizes}
        cards.append(
            {
                "dataset": recipe.datasets["image"], "readers": readers, "parameters": 9,
                "configuration": sizes, "recipe": {**asdict(recipe), "parts": {"image": "0"}},
            }
        )  # fmt: skip
    return cards


def test_the_miniature_world_shows_the_same_scenes_in_its_views():
    card, _ = read_mini_cards()
    world = find_modality_world(card["dataset"])
    assert tuple(world.shows) == tuple(card["readers"]) == MODALITY_NAMES
    samples = {name: world.open_test_samples(card, name, n=3) for name in MODALITY_NAMES}
    for name, own in samples.items():
        assert own == open_scene_samples(name, "test", n=3)
    titles, pictures = zip(*world.list_pictures(samples), strict=True)
    assert titles == ("image", "depth", "drawing", "first frame", "last frame", "motion")
    assert {pixels.shape[-1] for pixels in pictures} == {3}
    only = world.list_pictures({"drawing": samples["drawing"]})
    assert [title for title, _ in only] == ["drawing"]
    with pytest.raises(UnknownNameError, match="Did you mean 'mini-image-caption'"):
        find_modality_world("mini-image-captions")


def test_the_score_of_the_miniature_world_is_one_that_its_captions_have():
    card, _ = read_mini_cards()
    world = find_modality_world(card["dataset"])
    for name in MODALITY_NAMES:
        (sample,) = world.open_test_samples(card, name, n=1)
        scores = world_of(sample).score_caption(sample, sample.references[0])
        assert scores[world.metric] == 1.0, name


def test_settings_are_read_from_cards_of_both_zoos():
    mini, drawings = read_mini_cards(), make_drawings_cards()
    own, other = describe_unified_training(*mini), describe_unified_training(*drawings)
    assert own.keys() == other.keys()
    assert own["training samples of each modality"] == "3,000"
    assert own["layers that a sample passes"] == "6 with one connector, 2 with separate ones"
    recipe = UNIFIED_RECIPES["onellm/smollm2-shared"]
    assert other["training samples of each modality"] == f"{recipe.samples:,}"
    assert other["training steps"] == f"{recipe.unified.training.steps:,}"
    assert other["samples in a step"] == str(recipe.unified.batch_size)
    assert other["first steps, with pictures only"] == f"{recipe.unified.first_ratio:.0%}"
    assert list_differing_settings(*mini) == {"shared"}
    assert list_differing_settings(*drawings) == {"separate"}
    table = describe_modalities(mini[0]).set_index("modality")["encoder"]
    assert table["video"] == "timesformer, tokens averaged over 8 frames"
    assert table["depth"] == table["image"] == "vit"
    table = describe_modalities(drawings[0]).set_index("modality")["encoder"]
    assert table["drawing"] == table["image"] == "that of smollm2/dinov2/image-caption"
