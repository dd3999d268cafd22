"""Training resumes to the same bytes; its learning rate rises, falls, and may restart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ima.training.loop import TrainingRecipe, compute_learning_rate, fit_model, run_training_loop

RECIPE = TrainingRecipe(steps=12, learning_rate=0.05, warmup=3, probe_every=4, save_every=5)


class Killed(Exception):
    pass


def run(path, *, dies_at=None, kept=None):
    """Train a line; ``kept`` collects its weights at some milestones."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)

    def step_loss(step):
        if step == dies_at:
            raise Killed
        x = torch.from_numpy(np.random.default_rng(step).normal(size=(4, 3))).float()
        return (model(x) - 1).square().mean()

    def keep(step):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        before = kept.setdefault(step, state)
        assert all(torch.equal(before[name], state[name]) for name in state)

    how = {} if kept is None else {"milestones": (3, 7, 9), "keep": keep}
    result = fit_model(model, step_loss, RECIPE, name="line", state_path=path, **how)
    return model.state_dict(), result.curve


@pytest.mark.parametrize("dies_at", [2, 6, 11])
def test_a_killed_training_ends_with_the_same_bytes(tmp_path, dies_at):
    whole, curve = run(tmp_path / "a.pt")
    with pytest.raises(Killed):
        run(tmp_path / "b.pt", dies_at=dies_at)
    resumed, again = run(tmp_path / "b.pt")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert again == curve
    assert [entry["step"] for entry in curve] == [4, 8, 12]


@pytest.mark.parametrize("dies_at", [6, 10])
def test_milestones_are_kept_with_the_same_weights(tmp_path, dies_at):
    kept = {}
    with pytest.raises(Killed):
        run(tmp_path / "a.pt", dies_at=dies_at, kept=kept)
    run(tmp_path / "a.pt", kept=kept)
    assert sorted(kept) == [3, 7, 9]
    run(tmp_path / "b.pt", kept=kept)


def test_the_learning_rate_rises_and_falls():
    rates = [compute_learning_rate(step, RECIPE) for step in range(RECIPE.steps)]
    assert max(rates) == pytest.approx(RECIPE.learning_rate)
    assert rates[:3] == sorted(rates[:3])
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_a_restart_repeats_the_cosine_and_keeps_what_was_before_it():
    once = replace(RECIPE, steps=8)
    twice = replace(RECIPE, steps=20, restart=8)
    rates = [compute_learning_rate(step, twice) for step in range(twice.steps)]
    assert rates[:8] == [compute_learning_rate(step, once) for step in range(8)]
    assert rates[8] == pytest.approx(RECIPE.learning_rate)
    assert rates[8:] == sorted(rates[8:], reverse=True)


def test_another_process_neither_keeps_weights_nor_saves_a_state(tmp_path):
    model = nn.Linear(1, 1)
    result = run_training_loop(
        model,
        torch.optim.SGD(model.parameters()),
        float,
        RECIPE,
        name="line",
        state_path=tmp_path / "a.pt",
        probe=lambda: {"grad": float(torch.is_grad_enabled()), "training": float(model.training)},
        probe_at={3},
        milestones={2},
        keep=lambda step: pytest.fail("kept"),
        is_main=False,
    )
    assert [entry["step"] for entry in result.curve] == [3, 4, 8, 12]
    assert result.curve[0] == {"step": 3, "loss": 1.0, "grad": 0.0, "training": 0.0}
    assert list(tmp_path.iterdir()) == []


def test_rates_are_factors_of_the_learning_rate_by_the_start_of_a_name(tmp_path):
    """Adam's first step is as long as the learning rate, whatever the gradient is."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    before = {name: own.detach().clone() for name, own in model.named_parameters()}
    recipe = TrainingRecipe(steps=1, learning_rate=0.01, warmup=0, weight_decay=0.0)
    fit_model(
        model, lambda _: model(torch.ones(4, 3)).sum(), recipe, name="line",
        state_path=tmp_path / "state.pt", rates={"0.": 0.5, "1.weight": 0.0, "1.": 4.0},
    )  # fmt: skip
    moved = {
        name: float((own.detach() - before[name]).abs().max())
        for name, own in model.named_parameters()
    }
    assert moved == pytest.approx(
        {
            "0.weight": 0.005, "0.bias": 0.005, "1.weight": 0.0, "1.bias": 0.04,
            "2.weight": 0.01, "2.bias": 0.01,
        },
        rel=1e-3,
    )  # fmt: skip


class Scaler:
    """The scale of half precision, which grows with each step."""

    def __init__(self):
        self.scale = 1.0

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state):
        self.scale = state["scale"]


def test_the_scale_of_half_precision_is_that_of_the_state(tmp_path):
    def train(scaler, dies_at=None):
        model = nn.Linear(1, 1)

        def take_step(step):
            if step == dies_at:
                raise Killed
            scaler.scale *= 2
            return 0.0

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run_training_loop(
            model, optimizer, take_step, RECIPE, name="x", state_path=tmp_path / "x.pt",
            scaler=scaler,
        )  # fmt: skip

    with pytest.raises(Killed):
        train(Scaler(), dies_at=7)
    resumed = Scaler()
    train(resumed)
    assert resumed.scale == 2.0**RECIPE.steps
