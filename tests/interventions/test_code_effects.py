"""Measurements of codes: arms that are what they say, a lens that adds up, alignment by model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ima.capture.hooks import capture_activations
from ima.data.samples import open_samples
from ima.errors import ModelError
from ima.interventions import code_effects as effects
from ima.interventions.browsing_effects import compare_passes, list_alignment_changes
from ima.measures.treatments import TREATMENTS
from ima.miniature.caption_metrics import score_object_overlap
from ima.miniature.datasets import make_description
from ima.models.code_model import (
    assemble_drawings,
    find_places,
    load_code_model,
    load_code_models,
)

DESCRIBE, SCORE = {"describe": make_description}, {"score": score_object_overlap}
NAMES = ("teal-8", "teal-16", "dense")


@pytest.fixture(scope="module")
def models(codes_root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMA_ZOO", str(codes_root))
        return {name: load_code_model(name) for name in NAMES}


@pytest.fixture(scope="module")
def samples():
    return open_samples("mini-image-caption", n=6)


@pytest.mark.usefixtures("codes_zoo")
def test_the_models_of_a_page_share_what_their_encoder_reads(models, samples, monkeypatch):
    read = []

    def media():
        read.append(samples[0].id)
        return samples[0].load()

    given = [replace(samples[0], media=media)]
    shared = load_code_models(NAMES)
    for name, own in shared.items():
        assert torch.equal(own.model.perception(given), models[name].model.perception(samples[:1]))
    assert read == [samples[0].id]

    def load_other(name, *, device):
        own = models[name]
        return own if name != "dense" else replace(own, card={**own.card, "parts": {}})

    monkeypatch.setattr("ima.models.code_model.load_code_model", load_other)
    with pytest.raises(ModelError, match="Codes are compared between the same frozen parts"):
        load_code_models(NAMES)


class Reader:
    """Knows some pictures by their bytes, and names what they show."""

    def __init__(self, pictures, samples):
        self.captions = {
            np.asarray(own).tobytes(): sample.references[0]
            for own, sample in zip(pictures, samples, strict=True)
        }

    def generate(self, samples, **_):
        return [self.captions.get(np.asarray(own.load()).tobytes(), "nothing") for own in samples]


def test_each_arm_shows_what_its_name_says(models, samples):
    own = models["teal-16"]
    pictures = effects.draw_pictures(own, samples, **DESCRIBE, seed=2)
    assert tuple(pictures) == effects.DRAWING_ARMS
    real = effects.read_back(Reader(pictures[effects.REAL], samples), samples, pictures, **SCORE)
    assert real[effects.REAL].tolist() == [1.0] * 6
    assert not real[effects.DRAWN].any()
    true = own.decode(own.read_codes(samples))
    assert np.array_equal(np.stack(pictures[effects.TRUE_CODES]), true)
    # The floor has the same pictures in another order, and none in its place.
    others = [own.tobytes() for own in pictures[effects.OTHER_CODES]]
    assert sorted(others) == sorted(each.tobytes() for each in true)
    assert not any(other == each.tobytes() for other, each in zip(others, true, strict=True))
    again = effects.draw_pictures(own, samples, **DESCRIBE, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(
        pictures[effects.DRAWN], again[effects.DRAWN], strict=True
    ))  # fmt: skip


def test_the_floor_of_a_drawing_is_a_mean_over_all_others(models, samples):
    pictures = effects.draw_pictures(models["teal-16"], samples, **DESCRIBE)
    said = [sample.references[0] for sample in samples]

    class Namer:
        def generate(self, shown, **_):
            return said

    found = effects.read_back(Namer(), samples, pictures, **SCORE)
    assert found[effects.TRUE_CODES].tolist() == [1.0] * 6
    expected = [
        np.mean([SCORE["score"](own, other) for at, other in enumerate(said) if at != row])
        for row, own in enumerate(samples)
    ]
    for arm in (effects.OTHER_CODES, effects.DRAWN_FROM_ANOTHER):
        np.testing.assert_allclose(found[arm], expected)
    alone = {effects.OTHER_CODES: pictures[effects.OTHER_CODES]}
    assert effects.read_back(Namer(), samples, alone, **SCORE)[effects.OTHER_CODES].all()


def test_another_description_has_other_words(models, samples, monkeypatch):
    given, asked = [replace(samples[at], id=str(at)) for at in (0, 0, 1, 2)], []
    for at, sample in enumerate(given[:2]):
        given[at] = replace(sample, id=f"same {at}")
    own = models["teal-8"]

    def draw(descriptions, **_):
        asked.append([each.prompt for each in descriptions])
        return own.read_codes(given)

    monkeypatch.setattr(type(own), "draw", lambda _, descriptions, **__: draw(descriptions))
    for seed in range(4):
        effects.draw_pictures(own, given, **DESCRIBE, seed=seed)
        said, others = asked[-2:]
        assert said[0] == said[1]
        assert all(word != other for word, other in zip(said, others, strict=True))


def test_captions_of_other_pictures_are_the_floor_of_reading(models, samples, monkeypatch):
    def answer(_, samples, *, perceptual="own", **__):
        return [own.references[0] if perceptual == "own" else "nothing" for own in samples]

    monkeypatch.setattr("ima.models.frozen.FrozenModel.generate", answer)
    scores = effects.read_pictures(models, samples, **SCORE)
    assert list(scores) == list(NAMES)
    for own in scores.values():
        assert own[effects.OWN].tolist() == [1.0] * 6
        assert own[effects.ANOTHER].tolist() == [0.0] * 6
    table = effects.tabulate_overlaps(scores)
    assert table.loc[table["arm"] == effects.OWN, "value"].tolist() == [1.0] * 3
    assert (table["n"] == 6).all()


def test_the_loss_of_codes_is_that_of_the_next_code(models, samples):
    own = models["teal-8"]
    losses = effects.measure_code_losses(own, samples, **DESCRIBE, batch_size=4)
    codes = own.read_codes(samples)
    description = make_description(samples[5])
    batch = assemble_drawings(own.model, [description], codes=codes[5:])
    logits = own.model.forward(batch, logits=True)[0, find_places(batch)[0]].double()
    logs = logits.log_softmax(dim=-1)[range(16), own.n_words + codes[5]]
    assert losses[effects.OWN_DESCRIPTION][5] == pytest.approx(-float(logs.mean()), abs=1e-5)
    assert (losses[effects.OWN_DESCRIPTION] != losses[effects.ANOTHER_DESCRIPTION]).all()


def test_statements_follow_from_paired_scores():
    rng = np.random.default_rng(0)
    noise = rng.random(400) / 10
    reading = {
        name: {effects.OWN: level + noise, effects.ANOTHER: noise}
        for name, level in (("teal-8", 0.2), ("teal-16", 0.4), ("dense", 0.6))
    }
    levels = dict(zip(effects.DRAWING_ARMS, (0.9, 0.7, 0.4, 0.1, 0.1), strict=True))
    drawing = {"teal-16": {arm: level + rng.random(400) / 10 for arm, level in levels.items()}}
    losses = {"teal-16": {effects.OWN_DESCRIPTION: noise, effects.ANOTHER_DESCRIPTION: noise + 1}}
    judged = effects.judge_codes(reading, drawing, losses, dense="dense")
    assert judged["outcome"].tolist() == [effects.HOLDS] * 9
    assert judged.loc[judged["unit"] == "nats per code", "difference"].item().value == 1.0
    assert judged["difference"].iloc[0].value == pytest.approx(0.2)
    assert {own.n for own in judged["difference"]} == {400}
    # A control below the codes, and a drawing no better than its floor, are named.
    reading["dense"][effects.OWN] = noise
    own = drawing["teal-16"]
    own[effects.DRAWN] = own[effects.OTHER_CODES] = own[effects.DRAWN_FROM_ANOTHER]
    judged = effects.judge_codes(reading, drawing, losses, dense="dense")
    failed = judged.loc[judged["outcome"] == effects.NOT_SHOWN, "statement"]
    assert failed.tolist() == [
        "dense reads its own picture",
        "teal-16 does not read more than dense",
        "teal-16 draws its own description",
        "teal-16: a drawing says more than the codes of another picture",
    ]
    # Where the true codes show no more than others, no drawing can be judged by its pixels.
    own[effects.TRUE_CODES] = own[effects.OTHER_CODES]
    judged = effects.judge_codes(reading, drawing, losses, dense="dense").set_index("statement")
    assert (judged["outcome"] == effects.NOT_JUDGED).sum() == 3
    assert judged["outcome"].iloc[-3:].eq(effects.NOT_JUDGED).all()
    assert judged["outcome"].iloc[-4] == effects.NOT_SHOWN


def test_the_mass_of_codes_is_what_a_softmax_over_all_words_says(models, samples):
    own = models["teal-8"]
    mass = effects.measure_code_mass(own, samples, **DESCRIBE, batch_size=4)
    assert mass.sizes == {"text": 6, "position": 5, "layer": own.model.layers + 1}
    assert ((mass >= 0) & (mass <= 1)).all()
    assert mass.attrs["chance"] == pytest.approx(8 / (8 + own.n_words))
    batch = own.model.encode(samples[:1])
    layer = 2
    state = capture_activations(own.model, batch, hook_points=["resid_post"])["resid_post"][layer]
    hook_points = own.model.hook_points
    logits = hook_points.unembed(hook_points.final_norm(state))[0].double()
    share = logits.softmax(dim=-1)[:, own.n_words :].sum(dim=-1)
    for position, kind in (("codes, read", 1), ("words of a caption", 0)):
        expected = share[batch.modality[0] == kind].mean()
        found = float(mass.sel(position=position, layer=layer)[0])
        assert found == pytest.approx(float(expected), abs=1e-5)


def test_alignment_is_compared_with_the_control(models, samples):
    means = effects.capture_code_means(models, samples)
    curves = effects.compute_code_alignment(means, resamples=20)
    assert list(curves) == list(NAMES)
    assert curves["dense"]["treatment"].to_numpy().tolist() == list(TREATMENTS)
    assert curves["dense"].sizes["layer"] == models["dense"].model.layers + 1
    compared = compare_passes(means, against="dense", resamples=20)
    own = compared[compared["arm"] == "dense"]["difference"]
    assert all((each.value, each.low, each.high) == (0.0, 0.0, 0.0) for each in own)
    changes = list_alignment_changes(compared, against="dense")
    assert changes["arm"].tolist() == ["teal-8", "teal-16"]
    raw = compared[(compared["arm"] == "teal-8") & (compared["treatment"] == "raw")].iloc[0]
    score = float(curves["teal-8"]["estimate"].sel(treatment="raw")[:-1].mean())
    assert raw["score"].value == pytest.approx(score)
