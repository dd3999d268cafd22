"""Training of a multitask model: patches, the chat template, and several tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers as hf
from tinycolours import make_sample, split_folder
from tinyhub import tokenizer

import ima.models
from ima.data.folders import write_data_folder
from ima.data.samples import SampleSet, open_samples
from ima.errors import ModelError, ParameterError
from ima.files import hash_file
from ima.models import answer_loss, zoo
from ima.models.adapter import add_adapter
from ima.models.chat_template import read_text_frame, tokenize_in_frame
from ima.training import train_connector

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FRAME = ("<|user|>", "<|end|><|assistant|>", "<|end|>")


@pytest.fixture(scope="module")
def chat_parts(parts, tmp_path_factory):
    """The tiny parts; the language model's tokenizer has a chat template."""
    folder = tmp_path_factory.mktemp("chat")
    hf.AutoModelForCausalLM.from_pretrained(parts / "language").save_pretrained(folder)
    words = tokenizer()
    words.chat_template = TEMPLATE
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """A folder of questions on the pictures of the captions' folder."""
    path = tmp_path_factory.mktemp("data") / "questions"
    samples = [
        replace(make_sample(i), task="qa", prompt="which colour ?", references=(("a", "b")[i % 2],))
        for i in range(24)
    ]
    write_data_folder(SampleSet("questions", "test", tuple(samples)), path)
    split_folder(path)
    return path


@pytest.fixture
def multitask(settings, chat_parts, data, questions):
    def make(**changes):
        options = {"connector": "patches", "chat": True, "language": str(chat_parts)}
        return settings(**{**options, "data": f"{data},{questions}", **changes})

    return make


def test_a_multitask_model_learns_several_tasks_and_is_loaded(multitask, data, questions):
    path = train_connector(multitask())
    card = json.loads((Path(path) / zoo.CARD_FILE).read_text())
    assert (card["setup"], card["task"], card["class"]) == ("MT", "multitask", "PatchProjector")
    assert card["datasets"] == [str(data), str(questions)]
    losses = [entry["validation"] for entry in card["curve"]]
    assert losses[-1] < losses[0]
    model = ima.models.load_model(path)
    assert (model.setup, model.task, model.perception.queries) == ("MT", "multitask", 4)
    assert model.perception.has_summary
    untrained = ima.models.load_model(f"{path}@0")
    sample = open_samples(str(questions))[0]
    assert not torch.equal(model.perception([sample]), untrained.perception([sample]))


def test_the_medium_follows_the_head_of_the_chat_template(multitask, questions):
    model = ima.models.load_model(train_connector(multitask(epochs=1)))
    sample = open_samples(str(questions))[0]
    batch = model.encode([sample])
    words = model.tokenizer
    dialogue = [
        {"role": "user", "content": sample.prompt},
        {"role": "assistant", "content": sample.references[0]},
    ]
    expected = words.apply_chat_template(dialogue, tokenize=False)
    ids, codes = batch.token_id[0].tolist(), batch.modality[0].tolist()
    head, middle, end = (words(part, add_special_tokens=False)["input_ids"] for part in FRAME)
    assert [i for i in ids if i >= 0] == words(expected, add_special_tokens=False)["input_ids"]
    start = len(head)
    assert codes[: start + 4] == [-1] * start + [1] * 4
    n_prompt = len(words(sample.prompt)["input_ids"])
    rest = codes[start + 4 :]
    assert rest[:n_prompt] == [0] * n_prompt
    assert rest[n_prompt : n_prompt + len(middle)] == [-1] * len(middle)
    answer = batch.token_id[0][batch.answer[0]]
    said = words(f"{sample.references[0]}<|end|>")["input_ids"]
    assert answer.tolist() == said
    # What counts as text: the prompt, the answer and its end.
    assert model.count_tokens([sample]) == [(4, rest.count(0))]
    assert rest.count(0) == n_prompt + len(answer)
    alone = model.encode([sample], target=False)
    assert alone.token_id[0].tolist() == ids[: -len(answer)]
    assert answer.tolist()[-len(end) :] == end


def test_the_loss_with_a_shared_head_is_the_loss_of_whole_sequences(
    multitask, data, questions, monkeypatch
):
    model = ima.models.load_model(train_connector(multitask(epochs=1)))
    samples = [open_samples(str(data))[0], *open_samples(str(questions))[:3]]
    connector = model.perception.connector.requires_grad_()

    def compute():
        connector.zero_grad()
        loss = answer_loss.compute_answer_loss(model, samples, connector=connector)
        loss.backward()
        return float(loss.detach()), connector.out.weight.grad.clone()

    loss, gradient = compute()

    def compute_whole(model, batch, *, head):
        return model.hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state[:, head:]

    monkeypatch.setattr(answer_loss, "_compute_states", compute_whole)
    whole, whole_gradient = compute()
    assert loss == pytest.approx(whole, rel=1e-5)
    assert torch.allclose(gradient, whole_gradient, atol=1e-6)


