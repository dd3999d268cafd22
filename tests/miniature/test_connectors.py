"""Connectors learn from answers while the language model stays frozen."""

import pytest
import torch

from ima.data.samples import open_samples
from ima.miniature import connectors, language_model
from ima.miniature.datasets import Situation
from ima.models.connector import Connector
from ima.training.loop import TrainingRecipe

LLAMA = language_model.MINI_LANGUAGE_MODELS["llama-mini"]


@pytest.mark.parametrize("task", ["caption", "qa"])
def test_a_connector_learns_while_the_language_model_stays(tokenizer, tmp_path, task):
    language = language_model.build_language_model(LLAMA, tokenizer, seed=3, num_hidden_layers=2)
    before = {k: v.clone() for k, v in language.state_dict().items()}
    situations = [Situation("image", "train", i, 0) for i in range(8)]
    connector = Connector(
        connectors.make_connector_config(16, hidden=language.config.hidden_size), seed=0
    )
    untrained = {name: value.clone() for name, value in connector.state_dict().items()}
    result = connectors.train_connector_on_features(
        connector,
        language=language,
        features=torch.randn(8, 6, 16, generator=torch.Generator().manual_seed(0)),
        texts=connectors.tokenize_turns(situations, task, tokenizer),
        recipe=TrainingRecipe(steps=10, learning_rate=3e-3, warmup=2, probe_every=2),
        name="test",
        state_path=tmp_path / "c.pt",
    )
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    assert all(torch.equal(before[k], v) for k, v in language.state_dict().items())
    assert all(p.grad is None for p in language.parameters())
    assert not all(torch.equal(untrained[k], v) for k, v in connector.state_dict().items())
    assert not connector.training


def test_texts_weigh_the_answers_only(tokenizer):
    texts = connectors.tokenize_turns([Situation("audio", "train", 0, 0)], "caption", tokenizer)
    answer = texts.ids[0, 0][texts.weights[0, 0] == 1]
    assert (
        tokenizer.decode(list(answer), skip_special_tokens=True).strip()
        == (open_samples("mini-audio-caption:train", n=1)[0].references[0])
    )


def test_rows_of_all_tasks_hold_a_caption_first_and_every_kind_of_question():
    seen = set()
    for index in range(20):
        situation = Situation("image", "train", index, 0)
        rows = connectors.make_multitask_turns(situation)
        assert len(rows) == len(connectors.MULTITASK_ROW_KINDS)
        (caption,) = connectors.make_caption_turns(situation)
        assert rows[-1] == caption
        assert rows[0][:1] == caption
        assert all(0 < len(row) <= connectors.TURNS_PER_ROW for row in rows)
        assert all(answer in {"yes", "no"} for _, answer in rows[2])
        seen |= {prompt.split()[2] for row in rows[:2] for prompt, _ in row if "question" in prompt}
    # What, where, how, is there …
    assert {"what", "how", "is", "where"} <= seen
