"""Controls: noise, scaled inputs, untrained blocks, kinds that cannot attend to each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from tinysamples import image_set, text_sample

from ima.capture import capture_activations
from ima.errors import ModelError, ParameterError
from ima.interventions.controls import (
    _SEED_DISTANCE,
    _pool,
    _require_same_blocks,
    attention_knockout,
    draw_controls,
    reinitialize_blocks,
    replace_tokens_with_noise,
    run_control_conditions,
)
from ima.interventions.input_scale import compute_scaled_norms, scale_tokens_to_text_norm
from ima.measures.control_comparison import (
    UNCHANGED,
    compute_draw_p,
    compute_draw_scores,
    compute_pair_cosines,
)
from ima.models import load_model
from ima.models.batch import Batch
from ima.models.frozen import FrozenModel
from ima.models.hook_point_search import find_hook_points


@pytest.fixture(scope="module", params=["llama", "opt"])
def model(request: pytest.FixtureRequest, tiny_zoo: Path) -> FrozenModel:
    found = load_model("llama-mini/vit/image-caption")
    if request.param == "llama":
        return found
    from transformers import OPTConfig, OPTForCausalLM

    sizes = OPTConfig(
        vocab_size=found.language.config.vocab_size,
        hidden_size=found.hidden,
        word_embed_proj_dim=found.hidden,
        ffn_dim=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    language = OPTForCausalLM(sizes).eval().requires_grad_(requires_grad=False)
    return replace(found, language=language, hook_points=find_hook_points(language))


def states(model: FrozenModel, batch: object) -> list[torch.Tensor]:
    return list(
        capture_activations(model, batch, hook_points=["resid_post"])["resid_post"].values()
    )


def test_noise_keeps_lengths_and_text(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    noisy = replace_tokens_with_noise(batch, seed=1)
    perceptual = batch.modality > 0
    assert torch.equal(noisy.embeds[~perceptual], batch.embeds[~perceptual])
    assert not torch.allclose(noisy.embeds[perceptual], batch.embeds[perceptual])
    torch.testing.assert_close(
        noisy.embeds[perceptual].norm(dim=-1), batch.embeds[perceptual].norm(dim=-1)
    )
    assert torch.equal(noisy.embeds, replace_tokens_with_noise(batch, seed=1).embeds)


def test_inputs_that_would_be_overwritten_are_refused(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    inside = replace(batch, extra={"inputs_embeds": None, "input_ids": batch.token_id})
    with pytest.raises(ModelError, match="inserts perceptual tokens inside its decoder"):
        replace_tokens_with_noise(inside, seed=1)
    with pytest.raises(ModelError, match="inserts perceptual tokens inside its decoder"):
        scale_tokens_to_text_norm(inside)


def test_scaled_inputs_have_the_median_norm_of_text_and_their_directions(
    model: FrozenModel,
) -> None:
    batch = model.encode([*image_set(4), text_sample(0)])
    scaled = scale_tokens_to_text_norm(batch)
    perceptual = batch.modality > 0
    assert torch.equal(scaled.embeds[~perceptual], batch.embeds[~perceptual])
    for row in range(4):
        before, after, text = (
            embeds[row][own[row]].double()
            for embeds, own in (
                (batch.embeds, perceptual),
                (scaled.embeds, perceptual),
                (scaled.embeds, batch.modality == 0),
            )
        )
        asked = np.median(text.norm(dim=-1))
        assert np.median(after.norm(dim=-1)) == pytest.approx(asked, rel=1e-5)
        assert np.median(before.norm(dim=-1)) != pytest.approx(asked, rel=0.01)
        # One number for the whole sample.
        factors = after / before
        torch.testing.assert_close(factors, factors[:1, :1].expand_as(factors))


def test_scaled_norms_are_those_of_a_forward_pass_with_scaled_inputs(model: FrozenModel) -> None:
    samples = image_set(5)
    medians = compute_scaled_norms(model, samples, batch_size=3)
    assert medians.dims == ("sample", "kind", "layer")
    assert medians["id"].to_numpy().tolist() == [sample.id for sample in samples]
    for row, sample in enumerate(samples):
        # Alone, without padding and without the hooks of this package.
        batch = model.encode([sample])
        own = batch.modality[0] > 0
        lengths = np.sqrt((batch.embeds[0].numpy() ** 2).sum(axis=-1))
        embeds = batch.embeds.clone()
        embeds[0, own] *= np.median(lengths[~own]) / np.median(lengths[own])
        last = []
        hook = model.hook_points.final_norm.register_forward_pre_hook(
            lambda _, args, last=last: last.append(args[0])
        )
        with torch.no_grad():
            output = model.language(inputs_embeds=embeds, output_hidden_states=True)
        hook.remove()
        for layer, state in enumerate([*output.hidden_states[:-1], *last]):
            norms = np.sqrt((state[0].numpy() ** 2).sum(axis=-1))
            for kind, rows in (("perceptual", own), ("textual", ~own)):
                assert float(medians.sel(kind=kind, layer=layer)[row]) == pytest.approx(
                    np.median(norms[rows]), rel=1e-4
                )
    assert medians.sizes["layer"] == model.layers + 1


def test_random_blocks_leave_the_model_and_its_input_as_they_were(model: FrozenModel) -> None:
    batch = model.encode(image_set(2))
    before = states(model, batch)
    other = reinitialize_blocks(model, seed=3)
    random = states(other, batch)
    assert torch.equal(random[0], before[0])
    assert not torch.allclose(random[-1], before[-1])
    for a, b in zip(states(model, batch), before, strict=True):
        assert torch.equal(a, b)
    again = states(reinitialize_blocks(model, seed=3), batch)
    assert torch.equal(again[-1], random[-1])
    assert "random" in other.name


def test_separated_text_knows_nothing_of_percepts(model: FrozenModel) -> None:
    batch = model.encode(image_set(4))
    noisy = replace_tokens_with_noise(batch, seed=2)
    textual = batch.modality == 0
    with attention_knockout(model, batch, last_layer=model.layers):
        own, other = states(model, batch), states(model, noisy)
    for a, b in zip(own, other, strict=True):
        assert torch.equal(a[textual], b[textual])
    whole = states(model, batch)
    assert not torch.allclose(own[-1][textual], whole[-1][textual])
    # Perceptual tokens never attend to text.
    perceptual = batch.modality > 0
    torch.testing.assert_close(own[-1][perceptual], whole[-1][perceptual])


def test_above_the_last_separated_layer_the_kinds_meet(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    noisy, textual = replace_tokens_with_noise(batch, seed=2), batch.modality == 0
    with attention_knockout(model, batch, last_layer=1):
        own, other = states(model, batch), states(model, noisy)
    assert torch.equal(own[1][textual], other[1][textual])
    assert not torch.allclose(own[2][textual], other[2][textual])


def test_separating_nothing_changes_nothing(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    whole = states(model, batch)
    with attention_knockout(model, batch, last_layer=0):
        for a, b in zip(states(model, batch), whole, strict=True):
            assert torch.equal(a, b)
    with (
        pytest.raises(ParameterError, match="between 0"),
        attention_knockout(model, batch, last_layer=99),
    ):
        pass


def test_conditions_differ_where_they_should(model: FrozenModel) -> None:
    runs = run_control_conditions(model, image_set(4), depths=[0.4], batch_size=2, seed=3)
    assert list(runs) == ["as it is", "noise", "random blocks", "separated up to 1", "separated"]
    assert [str(i) for i in runs["noise"]["id"].values] == [one.id for one in image_set(4)]
    for title in ("noise", "random blocks"):
        same = np.isclose(runs["as it is"], runs[title]).all(axis=(0, 3))
        # Only the unchanged kind agrees at the input; nothing agrees after the first block.
        assert not same[:, 1:].any()
        assert same[1, 0]
        assert same[0, 0] == (title == "random blocks")


def average(model: FrozenModel, batch: Batch) -> np.ndarray:
    """Compare each sample's percepts with each sample's text, by hand."""
    kinds = [batch.modality > 0, batch.modality == 0]
    cosines = []
    for state in states(model, batch)[:-1]:
        means = [
            np.stack(
                [
                    own[rows].double().numpy().mean(axis=0)
                    for own, rows in zip(state, mask, strict=True)
                ]
            )
            for mask in kinds
        ]
        cosines.append([[1 - cosine(p, t) for t in means[1]] for p in means[0]])
    return np.mean(cosines, axis=0)


def test_draws_are_the_cosines_of_noise_and_of_random_blocks(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    drawn = draw_controls(model, {"a": batch, "b": batch}, draws=2, seed=3)
    assert drawn["a"].dims == ("control", "draw", "sample", "other")
    own = 3 + 2 * _SEED_DISTANCE  # of the second draw
    second = drawn["a"].isel(draw=1)
    noisy = replace_tokens_with_noise(batch, seed=own)
    np.testing.assert_allclose(second.sel(control="noise"), average(model, noisy), atol=1e-5)
    random = reinitialize_blocks(model, seed=own)
    np.testing.assert_allclose(
        second.sel(control="random blocks"), average(random, batch), atol=1e-5
    )
    # Both data sets have the blocks of one draw, and noise of their own.
    same = np.isclose(drawn["a"], drawn["b"]).all(axis=(1, 2, 3))
    assert same.tolist() == [False, True]
    first, other = drawn["a"].isel(draw=0), drawn["a"].isel(draw=1)
    assert not np.isclose(first, other).all(axis=(1, 2)).any()
    again = draw_controls(model, {"a": batch, "b": batch}, draws=1, seed=3)
    assert again["a"].identical(drawn["a"].isel(draw=[0]))


def compute_p(model: FrozenModel, batch: Batch, *, seed: int) -> float:
    own = compute_pair_cosines(_pool(model, [batch]))
    drawn = draw_controls(model, {"a": batch}, draws=9, seed=seed)
    scores = compute_draw_scores({UNCHANGED: {"a": own}}, drawn, resamples=2)
    return compute_draw_p(scores)["random blocks"]


@pytest.mark.parametrize("model", ["llama"], indirect=True)  # one is enough for so many draws
def test_untrained_blocks_rank_anywhere_among_their_draws(model: FrozenModel) -> None:
    batch = model.encode(image_set(4))
    trials = 24
    p = [
        compute_p(reinitialize_blocks(model, seed=10**9 + at), batch, seed=at)
        for at in range(trials)
    ]
    # Uniform on a tenth, two tenths … one.
    assert abs(np.mean(p) - 0.55) < 3 * np.std(np.arange(1, 11) / 10) / np.sqrt(trials)
    assert np.mean(np.isclose(p, 0.1)) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / trials)
    assert min(p) < 0.3
    assert max(p) > 0.8


@pytest.mark.parametrize("model", ["opt"], indirect=True)  # its blocks have biases
def test_blocks_that_give_all_tokens_one_direction_are_above_all_draws(model: FrozenModel) -> None:
    batch = model.encode(image_set(4))
    planted = reinitialize_blocks(model, seed=0)
    for block in planted.hook_points.blocks:
        block.fc2.bias.fill_(50.0)
    assert compute_p(planted, batch, seed=1) == 0.1


def test_draws_for_caches_of_two_language_models_are_refused(model: FrozenModel) -> None:
    _require_same_blocks(model, model)
    with pytest.raises(ModelError, match="have different blocks"):
        _require_same_blocks(model, reinitialize_blocks(model, seed=0))
