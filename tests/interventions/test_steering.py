"""Steering: perceptual tokens move by what they should, where they should; nothing else does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.capture import capture_activations
from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.interventions import steering
from ima.models import load_model
from ima.models.frozen import FrozenModel


@pytest.fixture(scope="module")
def model(tiny_zoo: Path) -> FrozenModel:
    return load_model("llama-mini/vit/image-caption")


@pytest.fixture(scope="module")
def vector(model: FrozenModel) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(model.hidden)


def states(model: FrozenModel, batch: object) -> list[torch.Tensor]:
    return list(
        capture_activations(model, batch, hook_points=["resid_post"])["resid_post"].values()
    )


@pytest.mark.parametrize("layer", [0, 1])
def test_perceptual_tokens_move_by_the_vector_at_the_layer_and_text_does_not(
    model: FrozenModel, vector: np.ndarray, layer: int
) -> None:
    batch = model.encode(image_set(3))
    before = states(model, batch)
    with steering.add_steering_vector(model, batch, layer=layer, offset=vector):
        inputs = []
        last = model.hook_points.blocks[layer if layer < model.layers else layer - 1]
        handle = last.register_forward_pre_hook(
            lambda _, args, kwargs: inputs.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        model.forward(batch)
        handle.remove()
    perceptual, text = batch.modality > 0, batch.modality == 0
    moved = inputs[0] - before[layer]
    torch.testing.assert_close(
        moved[perceptual],
        torch.from_numpy(vector).float().expand_as(moved[perceptual]),
        atol=1e-5,
        rtol=1e-4,
    )
    assert torch.equal(moved[text], torch.zeros_like(moved[text]))
    after = states(model, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_no_amount_changes_no_answer_and_a_large_one_does(
    model: FrozenModel, vector: np.ndarray
) -> None:
    samples = image_set(4)
    plain = model.generate(samples)
    for beams in (1, 2):
        still = partial(steering.add_steering_vector, model, layer=1, offset=0.0 * vector)
        assert model.generate(samples, around=still, num_beams=beams) == model.generate(
            samples, num_beams=beams
        )
    far = partial(steering.add_steering_vector, model, layer=1, offset=100.0 * vector)
    assert model.generate(samples, around=far) != plain
    assert model.generate(samples) == plain


def test_moving_by_the_gap_puts_one_mean_on_the_other(model: FrozenModel) -> None:
    samples = image_set(4)
    offset = steering.compute_steering_vector(model, samples, layer=1)
    batch = model.encode(samples)
    states_at = states(model, batch)[1].double()

    def mean(kind: torch.Tensor) -> torch.Tensor:
        return torch.stack([states_at[i][kind[i]].mean(0) for i in range(len(samples))]).mean(0)

    expected = mean(batch.modality == 0) - mean(batch.modality > 0)
    np.testing.assert_allclose(offset, expected.numpy(), atol=1e-5)


def test_a_random_vector_is_as_long_and_depends_on_its_seed(vector: np.ndarray) -> None:
    drawn = steering.draw_random_direction(vector, seed=1)
    assert np.linalg.norm(drawn) == pytest.approx(np.linalg.norm(vector))
    assert abs(drawn @ vector) < 0.9 * np.linalg.norm(vector) ** 2
    assert np.array_equal(drawn, steering.draw_random_direction(vector, seed=1))
    assert not np.array_equal(drawn, steering.draw_random_direction(vector, seed=2))


def test_a_sweep_has_each_amount_in_both_directions(model: FrozenModel) -> None:
    captioned = open_samples("mini-image-caption", n=4)
    polls = {"random": open_samples("mini-image-poll-random", n=4)}
    table = steering.sweep_steering(
        model,
        captioned,
        polls,
        calibration=open_samples("mini-image-caption:calibration", n=4),
        layer=1,
        amounts=(-1.0, 0.0, 1.0),
    )
    assert set(table["direction"]) == {steering.TOWARD_TEXT, steering.RANDOM_DIRECTION}
    polls = table[table["metric"] == "poll errors: random"]
    assert len(polls) == 6
    assert (polls["n"] == 4).all()
    assert polls["value"].between(0, 1).all()
    still = polls[polls["amount"] == 0]["value"]
    assert still.nunique() == 1


def test_what_cannot_be_steered_is_refused(model: FrozenModel, vector: np.ndarray) -> None:
    batch = model.encode(image_set(2))
    beyond = model.layers + 1
    with (
        pytest.raises(ParameterError, match=f"between 0 and {model.layers}; got {beyond}"),
        steering.add_steering_vector(model, batch, layer=beyond, offset=vector),
    ):
        pass
    with (
        pytest.raises(ParameterError, match="offset must be a vector of"),
        steering.add_steering_vector(model, batch, layer=1, offset=vector[:-1]),
    ):
        pass
