from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tinysamples import image_sample, image_set, text_sample

from ima.capture import capture_activations, compute_batch_statistics
from ima.errors import ActivationError
from ima.hook_points import HOOK_POINTS
from ima.models.frozen import FrozenModel


@contextmanager
def spoiled(model: FrozenModel, *, layer: int, value: float, rows: Any) -> Iterator[None]:
    """Overwrite a number of a block's feed-forward output at (sample, position)."""

    def spoil(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[rows] = value
        return output

    handle = model.hook_points.blocks[layer - 1].mlp.register_forward_hook(spoil)
    try:
        yield
    finally:
        handle.remove()


def test_the_head_runs_for_the_loss_only_and_on_the_answer_only(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    seen: list[int] = []
    handle = model.hook_points.unembedding.register_forward_hook(
        lambda _module, args, _output: seen.append(args[0].shape[0])
    )
    try:
        assert compute_batch_statistics(model, batch).loss is None
        assert seen == []
        compute_batch_statistics(model, batch, loss=True)
    finally:
        handle.remove()
    assert seen == batch.answer.sum(dim=1).tolist()


@pytest.mark.parametrize("hook_points", [("resid_post",), ("attn_out",)])
def test_loss_is_transformers_own(model: FrozenModel, hook_points: tuple[str, ...]) -> None:
    samples = [*image_set(3), text_sample(0)]
    measured = compute_batch_statistics(
        model, model.encode(samples), hook_points=hook_points, loss=True
    )
    assert measured.loss is not None
    for sample, loss in zip(samples, measured.loss, strict=True):
        one = model.encode([sample])
        with torch.no_grad():
            logits = model.language(inputs_embeds=one.embeds).logits
            labels = one.token_id.masked_fill(~one.answer, -100)
            own = model.language.loss_function(logits, labels, vocab_size=logits.shape[-1])
        assert loss == pytest.approx(float(own), abs=1e-5)


def test_a_kind_without_tokens_is_nan_and_not_zero(model: FrozenModel) -> None:
    measured = compute_batch_statistics(model, model.encode([image_sample(0), text_sample(0)]))
    assert measured.counts[1, 0] == 0
    for hook_point in HOOK_POINTS:
        assert np.isnan(measured.means[hook_point][1, 0]).all()
        assert np.isfinite(measured.means[hook_point][1, 1]).all()
        for norms in measured.norms[hook_point].values():
            assert np.isnan(norms[1, 0]).all()
            assert np.isfinite(np.delete(norms.reshape(4, -1), 2, axis=0)).all()
    assert measured.drift is not None
    assert np.isnan(measured.drift[1, 0]).all()


def test_what_stands_at_padding_does_not_matter(model: FrozenModel) -> None:
    batch = model.encode(image_set(4))
    clean = compute_batch_statistics(model, batch, loss=True)
    padding = batch.modality < 0
    assert padding.any()
    read = compute_batch_statistics(model, batch, logit_lens=4, input_norms=True)
    # What the second-last block spoils at padding enters the linear layers of the last.
    with spoiled(model, layer=model.layers - 1, value=1e4, rows=padding):
        spoilt = compute_batch_statistics(
            model, batch, hook_points=["ln1"], logit_lens=4, input_norms=True
        )
    for name, values in read.logit_lens.items():
        np.testing.assert_array_equal(spoilt.logit_lens[name], values)
    for name, values in read.input_norms.items():
        np.testing.assert_array_equal(spoilt.input_norms[name], values)
    for value in (1e4, float("nan")):
        with spoiled(model, layer=model.layers, value=value, rows=padding):
            spoilt = compute_batch_statistics(model, batch, loss=True)
        for hook_point in HOOK_POINTS:
            np.testing.assert_array_equal(spoilt.means[hook_point], clean.means[hook_point])
            np.testing.assert_array_equal(
                spoilt.norms[hook_point]["median"], clean.norms[hook_point]["median"]
            )
        np.testing.assert_array_equal(spoilt.drift, clean.drift)
        np.testing.assert_array_equal(spoilt.loss, clean.loss)


def test_drift_spans_several_layers(model: FrozenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ima.capture.statistics.DRIFT_STEPS", (1, 2))
    batch = model.encode(image_set(2))
    drift = compute_batch_statistics(model, batch, hook_points=["resid_post"]).drift
    states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    assert drift is not None
    for step in (1, 2):
        for layer in range(model.layers + 1 - step):
            cosine = torch.cosine_similarity(states[layer], states[layer + step], dim=-1)
            own = [float(cosine[row][batch.modality[row] == 0].mean()) for row in range(2)]
            np.testing.assert_allclose(drift[:, 1, step - 1, layer], own, atol=1e-5)
        assert np.isnan(drift[:, :, step - 1, model.layers + 1 - step :]).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_activations_are_refused(model: FrozenModel, value: float) -> None:
    batch = model.encode(image_set(4))
    with (
        spoiled(model, layer=2, value=value, rows=(2, 5)),
        pytest.raises(
            ActivationError, match=r"Hook point 'resid_post', layer 2: .* samples 's2'\."
        ),
    ):
        compute_batch_statistics(model, batch, hook_points=["resid_post"])


def test_states_beyond_float16_are_refused_with_a_way_out(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    with spoiled(model, layer=3, value=7e4, rows=(1, 2)):
        with pytest.raises(ActivationError) as caught:
            compute_batch_statistics(model, batch, hook_points=["mlp_out"], keep=2)
        wide = compute_batch_statistics(
            model, batch, hook_points=["mlp_out"], keep=2, dtype="float32"
        )
        # Statistics are float32, whatever is kept.
        compute_batch_statistics(model, batch, hook_points=["mlp_out"], keep=1)
    assert "Hook point 'mlp_out', layer 3: a state of 70000 in samples 's1'" in str(caught.value)
    assert "dtype='float32' (--dtype float32)" in str(caught.value)
    assert wide.states["mlp_out"].max() == np.float32(7e4)


def test_kept_states_are_the_tokens_of_the_first_samples(model: FrozenModel) -> None:
    batch = model.encode(image_set(4), side="left")
    measured = compute_batch_statistics(model, batch, hook_points=["ln2"], keep=2, dtype="float32")
    states = capture_activations(model, batch, hook_points=["ln2"])["ln2"]
    first, second = (int(count) for count in measured.counts.sum(axis=1)[:2])
    assert measured.states["ln2"].shape == (model.layers, first + second, model.hidden)
    real = batch.modality >= 0
    for row, layer in ((0, 1), (1, 3)):
        expected = states[layer][row][real[row]].numpy()
        found = measured.states["ln2"][layer - 1][measured.coords["sample"] == row]
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(measured.coords["position"], [*range(first), *range(second)])
    perceptual = measured.coords["modality"] == 1
    assert perceptual.sum() == measured.counts[:2, 0].sum()
    assert (measured.coords["token_id"][perceptual] == -1).all()
    assert (measured.coords["token_id"][~perceptual] >= 0).all()
