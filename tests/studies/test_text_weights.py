"""Drift of states and overlap of activated weights between two language models on text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import ima.models
from ima.capture.text_states import capture_text_drift, capture_text_input_norms
from ima.errors import ParameterError
from ima.measures import text_drift
from ima.studies.text_weights import compare_text_weights

PASSAGES = (
    "a small red circle left of a large blue square .",
    "a green triangle moves right while a yellow star blinks .",
    "what is heard first ? a loud high flute",
)


@pytest.fixture(scope="module")
def models(tiny_zoo):
    frozen, seeing, tuned = (
        ima.models.load_model(name)
        for name in ("llama-mini", "llama-mini/vit/image-caption", "llama-mini")
    )
    weight = tuned.language.model.layers[1].mlp.down_proj.weight
    weight.data += 0.5 * weight.data.roll(1, 0)
    return frozen, seeing, replace(tuned, name="tuned")


def test_a_frozen_arm_does_not_drift(models):
    frozen, seeing, _ = models
    drift = capture_text_drift(seeing, frozen, PASSAGES)
    assert not drift["change"].to_numpy().any()
    assert np.allclose(drift["cosine"], 1)
    assert np.allclose(text_drift.compute_treated_drift(drift), 1)
    overlap = compare_text_weights(seeing, frozen, PASSAGES, permutations=2)
    assert (overlap.sel(overlap=text_drift.TWO_MODELS) == 1).all()
    assert (overlap.sel(overlap=text_drift.PERMUTED) < 1).all()


def test_a_change_in_one_block_is_seen_from_there_on(models):
    frozen, _, tuned = models
    drift = capture_text_drift(tuned, frozen, PASSAGES, batch_size=2)
    assert not drift["change"].sel(layer=[0, 1]).to_numpy().any()
    assert (drift["change"].sel(layer=[2, 3]) > 0).all()
    for row, text in enumerate(PASSAGES):
        ids = frozen.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            before, after = (
                own.language(input_ids=ids, output_hidden_states=True).hidden_states[2][0]
                for own in (frozen, tuned)
            )
        change = ((after - before).norm(dim=-1) / before.norm(dim=-1)).mean()
        cosine = torch.cosine_similarity(before, after, dim=-1).mean()
        assert drift["change"].sel(layer=2)[row] == pytest.approx(float(change), rel=1e-4)
        assert drift["cosine"].sel(layer=2)[row] == pytest.approx(float(cosine), rel=1e-4)
        mean = drift["mean"].sel(layer=2, kind="model")[row]
        assert np.allclose(mean, after.mean(dim=0), atol=1e-5)
    cosines = text_drift.compute_treated_drift(drift)
    treated = cosines.sel(layer=2)
    assert (treated < 1).all()
    means = drift["mean"].sel(layer=2).to_numpy()
    raw = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in means]
    assert np.allclose(treated.sel(treatment="raw"), raw)
    curves = text_drift.bound_text_curve(cosines, resamples=20)
    for name in cosines["treatment"].to_numpy():
        own = cosines.sel(treatment=name)
        assert np.allclose(curves["estimate"].sel(treatment=name), own.mean("text")), name
        spread = curves["draws"].sel(treatment=name)
        assert (spread >= own.min("text") - 1e-9).all(), name
        assert (spread <= own.max("text") + 1e-9).all(), name
    assert not np.allclose(treated.sel(treatment="standardised"), raw)
    bounds = text_drift.bound_text_curve(drift["change"], resamples=20)
    assert bounds["estimate"].sel(layer=2) == pytest.approx(
        float(drift["change"].sel(layer=2).mean())
    )
    assert bounds["draws"].sizes == {"draw": 20, "layer": 4}
    overlap = compare_text_weights(tuned, frozen, PASSAGES, permutations=2)
    assert (overlap.sel(overlap=text_drift.TWO_MODELS, layer=1) == 1).all()
    assert (overlap.sel(overlap=text_drift.TWO_MODELS, layer=[2, 3]) < 1).all()


def test_norms_are_sums_over_real_tokens(models):
    frozen = models[0]
    one_by_one = capture_text_input_norms(frozen, PASSAGES, batch_size=1)
    together = capture_text_input_norms(frozen, PASSAGES, batch_size=3)
    assert set(one_by_one) == set(frozen.hook_points.linear_in_features)
    for name, value in one_by_one.items():
        assert np.allclose(value, together[name], rtol=1e-4), name


def test_models_that_cannot_be_compared_are_refused(models, tmp_path):
    frozen, _, _ = models
    other = ima.models.load_model("opt-mini")
    with pytest.raises(ParameterError, match="have other linear layers"):
        compare_text_weights(other, frozen, PASSAGES)
    with pytest.raises(ParameterError, match="Two texts are needed"):
        compare_text_weights(frozen, frozen, PASSAGES[:1])
    words = frozen.tokenizer
    stranger = replace(frozen, name="stranger", tokenizer=_Shifted(words))
    with pytest.raises(ParameterError, match="'stranger' and 'llama-mini' read other tokens"):
        capture_text_drift(stranger, frozen, PASSAGES)
    short = replace(
        frozen, hook_points=replace(frozen.hook_points, blocks=frozen.hook_points.blocks[:2])
    )
    with pytest.raises(ParameterError, match="states cannot be compared"):
        capture_text_drift(short, frozen, PASSAGES)


class _Shifted:
    """A tokenizer whose every token is the next one."""

    def __init__(self, words):
        self.words, self.eos_token_id = words, words.eos_token_id

    def __call__(self, text, **options):
        return {"input_ids": [number + 1 for number in self.words(text, **options)["input_ids"]]}
