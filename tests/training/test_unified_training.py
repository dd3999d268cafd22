"""Training on several modalities: what is frozen, which steps show what, stopped runs, sizes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from ima.data.samples import Sample
from ima.errors import ModelError, ParameterError
from ima.models import load_model
from ima.models.unified import ModalityReader, make_unified_model, open_perceptions
from ima.models.universal_connector import UniversalConnectorConfig
from ima.models.zoo import hash_state_dict
from ima.training import unified
from ima.training.loop import TrainingRecipe
from ima.training.unified import UnifiedRecipe, make_separate_config, train_unified

READERS = {
    "image": ModalityReader("image", "encoders/vit"),
    "depth": ModalityReader("image", "encoders/vit"),
    "audio": ModalityReader("audio", "encoders/ast"),
}
RECIPE = UnifiedRecipe(
    TrainingRecipe(steps=8, learning_rate=3e-2, seed=3, warmup=1, probe_every=4, save_every=2),
    first_ratio=0.25,
    batch_size=5,
)


class Colours:
    """Random encoder tokens of samples, each with a colour to name."""

    def __init__(self, modality, seed):
        self.tokens = torch.randn(6, 9, 16, generator=torch.Generator().manual_seed(seed))
        self.samples = [
            Sample(f"{modality}-{n}", READERS[modality].medium, "caption", "caption :", (word,))
            for n, word in enumerate(("red", "blue", "green", "circle", "square", "star"))
        ]

    def read_tokens(self, rows):
        return self.tokens[list(rows)]


@pytest.fixture
def make(tiny_zoo):
    def build(*, experts=3):
        config = UniversalConnectorConfig(
            widths=dict.fromkeys(READERS, 16), hidden=32, width=16, queries=3, layers=1,
            feed_forward=16, experts=experts,
        )  # fmt: skip
        return make_unified_model(
            load_model("llama-mini"), config, readers=READERS,
            perceptions=open_perceptions(READERS), seed=5,
        )  # fmt: skip

    return build


def sources():
    return {name: Colours(name, seed) for seed, name in enumerate(READERS)}


def train(model, path, **changes):
    return train_unified(
        model, train=sources(), validation=sources(), recipe=replace(RECIPE, **changes),
        name="tiny", state_path=path,
    )  # fmt: skip


@pytest.mark.parametrize("experts", [0, 3])
def test_the_connector_alone_is_trained_and_learns(make, tmp_path, experts):
    model = make(experts=experts)
    language = hash_state_dict(model.base.language.state_dict())
    encoders = {k: hash_state_dict(p.encoder.state_dict()) for k, p in model.perceptions.items()}
    before = {key: value.clone() for key, value in model.connector.state_dict().items()}
    result = train(model, tmp_path / "state.pt")
    assert hash_state_dict(model.base.language.state_dict()) == language
    assert encoders == {
        k: hash_state_dict(p.encoder.state_dict()) for k, p in model.perceptions.items()
    }
    after = model.connector.state_dict()
    assert {key for key in before if torch.equal(before[key], after[key])} <= {
        key for key in before if key.startswith("routers.") and key.endswith("0.weight")
    }
    assert set(result.curve[-1]) == {"step", "loss", *READERS}
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    assert not any(parameter.requires_grad for parameter in model.connector.parameters())


def test_a_stopped_training_ends_alike(make, tmp_path, monkeypatch):
    whole = make()
    train(whole, tmp_path / "whole.pt")
    stopped = make()
    original = unified.compute_answer_loss
    calls = Counter()

    def stop(*args, **options):
        calls["loss"] += torch.is_grad_enabled()
        if calls["loss"] == 6:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(unified, "compute_answer_loss", stop)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, tmp_path / "stopped.pt")
    monkeypatch.setattr(unified, "compute_answer_loss", original)
    again = make()
    train(again, tmp_path / "stopped.pt")
    first, second = whole.connector.state_dict(), again.connector.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_images_come_first_and_then_all_modalities_evenly():
    recipe = UnifiedRecipe(TrainingRecipe(steps=2000, learning_rate=1.0, seed=1), first_ratio=0.25)
    shown = [recipe.draw_modality(step, ("image", "audio", "depth")) for step in range(2000)]
    assert set(shown[:500]) == {"image"}
    later = Counter(shown[500:])
    assert all(abs(count - 500) < 70 for count in later.values())
    assert len(later) == 3


def test_a_changed_language_model_is_refused(make, tmp_path, monkeypatch):
    model = make()
    original = unified.fit_model

    def spoil(*args, **options):
        result = original(*args, **options)
        with torch.no_grad():
            next(model.base.language.parameters()).add_(1.0)
        return result

    monkeypatch.setattr(unified, "fit_model", spoil)
    with pytest.raises(ModelError, match="changed the language model"):
        train(model, tmp_path / "state.pt")


def test_samples_of_other_modalities_are_refused(make, tmp_path):
    own = sources()
    own.pop("depth")
    with pytest.raises(ParameterError, match="reads image, depth, audio; samples are given of"):
        train_unified(
            make(), train=own, validation=own, recipe=RECIPE, name="tiny",
            state_path=tmp_path / "state.pt",
        )  # fmt: skip


def test_separate_connectors_that_are_too_wide_are_refused():
    shared = UniversalConnectorConfig(widths={"image": 16, "audio": 16}, hidden=32, width=16)
    with pytest.raises(ParameterError, match="Choose a smaller width"):
        make_separate_config(shared, width=256, heads=4)