def test_what_a_multitask_model_cannot_be_trained_on_is_refused(
    multitask, settings, parts, data, tmp_path
):
    with pytest.raises(ModelError, match=r"no chat template.*--no-chat"):
        train_connector(multitask(language=str(parts / "language")))
    with pytest.raises(ParameterError, match="no queries that could learn words"):
        train_connector(settings(out=str(tmp_path / "words"), connector="patches", word_steps=2))
    clips = tmp_path / "clips"
    clip = [replace(make_sample(i), modality="video") for i in range(24)]
    frames = [replace(c, media=lambda c=c: make_sample(0).load()[None]) for c in clip]
    write_data_folder(SampleSet("clips", "test", tuple(frames)), clips)
    split_folder(clips)
    with pytest.raises(ParameterError, match="image and video"):
        train_connector(settings(out=str(tmp_path / "two"), data=f"{data},{clips}"))
    options = {"data": str(clips), "frames": 1, "connector": "patches"}
    with pytest.raises(ModelError, match=r"patches needs .* reads video and makes 5 tokens"):
        train_connector(settings(out=str(tmp_path / "video"), **options))


def test_a_template_that_drops_the_prompt_is_refused():
    words = tokenizer()
    words.chat_template = "{% for m in messages %}<|{{ m.role }}|>{% endfor %}"
    with pytest.raises(ModelError, match="does not write a prompt"):
        read_text_frame(words)


def test_no_frame_depends_on_the_day():
    words = tokenizer()
    literal = f"{{{{ strftime_now('%d %b %Y') }}}} {TEMPLATE}"
    variable = f'{{% set day = "%-d.%m.%y" %}}{{{{ strftime_now(day) }}}} {TEMPLATE}'
    for template, written in {literal: "26 Jul 2024 ", variable: "26.07.24 "}.items():
        words.chat_template = template
        head = read_text_frame(words).head
        assert head.startswith(written)
        words.chat_template = {"default": template, "tool_use": "{{ tools }}"}
        assert read_text_frame(words).head == head


def test_a_prompt_without_an_answer_has_no_answer_tokens():
    words = tokenizer()
    words.chat_template = TEMPLATE
    frame = read_text_frame(words)
    asked = tokenize_in_frame(make_sample(0), frame=frame, tokenizer=words, target=False)
    assert asked.answer == len(asked.ids)
    assert asked.counted < len(asked.ids) == len(asked.template)


def test_an_adapter_tunes_the_language_model_and_is_merged(multitask, tmp_path, data, chat_parts):
    frozen = ima.models.load_model(train_connector(multitask(out=str(tmp_path / "frozen"))))
    path = train_connector(multitask(lora_rank=2))
    card = json.loads((Path(path) / zoo.CARD_FILE).read_text())
    assert (card["tuned"], card["language_state"]) == (True, frozen.card["language_state"])
    tuned, untrained = ima.models.load_model(path), ima.models.load_model(f"{path}@0")
    names = {name for name, _ in tuned.language.named_parameters()}
    assert names == {name for name, _ in frozen.language.named_parameters()}
    weights = [
        model.language.model.layers[0].mlp.down_proj.weight for model in (tuned, untrained, frozen)
    ]
    assert torch.equal(weights[1], weights[2])
    assert not torch.allclose(weights[0], weights[1])
    assert tuned.weights_hash not in {frozen.weights_hash, untrained.weights_hash}
    # The merged model has the loss that the training measured at its end.
    validation = open_samples(f"{data}:validation")
    assert len(validation) == 4
    losses = [
        float(
            answer_loss.compute_answer_loss(
                tuned, open_samples(f"{name}:validation"), connector=tuned.perception.connector
            )
        )
        for name in card["datasets"]
    ]
    assert sum(losses) / 2 == pytest.approx(card["curve"][-1]["validation"], abs=0.01)


def test_an_adapter_learns_from_the_head_of_the_template_too(multitask, data):
    model = ima.models.load_model(train_connector(multitask(epochs=1)))
    parameters = add_adapter(model.language, rank=2)
    samples = open_samples(str(data), n=2)

    def compute_gradients():
        model.language.zero_grad()
        connector = model.perception.connector
        answer_loss.compute_answer_loss(model, samples, connector=connector).backward()
        return {name: value.grad.clone() for name, value in parameters.items()}

    tuned = compute_gradients()
    # The same loss, and every token in one pass.
    batch = model.encode(samples)
    model.language.zero_grad()
    states = model.hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
    rows, positions = batch.answer.nonzero(as_tuple=True)
    logits = model.hook_points.unembed(states[rows, positions - 1])
    targets = batch.token_id[rows, positions]
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    (torch.stack([losses[rows == row].mean() for row in range(2)]).mean()).backward()
    assert any(value.abs().max() > 0 for value in tuned.values())
    for name, value in parameters.items():
        assert torch.allclose(tuned[name], value.grad, atol=1e-6), name


def test_a_stopped_tuning_ends_as_an_uninterrupted_one(multitask, tmp_path, stopped_at):
    options = {"lora_rank": 2, "epochs": 4}
    whole = train_connector(multitask(out=str(tmp_path / "whole"), **options))
    with stopped_at(15), pytest.raises(KeyboardInterrupt):
        train_connector(multitask(**options))
    resumed = train_connector(multitask(**options))
    hashes = [hash_file(Path(path) / zoo.WEIGHTS_FILE) for path in (whole, resumed)]
    assert hashes[0] == hashes[1]
