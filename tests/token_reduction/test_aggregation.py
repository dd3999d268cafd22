"""AIM: how many tokens a prompt has, what they are, and that a bank changes no bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ima.capture import capture_activations
from ima.errors import ModelError, ParameterError
from ima.miniature.episodes import open_episodes
from ima.models import load_model
from ima.token_reduction import aggregation
from ima.token_reduction.aggregation import (
    Aggregation,
    DemonstrationBank,
    capture_text_states,
    prepend_demonstrations,
)

MODEL = "llama-mini/vit/image-qa"


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load_model(MODEL)


@pytest.fixture(scope="module")
def episodes():
    return open_episodes("test", n=4, shots=2)


@pytest.fixture(scope="module")
def trained(model):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Aggregation(MODEL, 2, nn.Linear(model.hidden, model.hidden), {})


def of(episodes):
    return {one.query.id: one.demonstrations for one in episodes}


def words(model, sample):
    return len(model.tokenizer(sample.prompt, add_special_tokens=False)["input_ids"])


def test_a_demonstration_costs_one_token_for_each_text_token(model, episodes, trained):
    percepts = model.perception.queries
    for how, extra in (("states", 0), ("words", 0), ("whole", percepts)):
        made = prepend_demonstrations(model, of(episodes), content=how, aggregation=trained)
        batch = made.encode([one.query for one in episodes], side="left", target=False)
        for row, one in enumerate(episodes):
            shown = sum(words(model, each) + extra for each in one.demonstrations)
            asked = words(model, one.query)
            assert int(batch.attention_mask[row].sum()) == shown + percepts + asked
            kinds = (batch.modality[row] > 0).sum()
            assert int(kinds) == percepts + extra * len(one.demonstrations)


def test_tokens_are_projected_states_of_the_frozen_model(model, episodes, trained):
    episode = episodes[0]
    few_shot = prepend_demonstrations(model, of(episodes), aggregation=trained)
    batch = few_shot.encode([episode.query], target=False)
    start = 0
    for demonstration in episode.demonstrations:
        own = model.encode([demonstration], target=False)
        states = capture_activations(model, own, hook_points=["resid_post"])["resid_post"][2]
        expected = trained.projection(states[0, own.modality[0] == 0])
        tokens = batch.embeds[0, start : start + len(expected)]
        torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=0)
        start += len(expected)
    zero_shot = model.encode([episode.query], target=False)
    assert torch.equal(batch.embeds[0, start:], zero_shot.embeds[0])
    assert torch.equal(batch.modality[0, start:], zero_shot.modality[0])


def test_blocks_after_the_depth_do_not_run(model, episodes):
    ran = []
    handles = [
        block.register_forward_hook(lambda *_, at=at: ran.append(at))
        for at, block in enumerate(model.hook_points.blocks, start=1)
    ]
    capture_text_states(model, episodes[0].demonstrations[0], depth=1)
    assert ran == [1]
    model.forward(model.encode([episodes[0].query]))
    assert ran == [1, 1, 2, 3]
    for handle in handles:
        handle.remove()


def test_a_bank_changes_no_bit(model, episodes, trained, tmp_path):
    shown = [each for one in episodes for each in one.demonstrations]
    bank = DemonstrationBank.of(model, shown, depth=2)
    bank.save(tmp_path / "bank.safetensors")
    bank = DemonstrationBank.read(tmp_path / "bank.safetensors", model=model)
    queries = [one.query for one in episodes]
    with_bank, without = (
        prepend_demonstrations(model, of(episodes), aggregation=trained, bank=given)
        for given in (bank, None)
    )
    logits = [made.forward(made.encode(queries), logits=True) for made in (with_bank, without)]
    assert torch.equal(*logits)
    assert with_bank.generate(queries) == without.generate(queries)
    assert len(bank.states) == len({each.id for each in shown})


def test_what_does_not_fit_is_refused(model, episodes, trained, tmp_path):
    given = of(episodes)
    with pytest.raises(ParameterError, match="States need a trained map"):
        prepend_demonstrations(model, given)
    other = load_model("opt-mini/vit/image-qa")
    with pytest.raises(ParameterError, match=f"was trained with '{MODEL}', not 'opt-mini"):
        prepend_demonstrations(other, given, aggregation=trained)
    with pytest.raises(ParameterError, match="The bank is of depth 1, the map of 2"):
        prepend_demonstrations(
            model, given, aggregation=trained, bank=DemonstrationBank({}, model.weights_hash, 1)
        )
    empty = DemonstrationBank({}, model.weights_hash, 2)
    with pytest.raises(ParameterError, match="The bank has no demonstration 'test-picture-"):
        prepend_demonstrations(model, given, aggregation=trained, bank=empty)
    with pytest.raises(ParameterError, match=r"depth must be a layer of .*, 1 to 3; got 4"):
        capture_text_states(model, episodes[0].demonstrations[0], depth=4)
    path = tmp_path / "bank.safetensors"
    DemonstrationBank.of(model, episodes[0].demonstrations, depth=2).save(path)
    with pytest.raises(ModelError, match="Compute it again with this model"):
        DemonstrationBank.read(path, model=other)
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="Cannot read the bank"):
        DemonstrationBank.read(path, model=model)
    with pytest.raises(ModelError, match="Cannot read the card"):
        aggregation.load_aggregation("none")
