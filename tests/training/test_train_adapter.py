"""Tuning of a language model: which layers, peft's own folder, and the control without media."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tinyzoo import make_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

import ima.models
from ima.data.samples import open_samples
from ima.errors import ModelError, ParameterError
from ima.models import answer_loss, zoo
from ima.models.adapter import ADAPTER_FOLDER, ADAPTER_WEIGHTS, add_adapter, merge_adapter
from ima.models.text_scores import score_texts
from ima.training import train_connector

TEXTS = [("question : what colour is the circle ? answer :", "red"), ("", "a small red circle")]
OPTIONS = {"lora_rank": 2, "epochs": 2, "checkpoints": 0}


def read_card(path):
    return json.loads((Path(path) / zoo.CARD_FILE).read_text())


def differing(tuned, frozen):
    """Return which weights of the language model differ, without their layers' numbers."""
    before = frozen.language.state_dict()
    return {
        name.rpartition(".")[0].rpartition(".")[2]
        for name, value in tuned.language.state_dict().items()
        if not torch.equal(value, before[name])
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory, parts, data):
    """A frozen model, one with a light adapter, one with a full one, and the control on texts."""
    from ima.training import TrainingSettings

    root = tmp_path_factory.mktemp("trained")
    common = {
        "language": str(parts / "language"), "encoder": str(parts / "vit"), "data": str(data),
        "batch_size": 4, "learning_rate": 3e-3, "warmup": 2, "width": 16, "feed_forward": 16,
        "layers": 1, "device": "cpu", **OPTIONS,
    }  # fmt: skip
    arms = {
        "frozen": {"lora_rank": None},
        "light": {"lora_layers": "query-value"},
        "full": {},
        "text": {"text_only": True},
    }
    return {
        name: train_connector(
            TrainingSettings.from_values({**common, **own, "out": str(root / name)})
        )
        for name, own in arms.items()
    }


def test_adapters_tune_the_layers_that_were_asked_for(trained):
    models = {name: ima.models.load_model(path) for name, path in trained.items()}
    every = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert differing(models["light"], models["frozen"]) == {"q_proj", "v_proj"}
    assert differing(models["full"], models["frozen"]) == every
    assert differing(models["text"], models["frozen"]) == every


def test_a_frozen_arm_reads_texts_bit_for_bit_as_its_language_model(trained, parts):
    base = score_texts(ima.models.load_model(str(parts / "language")), TEXTS).log_probability
    scores = {
        name: score_texts(ima.models.load_model(path), TEXTS).log_probability
        for name, path in trained.items()
    }
    assert np.array_equal(scores["frozen"], base)
    for name in ("light", "full", "text"):
        assert not np.array_equal(scores[name], base), name


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # of peft
def test_peft_itself_reads_the_adapter_and_merges_it_to_the_same_model(trained, parts):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ours = ima.models.load_model(trained["light"]).language.state_dict()
    plain = AutoModelForCausalLM.from_pretrained(parts / "language")
    merged = PeftModel.from_pretrained(plain, Path(trained["light"]) / ADAPTER_FOLDER)
    for name, value in merged.merge_and_unload().state_dict().items():
        assert torch.allclose(value, ours[name], atol=1e-6), name


def test_the_control_reads_no_media_and_keeps_its_connector(trained, data, monkeypatch):
    card = read_card(trained["text"])
    assert (card["recipe"]["text_only"], card["tuned"]) == (True, True)
    assert card["trained"]["steps"] == read_card(trained["full"])["trained"]["steps"]
    text, untrained = (ima.models.load_model(f"{trained['text']}{at}") for at in ("", "@0"))
    states = [model.perception.connector.state_dict() for model in (text, untrained)]
    # What is stored is rounded to float16.
    assert all(
        torch.equal(value.half(), states[1][name].half()) for name, value in states[0].items()
    )
    samples = open_samples(f"{data}:validation")
    loss = float(answer_loss.compute_answer_loss(text, samples, connector=None))
    before = float(answer_loss.compute_answer_loss(untrained, samples, connector=None))
    assert loss < before
    assert loss == pytest.approx(card["curve"][-1]["validation"], abs=0.01)
    monkeypatch.setattr(type(text.perception), "tokens", None)
    again = float(answer_loss.compute_answer_loss(text, samples, connector=None))
    assert again == loss


def test_cards_name_later_settings_only_where_they_matter(trained):
    assert "lora_layers" not in read_card(trained["frozen"])["recipe"]
    assert "text_only" not in read_card(trained["full"])["recipe"]
    assert read_card(trained["light"])["recipe"]["lora_layers"] == "query-value"


def test_a_saved_copy_keeps_the_adapter_and_an_altered_one_is_refused(trained, tmp_path):
    model = ima.models.load_model(trained["full"])
    path = Path(trained["full"])
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    assert ima.models.load_model(str(copy)).weights_hash == model.weights_hash
    assert model.weights_hash != ima.models.load_model(trained["frozen"]).weights_hash
    weights = copy / ADAPTER_FOLDER / ADAPTER_WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="sha256"):
        ima.models.load_model(str(copy))
    weights.unlink()
    with pytest.raises(ModelError, match="missing"):
        ima.models.load_model(str(copy))


@pytest.mark.parametrize("changes", [{"lora_rank": None}, {"word_steps": 3}])
def test_a_control_without_an_adapter_is_refused(settings, changes):
    with pytest.raises(ParameterError, match=r"--text-only .* needs --lora-rank, and no"):
        train_connector(settings(**{"text_only": True, "lora_rank": 2, **changes}))


def test_a_model_without_query_and_value_projections_is_refused():
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": len(make_tokenizer())}
    model = GPT2LMHeadModel(GPT2Config(**sizes))
    with pytest.raises(ModelError, match=r"no linear layers q_proj and v_proj.*--lora-layers all"):
        add_adapter(model, rank=2, layers="query-value")


def test_an_untrained_adapter_changes_nothing(parts):
    model = ima.models.load_model(str(parts / "language"))
    before = score_texts(model, TEXTS).log_probability
    weights = add_adapter(model.language, rank=2, layers="query-value", seed=1)
    assert np.array_equal(score_texts(model, TEXTS).log_probability, before)
    fresh = ima.models.load_model(str(parts / "language"))
    merged = merge_adapter(fresh.language, weights, rank=2, layers="query-value")
    assert not any("lora" in name for name, _ in merged.named_parameters())
