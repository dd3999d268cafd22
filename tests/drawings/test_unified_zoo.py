"""One connector of the pretrained zoo: recipes, a training, and its page on planted drawings."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tinyhub import save_parts

from ima.data.worlds import world_of
from ima.drawings import unified_zoo
from ima.drawings import zoo as pretrained
from ima.files import hash_file, read_json
from ima.interventions import unified_effects as effects
from ima.measures.modality_alignment import align_modalities
from ima.models.unified import (
    ModalityReader,
    load_unified_model,
    read_kept_router_weights,
    share_encoders,
)
from ima.models.zoo import WEIGHTS_FILE
from ima.notebook.runner import run_notebook
from ima.studies import modality_worlds
from ima.systems.records import read_system_records

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "onellm.md"
pytestmark = pytest.mark.usefixtures("planted", "few_counted")


def test_recipes_read_with_encoders_of_the_pretrained_zoo_and_differ_in_what_is_shared():
    shared, separate = unified_zoo.UNIFIED_RECIPES.values()
    assert replace(separate, separate=None) == shared
    encoders = {reader.encoder for reader in shared.readers.values()}
    assert encoders <= pretrained.PRETRAINED_RECIPES.keys()
    assert shared.readers.keys() == shared.datasets.keys()
    assert next(iter(shared.readers)) == "image"


def test_line_drawings_are_of_other_pictures():
    recipe = unified_zoo.UNIFIED_RECIPES["onellm/smollm2-shared"]
    pictures = unified_zoo.open_unified_samples(recipe, "image", "train", n=5)
    drawings = unified_zoo.open_unified_samples(recipe, "drawing", "train", n=5)
    contents = {sample.content_key for sample in (*pictures, *drawings)}
    assert len(contents) == 10
    assert drawings[0].load().shape == pictures[0].load().shape


def test_line_drawings_of_the_test_show_the_pictures_of_the_test():
    recipe = unified_zoo.UNIFIED_RECIPES["onellm/smollm2-shared"]
    world = modality_worlds.find_modality_world(recipe.datasets["image"])
    assert tuple(world.shows) == tuple(recipe.readers)
    card = {"recipe": asdict(recipe)}
    samples = {name: world.open_test_samples(card, name, n=3) for name in recipe.readers}
    contents = {name: [each.content_key for each in own] for name, own in samples.items()}
    assert contents["drawing"] == contents["image"]
    assert len({*contents["video"], *contents["audio"], *contents["image"]}) == 9
    for name, own in samples.items():
        for sample in own:
            assert "-test-" in sample.id
            scores = world_of(sample).score_caption(sample, sample.references[0])
            assert scores[world.metric] == 1.0, name
    titles = [title for title, _ in world.list_pictures(samples)]
    assert titles == ["image", "drawing", "first frame", "image", "drawing", "last frame"]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An empty zoo whose recipes connect tiny models."""
    save_parts(tmp_path)
    base = {
        "language": str(tmp_path / "language"), "encoder": str(tmp_path / "vit"),
        "data": "drawings-image-caption", "samples": 8, "epochs": 1, "batch_size": 8, "width": 16,
        "feed_forward": 16, "layers": 1, "word_steps": 0, "checkpoints": 0, "device": "cpu",
    }  # fmt: skip
    monkeypatch.setattr(pretrained, "PRETRAINED_RECIPES", {"tiny/vit/image-caption": base})
    own = unified_zoo.UNIFIED_RECIPES["onellm/smollm2-shared"]
    training = replace(own.unified.training, steps=3, warmup=1, probe_every=3, save_every=1)
    reader = ModalityReader("image", "tiny/vit/image-caption")
    own = replace(
        own,
        language=str(tmp_path / "language"),
        readers={"image": reader, "drawing": reader},
        samples=100,
        sizes={"width": 16, "layers": 1, "heads": 2, "feed_forward": 64, "router_width": 8},
        unified=replace(own.unified, training=training, batch_size=4),
    )
    recipes = {"onellm/tiny": own, "onellm/apart": replace(own, separate={"width": 8, "heads": 2})}
    for module in (unified_zoo, pretrained):
        monkeypatch.setattr(module, "UNIFIED_RECIPES", recipes)
    monkeypatch.setenv("IMA_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def test_one_connector_is_trained_between_parts_of_the_pretrained_zoo_and_kept(tiny, monkeypatch):
    pretrained.train_pretrained_zoo(only=["tiny/*"], samples=4)
    pretrained.train_pretrained_zoo(only=["onellm/*"], samples=4)
    recipe = unified_zoo.UNIFIED_RECIPES["onellm/tiny"]
    sizes = {}
    for name in ("tiny", "apart"):
        folder = tiny / "onellm" / name
        card = read_json(folder / "card.json")
        sizes[name] = card["parameters"]
        assert card["sha256"] == hash_file(folder / WEIGHTS_FILE)
        assert card["curve"][-1].keys() == {"step", "loss", "image", "drawing"}
        model = load_unified_model(name)
        for modality in model.modalities:
            samples = unified_zoo.open_unified_samples(recipe, modality, "test", n=2)
            own = model.open(modality)
            assert (own.encode(samples).modality > 0).sum(dim=1).tolist() == [10, 10]
            assert len(own.generate(samples, max_new_tokens=2)) == 2
    assert abs(sizes["tiny"] - sizes["apart"]) < 0.02 * sizes["tiny"]
    assert read_kept_router_weights("tiny")["weight"].shape == (2, 10, 3)
    assert not list((tiny / ".training" / "pretrained").glob("onellm*"))
    monkeypatch.setattr(unified_zoo, "train_unified", None)
    pretrained.train_pretrained_zoo(only=["onellm/*"])


def test_the_page_captions_and_compares_the_same_drawn_scenes(tiny):
    pretrained.train_pretrained_zoo(only=["tiny/*", "onellm/*"], samples=4)
    pair = {name: load_unified_model(name) for name in ("tiny", "apart")}
    card, control = (model.card for model in pair.values())
    assert modality_worlds.list_differing_settings(card, control) == {"separate"}
    world = modality_worlds.find_modality_world(card["dataset"])
    samples = {name: world.open_test_samples(card, name, n=4) for name in card["readers"]}
    scores = effects.score_modalities(
        share_encoders(pair)["tiny"], samples, metric=world.metric, max_new_tokens=2
    )
    assert dict(scores.sizes) == {"source": 2, "modality": 2, "sample": 4}
    raw = effects.capture_modalities(pair["tiny"], samples)["raw"]
    assert align_modalities(raw, resamples=4)["pair"].values.tolist() == ["image and drawing"]
    settings = modality_worlds.describe_unified_training(card, control)
    assert settings["training samples of each modality"] == "100"
    assert settings["training steps"] == "3"


@pytest.mark.slow
def test_the_page_runs_on_models_of_this_zoo(tiny, tmp_path):
    pretrained.train_pretrained_zoo(only=["tiny/*", "onellm/*"], samples=4)
    record = tmp_path / "onellm.systems.json"
    run_notebook(
        NOTEBOOK,
        output=tmp_path / "onellm.ipynb",
        parameters={
            "models": {"tiny": "apart"}, "samples": {"tiny": 6}, "aligned": 6, "resamples": 10,
            "permutations": 19, "systems": str(record),
        },
    )  # fmt: skip
    (own,) = read_system_records(record)
    assert own.dataset == "2 modalities"
    # Line drawings are of the pictures that the test shows.
    assert own.score.n == own.alignment.n == 6
    page = (tmp_path / "onellm.ipynb").read_text(encoding="utf-8")
    assert "computed from its pixels" in page
    assert "outlines in chalk" not in page
