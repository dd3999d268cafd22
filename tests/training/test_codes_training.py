"""A training of codes: its codebook, its loss over words and codes, and what stays frozen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ima.data.samples import open_samples
from ima.errors import ModelError, ParameterError
from ima.miniature.datasets import make_description
from ima.models import load_model
from ima.models.codes import CodeConfig, CodeConnector
from ima.models.zoo import hash_state_dict
from ima.training import codes as training
from ima.training.loop import TrainingRecipe

BASE = "llama-mini/vit/image-caption"
RECIPE = training.CodeRecipe(
    TrainingRecipe(steps=6, learning_rate=1e-2, warmup=1, probe_every=3, save_every=2, seed=5),
    codes=8, batch_size=4, width=16, pixels=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def sources(tiny_zoo):
    base = load_model(BASE)
    sizes = CodeConfig(encoder_width=16, hidden=1, output_norm=1.0)
    made = {}
    for split, n in (("train", 24), ("validation", 8)):
        pictures = open_samples(f"mini-image-caption:{split}", n=n)
        tokens = base.perception.tokens(pictures)
        pixels = np.stack([own.load()[::2, ::2] for own in pictures])
        made[split] = training.CodePictures(
            tiles=CodeConnector(sizes).pool_tiles(tokens),
            pixels=torch.from_numpy(pixels),
            captions=pictures,
            descriptions=[make_description(own) for own in pictures],
        )
    return made


def train(sources, tmp_path, recipe=RECIPE, base=None, name="codes", reading=None):
    base = base or load_model(BASE)
    return training.train_codes(
        base,
        **sources,
        recipe=recipe,
        name=name,
        state_path=tmp_path / f"{name}.pt",
        reading=reading,
    )


def test_a_codebook_is_that_of_its_seed_and_holds_the_means_of_its_tiles():
    rng = np.random.default_rng(0)
    centres = 9.0 * np.eye(4, 6)
    tiles = torch.from_numpy(np.repeat(centres, 30, axis=0) + 0.1 * rng.normal(size=(120, 6)))
    found = training.fit_codebook(tiles, codes=4, seed=1)
    assert torch.equal(found, training.fit_codebook(tiles, codes=4, seed=1))
    assert torch.equal(found, found.half().float())
    nearest = torch.cdist(torch.from_numpy(centres).float(), found).min(dim=1)
    assert sorted(nearest.indices.tolist()) == [0, 1, 2, 3]
    assert nearest.values.max() < 0.2
    with pytest.raises(ParameterError, match=r"codebook of 200 codes needs as many tiles; .* 120"):
        training.fit_codebook(tiles, codes=200)


def test_the_loss_is_over_words_and_codes(sources):
    base = load_model(BASE)
    configuration = training.make_configuration(base, RECIPE, encoder_width=16)
    modules = training.build_modules(configuration)
    modules["connector"].centroids.copy_(training.fit_codebook(sources["train"].tiles, codes=8))
    with torch.no_grad():
        modules["connector"].written.normal_()
    run = training._CodeRun(base, modules, sources, RECIPE)
    losses = run._compute_losses("train", [0, 1], [2, 3])
    assert list(losses) == ["caption", "code", "pixel"]
    # Words compete with codes, and codes with words: either loss moves the rows of codes.
    for key in ("caption", "code"):
        (grad,) = torch.autograd.grad(losses[key], modules["connector"].written, retain_graph=True)
        assert grad.abs().sum() > 0
    (grad,) = torch.autograd.grad(losses["code"], modules["connector"].places, retain_graph=True)
    assert (grad.abs().sum(dim=1) > 0).all()
    (grad,) = torch.autograd.grad(
        losses["pixel"], modules["connector"].places, retain_graph=True, allow_unused=True
    )
    assert grad is None


def test_only_rows_places_and_decoder_learn(sources, tmp_path):
    base = load_model(BASE)
    before = {
        key: hash_state_dict(own.state_dict())
        for key, own in (("language", base.language), ("encoder", base.perception.encoder))
    }
    modules, configuration, result = train(sources, tmp_path, base=base)
    assert hash_state_dict(base.language.state_dict()) == before["language"]
    assert hash_state_dict(base.perception.encoder.state_dict()) == before["encoder"]
    untrained = training.build_modules(configuration, seed=5).state_dict()
    for key, value in modules.state_dict().items():
        assert not torch.equal(value, untrained[key]), key
    assert [entry.keys() for entry in result.curve] == [
        {"step", "loss", "caption", "code", "pixel"}
    ] * 2
    assert result.curve[1]["loss"] < result.curve[0]["loss"]


def test_an_interrupted_training_ends_as_an_uninterrupted_one(sources, tmp_path, monkeypatch):
    whole, _, _ = train(sources, tmp_path)
    compute = training._CodeRun.compute_loss

    def fail(self, step):
        if step == 5:
            raise KeyboardInterrupt
        return compute(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(training._CodeRun, "compute_loss", fail)
        with pytest.raises(KeyboardInterrupt):
            train(sources, tmp_path, name="stopped")
    resumed, _, _ = train(sources, tmp_path, name="stopped")
    assert all(
        torch.equal(resumed.state_dict()[key], own) for key, own in whole.state_dict().items()
    )


def test_all_validation_pictures_count_however_large_a_batch_is(sources, tmp_path, monkeypatch):
    shown = []
    compute = training._CodeRun._compute_losses

    def note(self, split, read, drawn):
        if split == "validation":
            shown.extend(read)
        return compute(self, split, read, drawn)

    monkeypatch.setattr(training._CodeRun, "_compute_losses", note)
    for size in (3, 16):
        shown.clear()
        _, _, result = train(sources, tmp_path, replace(RECIPE, batch_size=size), name=str(size))
        assert shown == 2 * list(range(8))
        assert result.curve[-1].keys() == {"step", "loss", "caption", "code", "pixel"}


@pytest.mark.parametrize("codes", [8, None])
def test_a_first_stage_makes_units_of_the_first_layer_words(sources, tmp_path, monkeypatch, codes):
    recipe, stage = (
        replace(RECIPE, codes=codes),
        training.ReadingRecipe(word_steps=4, last_rate=2.0),
    )
    before, begun = (
        training.build_modules(
            training.make_configuration(
                load_model(BASE), recipe, encoder_width=16, reading_places=True
            ),
            seed=5,
        ),
        {},
    )
    fit = training.fit_model

    def note(modules, *arguments, **options):
        begun.update({key: own.clone() for key, own in modules.state_dict().items()})
        assert options["rates"] == stage.get_rates()
        return fit(modules, *arguments, **options)

    monkeypatch.setattr(training, "fit_model", note)
    whole, _, result = train(sources, tmp_path, recipe, name="whole", reading=stage)
    assert [entry["step"] for entry in result.word_curve] == [4]
    # The layers that lead to the language model, and what is written, wait for the second stage.
    changed = {
        key for key, own in before.state_dict().items() if not torch.equal(own, begun[key])
    } - {"connector.centroids"}
    assert changed == {"connector.read.0.weight", "connector.read.0.bias"}
    places = whole["connector"].reading_places
    assert not torch.equal(places, begun["connector.reading_places"])
    # A stop in the second stage does not repeat the first one.
    compute = training._CodeRun.compute_loss

    def fail(self, step):
        if step == 5:
            raise KeyboardInterrupt
        return compute(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(training._CodeRun, "compute_loss", fail)
        with pytest.raises(KeyboardInterrupt):
            train(sources, tmp_path, recipe, name="stopped", reading=stage)
    monkeypatch.setattr(training, "train_word_stage", None)
    resumed, _, again = train(sources, tmp_path, recipe, name="stopped", reading=stage)
    assert again.word_curve == result.word_curve
    assert all(
        torch.equal(resumed.state_dict()[key], own) for key, own in whole.state_dict().items()
    )


def test_the_control_reads_the_same_pictures_and_has_no_codes(sources, tmp_path, monkeypatch):
    read = {}
    compute = training.compute_answer_loss
    for codes in (8, None):
        seen = read[codes] = []

        def note(model, samples, seen=seen, **options):
            seen.append([own.id for own in samples])
            return compute(model, samples, **options)

        monkeypatch.setattr(training, "compute_answer_loss", note)
        modules, configuration, result = train(
            sources, tmp_path, replace(RECIPE, codes=codes), name=str(codes)
        )
    assert read[8] == read[None]
    assert configuration["decoder"] is None
    assert list(modules) == ["connector"]
    assert result.curve[0].keys() == {"step", "loss", "caption"}


def test_a_changed_language_model_is_an_error(sources, tmp_path, monkeypatch):
    base = load_model(BASE)
    compute = training._CodeRun.compute_loss

    def tamper(self, step):
        with torch.no_grad():
            base.language.get_input_embeddings().weight[3] += 1
        return compute(self, step)

    monkeypatch.setattr(training._CodeRun, "compute_loss", tamper)
    with pytest.raises(ModelError, match="changed the language model, which must stay frozen"):
        train(sources, tmp_path, base=base)


def test_pictures_without_captions_are_refused(sources):
    with pytest.raises(ParameterError, match="24 pictures have 24 grids of pixels, 3 captions"):
        replace(sources["train"], captions=sources["train"].captions[:3])
