"""Two passes: a zero condition is one pass, bit for bit, on our models and on one of the hub."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from tinyhub import save
from torch import nn

from ima.data.samples import MODALITIES, Sample
from ima.errors import ModelError, ParameterError
from ima.interventions.browsing import (
    collect_modules,
    load_trained_state,
    load_two_pass_model,
    make_two_pass_model,
)
from ima.interventions.query_conditions import (
    QueryCondition,
    QueryConditionConfig,
    answer_in_two_passes,
    condition_queries,
    find_queries,
    read_last_state,
)
from ima.miniature.several_pictures import open_picture_questions
from ima.models import load_model
from ima.models.batch import EmbeddedTokens
from ima.models.frozen import FrozenModel
from ima.models.zoo import hash_state_dict
from ima.token_reduction.aggregation import FewShotModel

MODEL = "llama-mini/vit/image-qa"


@pytest.fixture(scope="module")
def base(tiny_zoo):
    return load_model(MODEL)


@pytest.fixture(scope="module")
def questions():
    return open_picture_questions("test", n=9)


def condition(two_pass, *, seed=0):
    """Return the model with a map and places that are not zero."""
    made = QueryCondition(two_pass.condition.config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        made.project.weight.normal_(std=2.0)
        made.places.normal_()
    return replace(two_pass, condition=made.requires_grad_(requires_grad=False))


@pytest.fixture(scope="module", params=["all", "last"])
def two_pass(request, base):
    return make_two_pass_model(base, queries=10, pictures=3, injection=request.param)


def read_plainly(model, questions):
    """Return the logits and answers of a model that reads pictures through its own connector."""
    before = {}
    for own in questions:
        rows = model.perception(own.pictures).flatten(0, 1)
        codes = torch.full((len(rows),), MODALITIES.index("image"), dtype=torch.int8)
        before[own.question.id] = EmbeddedTokens(rows, codes, torch.full((len(rows),), -1))
    given = {each.name: getattr(model, each.name) for each in fields(FrozenModel)}
    reader = FewShotModel(**given, before=before)
    samples = [own.question for own in questions]
    logits = reader.forward(reader.encode(samples), logits=True)
    return logits, reader.generate(samples, max_new_tokens=6, batch_size=64)


def logits_of(two_pass, questions, conditions=None):
    batch = two_pass.encode(questions, conditions=conditions)
    return two_pass.model.forward(batch, logits=True)


def test_a_zero_condition_is_one_pass_bit_for_bit(base, two_pass, questions):
    """Whatever map the condition has: it is compared with the connector run on its own."""
    logits, answers = read_plainly(base, questions)
    trained = condition(two_pass)
    with torch.no_grad():
        trained.condition.places.zero_()
    zero = trained.make_zero_conditions(len(questions))
    assert torch.equal(logits_of(trained, questions, zero), logits)
    assert trained.answer(questions, conditions=zero, max_new_tokens=6) == answers
    # An untrained map is zero, so that every condition is one pass.
    own = two_pass.browse(questions)
    assert own.abs().min() > 0
    assert torch.equal(logits_of(two_pass, questions, own), logits)
    assert not torch.equal(logits_of(trained, questions, own), logits)


def test_the_condition_is_the_final_state_of_the_last_token_of_the_prompt(two_pass, questions):
    trained = condition(two_pass)
    given = trained.browse(questions)
    for own, row in zip(questions, given, strict=True):
        batch = trained.encode([own], target=False)
        states = trained.model.hook_points.trunk(**batch.inputs).last_hidden_state
        torch.testing.assert_close(row, states[0, -1], atol=1e-4, rtol=1e-4)


def test_a_condition_of_unit_length_adds_as_many_times_less(base):
    plain, unit = (
        make_two_pass_model(base, queries=2, pictures=3, unit_length=unit).condition
        for unit in (False, True)
    )
    for each in (plain, unit):
        nn.init.eye_(each.project.weight)
    conditions, first = torch.randn(4, base.hidden), torch.zeros(4, dtype=torch.int64)
    added = unit(conditions, places=first)
    torch.testing.assert_close(added * base.hidden**0.5, plain(conditions, places=first))


def test_a_condition_reaches_its_queries_and_its_question_alone(base, questions):
    tokens = {}
    for injection in ("all", "last"):
        made = condition(make_two_pass_model(base, queries=4, pictures=3, injection=injection))
        offsets = made.condition(torch.randn(2, 32), places=torch.tensor([0, 0]))
        plain = made.condition(torch.zeros(2, 32), places=torch.tensor([0, 0]))
        moved = (offsets != plain).any(dim=-1)
        assert moved.tolist() == [[injection == "all"] * 3 + [True]] * 2
        conditions = made.make_zero_conditions(3)
        conditions[1] = torch.randn(32)
        one, two = (made.encode(questions[:3], conditions=c) for c in (None, conditions))
        assert torch.equal(one.embeds[[0, 2]], two.embeds[[0, 2]])
        seen = one.modality[1] > 0
        assert not torch.equal(one.embeds[1, seen], two.embeds[1, seen])
        assert torch.equal(one.embeds[1, ~seen], two.embeds[1, ~seen])
        tokens[injection] = int(seen.sum())
    # Both ways give as many perceptual tokens.
    assert tokens["all"] == tokens["last"] == 4 * len(questions[1].pictures)


def test_places_tell_equal_pictures_apart(base, questions):
    made = condition(make_two_pass_model(base, queries=3, pictures=3))
    own = next(each for each in questions if len(each.pictures) == 2)
    same = replace(own, pictures=(own.pictures[0],) * 2)
    first, second = made.encode([same]).embeds[0, :6].split(3)
    assert not torch.equal(first, second)


def test_the_first_queries_of_the_base_are_taken_and_the_base_stays(base):
    state = hash_state_dict(base.perception.connector.state_dict())
    made = make_two_pass_model(base, queries=3, pictures=2, name="mine")
    assert torch.equal(made.connector.queries, base.perception.connector.queries[:3])
    assert (made.model.name, made.model.perception.queries) == ("mine", 3)
    assert made.model.language is base.language
    assert base.perception.queries == 10
    assert hash_state_dict(base.perception.connector.state_dict()) == state


def show(number=0):
    pixels = np.random.default_rng(number).integers(0, 255, (56, 56, 3), dtype=np.uint8)
    return Sample(f"s{number}", "image", "qa", "what is it ?", ("a",), media=lambda: pixels)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_of_the_hub_with_queries_reads_in_two_passes(tmp_path):
    """BLIP-2, whose Q-Former has queries, with random weights and without any training."""
    model = load_model(str(save("blip2", tmp_path / "blip2")))
    samples = [show(number) for number in range(5)]
    module, name = find_queries(model)
    width = getattr(module, name).shape[-1]

    def nothing(states):
        return states.new_zeros(len(states), 1, width)

    def something(states):
        assert states.shape == (len(states), model.hidden)
        return 40 * states[:, None, :width]

    before = hash_state_dict(model.language.state_dict())
    plain = model.generate(samples, max_new_tokens=6, batch_size=2)
    options = {"max_new_tokens": 6, "batch_size": 2}
    assert answer_in_two_passes(model, samples, project=nothing, **options) == plain
    batch = model.encode(samples[:2], side="left", target=False)
    logits = model.forward(batch, logits=True)
    with condition_queries(model, torch.zeros(2, 1, width)):
        same = model.forward(model.encode(samples[:2], side="left", target=False), logits=True)
    assert torch.equal(same, logits)
    with condition_queries(model, something(read_last_state(model, batch))):
        other = model.forward(model.encode(samples[:2], side="left", target=False), logits=True)
    assert not torch.allclose(other, logits)
    assert answer_in_two_passes(model, samples, project=something, **options) != plain
    # Nothing stays behind, after an error either.
    with (
        pytest.raises(RuntimeError, match="mine"),
        condition_queries(model, torch.ones(1, 1, width)),
    ):
        raise RuntimeError("mine")
    assert hash_state_dict(model.language.state_dict()) == before
    assert model.generate(samples, max_new_tokens=6, batch_size=2) == plain


def test_our_connectors_read_one_picture_in_two_passes_in_the_same_way(base):
    samples = [replace(show(number), prompt="question : what ? answer :") for number in range(3)]
    plain = base.generate(samples, max_new_tokens=4)
    width = base.perception.connector.config.width

    def nothing(states):
        return states.new_zeros(len(states), 1, width)

    assert answer_in_two_passes(base, samples, project=nothing, max_new_tokens=4) == plain


def test_what_cannot_read_in_two_passes_is_refused(base, multitask_zoo, questions):
    with pytest.raises(ModelError, match=r"'llava-tiny' cannot read .* it has LlavaMultiModal"):
        make_two_pass_model(load_model("llava-tiny"), queries=2, pictures=3)
    with pytest.raises(ModelError, match=r"'llava-tiny' has no learned queries .*Q-Former"):
        find_queries(load_model("llava-tiny"))
    with pytest.raises(ModelError, match="'llama-mini' cannot read several pictures"):
        make_two_pass_model(load_model("llama-mini"), queries=2, pictures=3)
    with pytest.raises(ParameterError, match=r"queries must be 1 to 10, .*; got 11"):
        make_two_pass_model(base, queries=11, pictures=3)
    two = make_two_pass_model(base, queries=2, pictures=2)
    with pytest.raises(ParameterError, match=r"A question has 3 pictures; .* reads up to 2"):
        two.answer([own for own in questions if len(own.pictures) == 3])
    with pytest.raises(ModelError, match="Cannot read the card"):
        load_two_pass_model("none")
    with pytest.raises(ModelError, match="The weights do not fit 'two passes': it has no mine"):
        load_trained_state(two, {"mine": torch.ones(1)})
    with pytest.raises(ModelError, match=r"(?s)The weights do not fit .*size mismatch"):
        load_trained_state(two, {"condition.project.weight": torch.ones(1)})
    assert isinstance(collect_modules(two), nn.ModuleDict)
    with pytest.raises(ValueError, match="extra_forbidden"):
        QueryConditionConfig(hidden=1, width=1, queries=1, pictures=1, more=1)
