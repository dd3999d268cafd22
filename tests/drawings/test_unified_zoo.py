"""One connector of the pretrained zoo: recipes, lines, and a training on planted drawings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tinyhub import save_parts

from ima.drawings import unified_zoo
from ima.drawings import zoo as pretrained
from ima.files import read_json
from ima.models.unified import ModalityReader, load_unified_model, read_kept_router_weights
from ima.models.zoo import WEIGHTS_FILE, hash_file

pytestmark = pytest.mark.usefixtures("planted", "few_counted")


def test_recipes_read_with_encoders_of_the_pretrained_zoo_and_differ_in_what_is_shared():
    shared, separate = unified_zoo.UNIFIED_RECIPES.values()
    assert replace(separate, separate=None) == shared
    encoders = {reader.encoder for reader in shared.readers.values()}
    assert encoders <= set(pretrained.list_connector_names())
    assert shared.readers.keys() == shared.datasets.keys()
    assert next(iter(shared.readers)) == "image"


def test_lines_stand_where_brightness_changes():
    pixels = np.full((20, 20, 3), 40, np.uint8)
    pixels[5:15, 5:15] = (200, 120, 30)
    lines = unified_zoo.trace_lines(pixels)
    assert (lines == lines[..., :1]).all()
    assert lines.max() == 255
    assert lines[8:12, 8:12].max() == 0 == lines[:4].max()
    assert lines[5:15, 4:6].min() > 100
    assert unified_zoo.trace_lines(np.full((4, 4, 3), 9, np.uint8)).max() == 0


def test_line_drawings_are_of_other_pictures():
    recipe = unified_zoo.UNIFIED_RECIPES["onellm/smollm2-shared"]
    pictures = unified_zoo.open_unified_samples(recipe, "image", "train", n=5)
    drawings = unified_zoo.open_unified_samples(recipe, "drawing", "train", n=5)
    contents = {sample.content_key for sample in (*pictures, *drawings)}
    assert len(contents) == 10
    assert drawings[0].load().shape == pictures[0].load().shape


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An empty zoo whose recipes connect tiny models."""
    save_parts(tmp_path)
    base = {
        "language": str(tmp_path / "language"), "encoder": str(tmp_path / "vit"),
        "data": "drawings-image-caption", "samples": 8, "epochs": 1, "batch_size": 8, "width": 16,
        "feed_forward": 16, "layers": 1, "word_steps": 0, "checkpoints": 0, "device": "cpu",
    }  # fmt: skip
    monkeypatch.setattr(pretrained, "_RECIPES", {"tiny/vit/image-caption": base})
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
