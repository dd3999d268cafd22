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
from ima.errors import ParameterError, UnknownNameError
from ima.interventions import steering
from ima.models import load_model
from ima.models.frozen import FrozenModel
from ima.stats.intervals import Interval


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


def test_random_vectors_are_as_long_and_depend_on_their_seed(vector: np.ndarray) -> None:
    drawn = steering.draw_random_directions(vector, count=5, seed=1)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(vector))
    cosines = np.abs(drawn @ drawn.T) / np.linalg.norm(vector) ** 2
    assert (cosines[~np.eye(5, dtype=bool)] < 0.9).all()
    assert np.array_equal(drawn, steering.draw_random_directions(vector, count=5, seed=1))
    assert not np.array_equal(drawn, steering.draw_random_directions(vector, count=5, seed=2))


@pytest.fixture(scope="module")
def sweep(model: FrozenModel) -> steering.SteeringSweep:
    return steering.sweep_steering(
        model,
        open_samples("mini-image-caption", n=6),
        {"random": open_samples("mini-image-poll-random", n=4)},
        calibration=open_samples("mini-image-caption:calibration", n=4),
        layer=1,
        amounts=(-1.0, 0.0, 30.0),
        contrasted=(0.0, 30.0),
        directions=4,
        turns=2,
    )


def test_a_sweep_has_each_amount_and_random_directions_take_turns(
    sweep: steering.SteeringSweep,
) -> None:
    table = sweep.tabulate()
    polls = table[table["metric"] == "poll errors: random"]
    assert polls["direction"].tolist() == [steering.TOWARD_TEXT] * 3
    assert polls["amount"].tolist() == [-1.0, 0.0, 30.0]
    assert (polls["n"] == 4).all()
    assert polls["value"].between(0, 1).all()
    for moved in sweep.random_mentions.values():
        assert moved.shape == (4, 6, 2)
        turns = np.arange(4)[:, None] % 2 == np.arange(6) % 2
        assert np.array_equal(np.isfinite(moved).all(axis=2), turns)
    # Nobody moves by zero, in whichever direction.
    still = sweep.random_mentions[0.0]
    expected = np.where(np.isfinite(still), sweep.mentions[0.0], np.nan)
    np.testing.assert_array_equal(still, expected)
    assert str(sweep.contrast_directions()[0.0]) == "0.000 [0.000, 0.000], n = 6"


def make_sweep(toward: np.ndarray, moved: np.ndarray) -> steering.SteeringSweep:
    """Make a sweep of one amount from whether captions name an absent object, and one other."""
    mentions, random = (
        {1.0: np.stack([absent, absent + 1.0], axis=-1)} for absent in (toward, moved)
    )
    return steering.SteeringSweep(mentions, {1.0: {}}, random)


def test_directions_are_contrasted_sample_by_sample() -> None:
    rng = np.random.default_rng(0)
    hard = (np.arange(40) < 20).astype(float)  # captions that go wrong whatever happens
    moved = np.tile(hard, (20, 1))
    moved[(np.arange(20)[:, None] - np.arange(40)) % 4 != 0] = np.nan
    same = make_sweep(hard, moved).contrast_directions()[1.0]
    # Unpaired, the interval of 40 captions would be a third wide.
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    changed = np.where(np.arange(40) % 2, 1.0, hard)
    more = make_sweep(changed, moved).contrast_directions()[1.0]
    assert more.value == pytest.approx((changed - hard).mean())
    assert 0 < more.low < more.value < more.high < 0.5
    noisy = np.where(np.isfinite(moved), rng.random(moved.shape) < 0.5, np.nan)
    wide = make_sweep(hard, noisy).contrast_directions()[1.0]
    assert wide.low < wide.value < wide.high
    named = make_sweep(changed, moved).contrast_directions("named objects")[1.0]
    assert named.value == pytest.approx(more.value)
    with pytest.raises(UnknownNameError, match="Unknown metric 'chair'"):
        make_sweep(hard, moved).contrast_directions("chair")


def test_several_amounts_are_judged_together() -> None:
    rng = np.random.default_rng(1)
    absent, moved = rng.random(40) < 0.5, (rng.random((20, 40)) < 0.4).astype(float)
    counts, cells = np.stack([absent, absent + 1.0], -1), np.stack([moved, moved + 1.0], -1)
    one = steering.SteeringSweep({1.0: counts}, {1.0: {}}, {1.0: cells})
    two = steering.SteeringSweep(
        {1.0: counts, 2.0: counts}, {1.0: {}, 2.0: {}}, {1.0: cells, 2.0: cells}
    )
    alone, beside = one.contrast_directions()[1.0], two.contrast_directions()[1.0]
    assert beside.low < alone.low < alone.high < beside.high


def test_the_conclusion_follows_the_numbers() -> None:
    more, none = Interval(0.2, 0.1, 0.3, n=64), Interval(0.0, -0.1, 0.1, n=64)
    text = steering.describe_steering_contrasts(
        {1.0: none, 4.0: more}, named={1.0: none, 4.0: none}
    )
    assert "makes more captions name an absent object (0.20 [0.10, 0.30] at distance 4)" in text
    assert "no detectable difference otherwise (0.00 [-0.10, 0.10] at distance 1)" in text
    assert text.endswith(
        "detectably more or fewer objects (0.00 [-0.10, 0.10] at distance 1 and "
        "0.00 [-0.10, 0.10] at distance 4)."
    )
    opposite = {1.0: Interval(-0.2, -0.3, -0.1, n=64), 4.0: more}
    text = steering.describe_steering_contrasts(opposite, named={1.0: none, 4.0: none})
    assert "makes more captions" in text
    assert "makes fewer captions" in text
    assert "say less" not in text
    # What captions no longer say is said even if their errors stay as they are.
    fewer = {1.0: none, 4.0: Interval(-1.8, -2.3, -1.2, n=64)}
    text = steering.describe_steering_contrasts({1.0: none, 4.0: none}, named=fewer)
    assert text.endswith(" Captions name fewer objects (-1.80 [-2.30, -1.20] at distance 4).")
    text = steering.describe_steering_contrasts(
        {1.0: none, 4.0: none}, named={1.0: more, 4.0: none}
    )
    assert text.endswith(" Captions name more objects (0.20 [0.10, 0.30] at distance 1).")


def test_sweeps_that_cannot_be_contrasted_are_refused(model: FrozenModel) -> None:
    samples = open_samples("mini-image-caption", n=3)
    given = {"calibration": samples, "layer": 1, "amounts": (0.0, 1.0)}
    with pytest.raises(ParameterError, match=r"\[2.0\] is not among the amounts \[0.0, 1.0\]"):
        steering.sweep_steering(model, samples, {}, contrasted=(2.0,), **given)
    with pytest.raises(ParameterError, match="got 4 with 20 directions and 3 samples"):
        steering.sweep_steering(model, samples, {}, **given)


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
