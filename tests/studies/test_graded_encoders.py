"""Graded encoders: trained once, kept as summaries, and compared as models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers as hf

from ima.drawings import graded_recipes
from ima.drawings.graded import GRADED_ENCODERS, GRADED_SEEDS, GradedEncoder
from ima.drawings.graded_recipes import make_graded_settings, write_random_encoder
from ima.errors import ModelError, UnknownNameError
from ima.models import zoo
from ima.studies import graded_encoders
from ima.studies.model_families import (
    Outcomes,
    associate_independent_models,
    group_families,
)
from ima.studies.model_summary import IMA_SCORE, ModelSummary

WORDS = Outcomes("a higher score", "a lower score", "score", smallest=0.1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty zoo in which deeper encoders are more aligned and score higher."""
    monkeypatch.setattr(zoo, "get_zoo_root", lambda: tmp_path)
    trained = []
    monkeypatch.setattr(graded_encoders, "_train", lambda graded, _: trained.append(graded.name))

    def measure(graded, settings, *, samples, resamples):
        assert (samples, resamples) == (8, 5)
        depth = 0.0 if graded.random is not None else float(graded.block or 12)
        values = np.full(6, depth + len(graded.encoder) / 100 + settings.seed)
        model = f"smollm2/{graded.title}/{graded.dataset.split('-', 1)[1]}"
        scores = {"exact_set": values / 20}
        return ModelSummary(model, graded.dataset, "", 8, {IMA_SCORE: values}, scores).to_record()

    monkeypatch.setattr(graded_encoders, "_measure", measure)
    return tmp_path / graded_encoders.GRADED_FOLDER, trained


def train(**options):
    return graded_encoders.train_graded_encoders(samples=8, resamples=5, **options)


def test_every_encoder_is_trained_with_one_seed_before_the_next(folder):
    path, trained = folder
    assert graded_encoders.read_graded_encoders() == {}
    assert train() == path
    names = [one.name for one in GRADED_ENCODERS]
    assert len(set(names)) == len(names)
    assert trained == names * len(GRADED_SEEDS)
    train()
    assert len(trained) == len(names) * len(GRADED_SEEDS)
    found = graded_encoders.read_graded_encoders()
    assert sorted(found) == sorted(f"{name}-{seed}" for name in names for seed in GRADED_SEEDS)
    assert found["image-dinov2-6-1"].model == "smollm2/dinov2-6/image-caption"


def test_an_encoder_or_a_modality_is_chosen(folder):
    _, trained = folder
    train(only=["video", "image-dinov2-6"], seeds=[1])
    assert trained[0] == "image-dinov2-6"
    assert {name.split("-")[0] for name in trained[1:]} == {"video"}
    with pytest.raises(UnknownNameError, match="Did you mean 'video-dinov2-8'"):
        train(only=["video-dinov2_8"])


def test_graded_encoders_are_independent_models_of_one_family(folder):
    """Two seeds of an encoder are one model; each modality is a stratum of its own."""
    train()
    families = group_families(
        {}, metrics={"caption": "exact_set"}, short_runs=graded_encoders.read_graded_encoders()
    )
    assert list(families) == ["smollm2 (ST)"]
    found = associate_independent_models(families["smollm2 (ST)"], outcomes=WORDS)
    assert found.n == len({one.title for one in GRADED_ENCODERS})
    assert found.interval.value == pytest.approx(1.0, abs=0.02)


def test_numbers_of_another_recipe_are_refused(folder):
    path, _ = folder
    train(only=["audio-whisper"], seeds=[0])
    record = json.loads((path / "audio-whisper-0.json").read_text(encoding="utf-8"))
    record["recipe"]["samples"] += 1
    (path / "audio-whisper-0.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ModelError, match=r"another recipe .* ima zoo graded --only audio-whisper"):
        graded_encoders.read_graded_encoders()


def test_settings_say_how_an_encoder_is_read(folder):
    by_name = {one.name: one for one in GRADED_ENCODERS}
    clips = make_graded_settings(by_name["video-efficientnet-11"], seed=1)
    assert (clips.frames, clips.pool, clips.block, clips.seed) == (4, 2, 11, 1)
    sounds = make_graded_settings(by_name["audio-whisper-random1-2"], seed=0)
    assert (sounds.seconds, sounds.block) == (5.0, 2)
    assert sounds.encoder.endswith("encoders/whisper-1")


def test_a_random_encoder_has_the_architecture_and_none_of_the_weights(tmp_path, monkeypatch):
    config = hf.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    hf.Dinov2Model(config).save_pretrained(tmp_path / "part")
    hf.BitImageProcessorPil().save_pretrained(tmp_path / "part")
    monkeypatch.setattr(graded_recipes, "find_part", lambda _: tmp_path / "part")
    graded = GradedEncoder("drawings-image-caption", "dinov2", random=7)
    state = torch.get_rng_state()
    for name in ("first", "second"):
        write_random_encoder(graded, tmp_path / name)
    assert torch.equal(torch.get_rng_state(), state)
    whole, first, second = (
        hf.Dinov2Model.from_pretrained(tmp_path / name).state_dict()
        for name in ("part", "first", "second")
    )
    name = next(name for name, weight in whole.items() if weight.ndim == 2 and len(weight) > 1)
    assert torch.equal(first[name], second[name])
    assert not torch.allclose(first[name], whole[name])
    hf.AutoImageProcessor.from_pretrained(tmp_path / "first")


def test_a_random_convolutional_encoder_tells_pictures_apart(tmp_path, monkeypatch):
    config = hf.EfficientNetConfig(
        image_size=64, hidden_dim=1280, width_coefficient=1.0, depth_coefficient=1.0
    )
    hf.EfficientNetModel(config).save_pretrained(tmp_path / "part")
    hf.BitImageProcessorPil().save_pretrained(tmp_path / "part")
    monkeypatch.setattr(graded_recipes, "find_part", lambda _: tmp_path / "part")
    graded = GradedEncoder("drawings-image-caption", "efficientnet", random=0)
    write_random_encoder(graded, tmp_path / "random")
    encoder = hf.EfficientNetModel.from_pretrained(tmp_path / "random").eval()
    pictures = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = encoder(pictures).last_hidden_state.flatten(1)
    assert states.isfinite().all()
    assert (states.norm(dim=1) > 1e-6).all()
    assert torch.cosine_similarity(states[:1], states[1:]).max() < 0.999
