from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tinysamples import image_set, text_sample

from ima.capture import capture_activations, compute_batch_statistics, logit_lens
from ima.capture.logit_lens import apply_logit_lens
from ima.models.frozen import FrozenModel


@pytest.fixture
def gain(model: FrozenModel) -> Iterator[None]:
    """Give the final norm a gain: with a gain of 1, norming twice would go unnoticed."""
    weight = model.language.model.norm.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(torch.linspace(0.3, 3.0, len(weight)))
        yield
        weight.copy_(before)


@pytest.mark.usefixtures("gain")
def test_the_lens_is_the_mean_of_the_softmax_over_tokens(model: FrozenModel) -> None:
    batch = model.encode([*image_set(3), text_sample("t")])
    found = compute_batch_statistics(model, batch, hook_points=["ln1"], logit_lens=4).logit_lens
    states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    for layer, state in states.items():
        logits = model.language.lm_head(model.language.model.norm(state))
        share = logits.double().softmax(-1)
        entropy = torch.special.entr(share).sum(-1)
        for row in range(4):
            for kind, own in enumerate((batch.modality[row] > 0, batch.modality[row] == 0)):
                got = torch.from_numpy(found["log_probability"][row, kind, layer])
                if not own.any():
                    assert torch.isnan(got).all()
                    continue
                torch.testing.assert_close(
                    got.double().exp(), share[row, own].mean(0), atol=1e-6, rtol=1e-4
                )
                expected = float(entropy[row, own].mean())
                assert found["entropy"][row, kind, layer] == pytest.approx(expected, rel=1e-4)
    assert (
        compute_batch_statistics(model, batch, hook_points=["ln1"], logit_lens=2)
        .logit_lens["entropy"]
        .shape[0]
        == 2
    )


def test_blocks_of_tokens_give_the_same_distributions(
    model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = model.encode(image_set(3))
    state = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"][2]
    whole = apply_logit_lens(model.hook_points, state, kinds=batch.kinds)
    monkeypatch.setattr(logit_lens, "LOGIT_BLOCK_SIZE", 1)
    parts = apply_logit_lens(model.hook_points, state, kinds=batch.kinds)
    for expected, computed in zip(whole, parts, strict=True):
        torch.testing.assert_close(computed, expected, atol=1e-5, rtol=1e-5)
