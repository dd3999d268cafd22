"""The ladder: damaged language models, the recipe that they share, and their summaries."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as hf
from tinyhub import TEXT, square, tokenizer

from ima.drawings import ladder
from ima.drawings.ladder import damage_language_model, make_rung_settings
from ima.drawings.rungs import RUNGS, Rung
from ima.errors import ModelError, ParameterError, UnknownNameError
from ima.studies.ladder import (
    MEASURES,
    TEXT_LOSS,
    correlate_ladder,
    describe_ladder,
    tabulate_ladder,
    train_ladder,
)
from ima.studies.model_summary import VALIDATION_LOSS


def make_language_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        return hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, vocab_size=len(tokenizer())))


@pytest.fixture
def tiny_ladder(planted, tmp_path, monkeypatch):
    """A ladder of tiny parts with three rungs."""
    language, encoder = tmp_path / "language", tmp_path / "vit"
    make_language_model().save_pretrained(language)
    tokenizer().save_pretrained(language)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = hf.ViTConfig(**sizes, num_attention_heads=2, image_size=28, patch_size=14)
        hf.ViTModel(vit).save_pretrained(encoder)
    hf.ViTImageProcessorPil(size=square(28), do_resize=True).save_pretrained(encoder)
    small = {"encoder": str(encoder), "pool": 1, "samples": 16, "width": 16, "feed_forward": 16}
    monkeypatch.setattr(ladder, "_RECIPE", {**ladder._RECIPE, **small, "batch_size": 4})
    monkeypatch.setattr(ladder, "_FIRST_STEPS", 2)
    monkeypatch.setattr(ladder, "_LANGUAGE", str(language))
    monkeypatch.setattr(ladder, "_find_whole", lambda: language)
    monkeypatch.setenv("IMA_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def test_rungs_differ_from_the_whole_model_as_they_say():
    whole = make_language_model().state_dict()
    halves = damage_language_model(make_language_model(), Rung("r", "blocks", 1))
    assert (len(halves.model.layers), halves.config.num_hidden_layers) == (1, 1)
    rounded = damage_language_model(make_language_model(), Rung("r", "bits", 2)).state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    for row, plain in zip(rounded[name], whole[name], strict=True):
        # Three values: the largest weight of the row, its negative, and zero.
        assert set((row / plain.abs().max()).round(decimals=4).tolist()) <= {-1.0, 0.0, 1.0}
        assert row.abs().max() == pytest.approx(float(plain.abs().max()))
    same = "model.embed_tokens.weight"
    assert torch.equal(rounded[same], whole[same])
    errors = []
    for bits in (2, 3, 4, 8):
        state = damage_language_model(make_language_model(), Rung("r", "bits", bits)).state_dict()
        errors.append(float((state[name] - whole[name]).square().mean()))
    assert errors == sorted(errors, reverse=True)
    first, again, other = (
        damage_language_model(make_language_model(), Rung("r", "random", seed)).state_dict()[name]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, whole[name])


def test_all_rungs_have_one_recipe():
    recipes = [
        make_rung_settings(rung).model_dump(
            exclude={"language", "out", "start", "start_layers", "word_steps", "checkpoints"}
        )
        for rung in RUNGS
    ]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert len({rung.name for rung in RUNGS}) == len(RUNGS)


def test_rungs_are_trained_from_shared_queries_and_summarised(tiny_ladder, monkeypatch):
    with pytest.raises(ModelError, match="ima zoo ladder --only whole"):
        train_ladder(only=["random-0"], samples=16, resamples=2)
    folder = train_ladder(only=["whole"], samples=16, resamples=2)
    train_ladder(only=["random-0", "2-bit"], samples=16, resamples=2)
    table = tabulate_ladder()
    assert list(table["rung"].unique()) == ["whole", "2-bit", "random-0"]
    assert {*MEASURES, TEXT_LOSS, "exact_set"} <= set(table["measure"])
    assert (table["low"] <= table["high"]).all()
    assert set(table["samples"]) == {16}
    record = json.loads((folder / "2-bit.json").read_text())
    assert record["recipe"].pop("encoder").endswith("vit")
    assert str(tiny_ladder.parent) not in json.dumps(record)
    assert record["rung"] == {"name": "2-bit", "damage": "bits", "amount": 2}
    assert record["layers"] == 3
    assert record["recipe"]["samples"] == 16
    assert record["intervals"][TEXT_LOSS][0] > 0
    work = tiny_ladder / ".training" / "ladder"
    assert not list((work / "language").iterdir())
    with monkeypatch.context() as patch:
        # What was trained by another recipe is not measured as if it were of this one.
        patch.setitem(ladder._RECIPE, "learning_rate", 1e-3)
        with pytest.raises(ParameterError, match="holds a trained model"):
            train_ladder(only=["2-bit"], samples=16, resamples=2)
    monkeypatch.setattr("ima.training.train_connector", None)
    train_ladder(only=["whole", "2-bit"], samples=16, resamples=2)
    with pytest.raises(UnknownNameError, match="Unknown rung 'x'"):
        train_ladder(only=["x"])


def test_trainings_of_one_language_model_count_once():
    models = {
        "whole": (1, 9),
        "whole-again": (2.5, 8.5),
        "8-bit": (2, 8),
        "4-bit": (3, 7),
        "3-bit": (4, 6),
    }
    models |= {"random-0": (9, 1)}
    models |= {"random-1": (7, 3), "random-2": (8, 2)}
    damages = {"w": "none", "r": "random", **dict.fromkeys("843", "bits")}
    table = pd.DataFrame(
        {"rung": rung, "damage": damages[rung[0]], "measure": measure, "value": value}
        for rung, values in models.items()
        for measure, value in zip((VALIDATION_LOSS, "IMA score"), values, strict=True)
    )
    row = correlate_ladder(table, measures=["IMA score"]).loc["IMA score"]
    assert (row["correlation"], row["models"]) == (-1, 5)
    assert row["p"] == row["p adjusted"] == pytest.approx(2 / 120)
    with pytest.raises(ParameterError):
        correlate_ladder(table[table["damage"] == "random"], measures=["IMA score"])


def test_one_clear_measure_of_several_must_be_clearer():
    rungs = [f"{bits}-bit" for bits in range(2, 8)]
    values = {VALIDATION_LOSS: range(6), "IMA score": [5, 3, 4, 2, 1, 0]}
    values |= {f"noise {k}": np.roll([3, 0, 5, 1, 4, 2], k) for k in range(5)}
    table = pd.DataFrame(
        {"rung": rung, "damage": "bits", "measure": measure, "value": float(value)}
        for measure, own in values.items()
        for rung, value in zip(rungs, own, strict=True)
    )
    alone = correlate_ladder(table, measures=["IMA score"])
    assert alone.loc["IMA score", "p"] < 0.05
    assert describe_ladder(alone, loss="loss") == "Rungs with a lower loss have a larger IMA score."
    measures = [name for name in values if name != VALIDATION_LOSS]
    beside = correlate_ladder(table, measures=measures)
    assert beside.loc["IMA score", "p adjusted"] == pytest.approx(6 * alone.loc["IMA score", "p"])
    assert describe_ladder(beside, loss="loss").startswith("No measure of alignment changes")
    turned = correlate_ladder(table, loss="IMA score", measures=[VALIDATION_LOSS])
    assert turned["correlation"].item() == alone["correlation"].item()
