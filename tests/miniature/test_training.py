"""Training resumes to the same bytes and leaves frozen parts alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ima.data.samples import open_samples
from ima.files import replace_file, write_json
from ima.miniature import connectors, language_model
from ima.miniature.corpus import train_tokenizer
from ima.miniature.datasets import Situation
from ima.miniature.induction import init_rotary_induction
from ima.miniature.pools import build_pool
from ima.models.connector import Connector
from ima.training.loop import TrainingRecipe, compute_learning_rate, fit_model

LLAMA = language_model.MINI_LANGUAGE_MODELS["llama-mini"]
RECIPE = TrainingRecipe(steps=12, learning_rate=0.05, warmup=3, probe_every=4, save_every=5)


class Killed(Exception):
    pass


def run(path, *, dies_at=None, kept=None):
    """Train a line; ``kept`` collects its weights at some milestones."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)

    def step_loss(step):
        if step == dies_at:
            raise Killed
        x = torch.from_numpy(np.random.default_rng(step).normal(size=(4, 3))).float()
        return (model(x) - 1).square().mean()

    def keep(step):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        before = kept.setdefault(step, state)
        assert all(torch.equal(before[name], state[name]) for name in state)

    how = {} if kept is None else {"milestones": (3, 7, 9), "keep": keep}
    result = fit_model(model, step_loss, RECIPE, name="line", state_path=path, **how)
    return model.state_dict(), result.curve


@pytest.mark.parametrize("dies_at", [2, 6, 11])
def test_a_killed_training_ends_with_the_same_bytes(tmp_path, dies_at):
    whole, curve = run(tmp_path / "a.pt")
    with pytest.raises(Killed):
        run(tmp_path / "b.pt", dies_at=dies_at)
    resumed, again = run(tmp_path / "b.pt")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert [entry["step"] for entry in again] == [entry["step"] for entry in curve] == [4, 8, 12]


@pytest.mark.parametrize("dies_at", [6, 10])
def test_milestones_are_kept_with_the_same_weights(tmp_path, dies_at):
    kept = {}
    with pytest.raises(Killed):
        run(tmp_path / "a.pt", dies_at=dies_at, kept=kept)
    run(tmp_path / "a.pt", kept=kept)
    assert sorted(kept) == [3, 7, 9]
    run(tmp_path / "b.pt", kept=kept)


def test_the_learning_rate_rises_and_falls():
    rates = [compute_learning_rate(step, RECIPE) for step in range(RECIPE.steps)]
    assert max(rates) == pytest.approx(RECIPE.learning_rate)
    assert rates[:3] == sorted(rates[:3])
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_a_restart_repeats_the_cosine_and_keeps_what_was_before_it():
    once = replace(RECIPE, steps=8)
    twice = replace(RECIPE, steps=20, restart=8)
    rates = [compute_learning_rate(step, twice) for step in range(twice.steps)]
    assert rates[:8] == [compute_learning_rate(step, once) for step in range(8)]
    assert rates[8] == pytest.approx(RECIPE.learning_rate)
    assert rates[8:] == sorted(rates[8:], reverse=True)


def write_half(path):
    with replace_file(path) as partial:
        partial.write_text("half")
        raise Killed


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "card.json", {"a": 1})
    with pytest.raises(Killed):
        write_half(tmp_path / "card.json")
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]
    assert '"a": 1' in (tmp_path / "card.json").read_text()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(seed=1, samples=400)


# Learned positions lie beside the words and not in a bias: some words disturb them.
@pytest.mark.parametrize(("name", "least"), [("llama-mini", 0.7), ("opt-mini", 0.2)])
def test_the_first_block_begins_by_looking_back(tokenizer, name, least):
    model = language_model.build_language_model(
        language_model.MINI_LANGUAGE_MODELS[name], tokenizer, seed=3, num_hidden_layers=2
    )
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(input_ids=torch.arange(5, 25)[None], output_attentions=True).attentions[0][0]
    for head, offset in enumerate((1, 1, 2, 3)):
        assert (found[head].diagonal(-offset)[4:] > least).all()
        assert found[head].diagonal(-offset)[4:].mean() > 0.7


def test_the_start_of_training_depends_on_the_seed_alone(tokenizer):
    a, b, other = (
        language_model.build_language_model(LLAMA, tokenizer, seed=seed, num_hidden_layers=2)
        for seed in (3, 3, 4)
    )
    same = [torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True)]
    assert all(same)
    weight = "model.layers.1.self_attn.q_proj.weight"
    assert not torch.equal(a.state_dict()[weight], other.state_dict()[weight])
    init_rotary_induction(a, seed=4)
    assert not torch.equal(a.state_dict()[weight], b.state_dict()[weight])


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


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_labels_name_what_is_there(modality):
    pool = build_pool(modality, "train", n=6)
    for i, situation in enumerate(pool.situations):
        nouns = set(pool.labels["noun"][i]) - {0}
        domain = {"image": 8, "video": 8, "audio": 8}[modality]
        assert nouns <= set(range(1, domain + 1))
        assert 1 <= len(nouns) <= len(situation.entities())
        assert pool.labels["count"][i] == len(situation.entities())
    assert pool.values(np.arange(2)).dtype == np.float32


@pytest.mark.parametrize("modality", ["image", "video"])
def test_places_are_the_centres_of_what_covers_a_patch(modality):
    pool = build_pool(modality, "train", n=4)
    frames = 8 if modality == "video" else 1
    side = round((pool.places.shape[1] / frames) ** 0.5)
    at = np.arange(pool.places.shape[1]) // frames
    own = np.stack([at % side, at // side], axis=-1) / side + 0.5 / side
    there = pool.labels["noun"] > 0
    off = np.abs(pool.places - own)[there].max(axis=-1)
    assert (pool.places[~there] == 0).all()
    assert off.max() < 0.3
    assert np.median(off) < 0.12


def test_places_of_sounds_are_begin_and_end():
    pool = build_pool("audio", "train", n=6)
    there = pool.labels["noun"] > 0
    begin, end = pool.places[there].T
    assert (begin < end).all()
    assert (end <= 1).all()
    assert (pool.places[~there] == 0).all()


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
