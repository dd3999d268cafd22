"""Training of two passes: what is trained, what is dropped, and that a stopped run ends alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ima.data.samples import Sample
from ima.errors import ModelError
from ima.interventions.browsing import collect_modules, make_two_pass_model
from ima.models import load_model
from ima.models.zoo import hash_exact_state
from ima.training import frozen_language, two_passes
from ima.training.loop import TrainingRecipe
from ima.training.two_passes import (
    TwoPassRecipe,
    count_trained_weights,
    select_trained_state,
    train_two_passes,
)

RECIPE = TwoPassRecipe(
    TrainingRecipe(steps=6, learning_rate=1e-2, seed=3, warmup=1, probe_every=3, save_every=2),
    batch_size=6,
)


class Colours:
    """Questions whose answer is which of a few random pictures comes second."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randn(5, 17, 16, generator=generator)
        self.blank = torch.zeros(17, 16)
        self.read, self.drawn = [], []

    def draw(self, n, *, rng):
        rows = []
        for number in range(n):
            pictures = tuple(int(at) for at in rng.integers(5, size=2 + number % 2))
            answer = ("red", "blue", "three", "star", "circle")[pictures[1]]
            prompt = "question : what colour is the circle ? answer :"
            rows.append((pictures, Sample(str(number), "text", "qa", prompt, (answer,))))
        self.drawn.append(rows)
        return rows

    def read_tokens(self, pictures):
        return self.tokens[list(pictures)]


@pytest.fixture
def make(tiny_zoo):
    def build():
        return make_two_pass_model(
            load_model("llama-mini/vit/image-qa"), queries=2, pictures=3, name="tiny"
        )

    return build


def train(two_pass, folder, recipe=RECIPE, **sources):
    given = {"train": Colours(0), "validation": Colours(1)} | sources
    return train_two_passes(
        two_pass, **given, recipe=recipe, name="tiny", state_path=folder / "state.pt"
    )


def state_of(two_pass):
    return {k: v.clone() for k, v in collect_modules(two_pass).state_dict().items()}


@pytest.mark.parametrize("second_pass", [True, False])
def test_training_changes_what_the_recipe_names_and_nothing_else(make, tmp_path, second_pass):
    two_pass = make()
    recipe = replace(RECIPE, second_pass=second_pass, frozen_layers=1)
    before, language = state_of(two_pass), hash_exact_state(two_pass.model.language.state_dict())
    encoder = hash_exact_state(two_pass.model.perception.encoder.state_dict())
    result = train(two_pass, tmp_path, recipe)
    after = state_of(two_pass)
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    kept = select_trained_state(two_pass, recipe)
    assert changed == set(kept)
    assert count_trained_weights(two_pass, recipe) == sum(v.numel() for v in kept.values())
    assert ("condition.project.weight" in changed) is second_pass
    assert not any(key.startswith(("connector.down", "connector.layers.0")) for key in changed)
    assert {"connector.queries", "condition.places", "connector.layers.1.norm1.weight"} <= changed
    # The frozen language model and encoder stay bit for bit.
    assert hash_exact_state(two_pass.model.language.state_dict()) == language
    assert hash_exact_state(two_pass.model.perception.encoder.state_dict()) == encoder
    assert [entry["step"] for entry in result.curve] == [3, 6]
    assert ("two_passes" in result.curve[0]) is second_pass
    assert not any(p.requires_grad for p in collect_modules(two_pass).parameters())


def test_training_lowers_the_loss(make, tmp_path):
    two_pass, source = make(), Colours(0)
    longer = replace(RECIPE.training, steps=60, probe_every=30, warmup=5)
    recipe = replace(RECIPE, training=longer, batch_size=12)
    result = train(two_pass, tmp_path, recipe, train=source, validation=Colours(0))
    # A language model of random weights is hard to steer.
    assert result.curve[-1]["loss"] < result.curve[0]["loss"] - 0.3


def test_a_stopped_training_ends_with_the_same_weights(make, tmp_path):
    whole, stopped = make(), make()
    (tmp_path / "whole").mkdir()
    expected = train(whole, tmp_path / "whole").curve

    class Stop(Colours):
        def draw(self, n, *, rng):
            if len(self.drawn) == 5:
                raise KeyboardInterrupt
            return super().draw(n, rng=rng)

    with pytest.raises(KeyboardInterrupt):
        train(stopped, tmp_path, train=Stop(0))
    again = make()
    assert train(again, tmp_path).curve == expected
    for key, value in state_of(whole).items():
        assert torch.equal(value, state_of(again)[key]), key


def test_both_arms_read_the_same_questions(make, tmp_path):
    sources = []
    for second_pass in (True, False):
        source = Colours(0)
        folder = tmp_path / str(second_pass)
        folder.mkdir()
        train(make(), folder, replace(RECIPE, second_pass=second_pass), train=source)
        sources.append(source.drawn)
    assert sources[0] == sources[1]


def test_conditions_and_pictures_are_dropped_at_their_rates(make, monkeypatch):
    """Rows of one pass have no condition; blank pictures only rows with one."""
    two_pass, source = make(), Colours(0)
    recipe = replace(RECIPE, batch_size=48, one_pass_ratio=0.25, blank_ratio=0.5)
    run = two_passes._TwoPassRun(two_pass, source, source, recipe)
    seen = []
    assemble = run._assemble

    def watch(drawn, tokens, conditions, *, first=False):
        if not first:
            seen.append(
                [
                    (bool(given.any()), not bool(own.any()))
                    for own, given in zip(tokens, conditions, strict=True)
                ]
            )
        return assemble(drawn, tokens, conditions, first=first)

    monkeypatch.setattr(run, "_assemble", watch)
    for step in range(8):
        run.compute_loss(step)
    rows = np.array([row for step in seen for row in step])
    conditioned, blank = rows.T
    assert not (blank & ~conditioned).any()
    assert abs(conditioned.mean() - 0.75) < 0.1
    assert abs(blank[conditioned].mean() - 0.5) < 0.12
    # The control has neither.
    seen.clear()
    run.recipe = replace(recipe, second_pass=False)
    run.compute_loss(0)
    assert not np.array(seen[0]).any()


def test_a_language_model_that_changes_is_an_error(make, tmp_path, monkeypatch):
    two_pass = make()
    hashes = iter(["before", "after"])
    monkeypatch.setattr(frozen_language, "hash_exact_state", lambda _: next(hashes))
    with pytest.raises(ModelError, match="Training 'tiny' changed the language model"):
        train(two_pass, tmp_path)
