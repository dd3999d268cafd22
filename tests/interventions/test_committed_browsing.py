"""Two passes on the committed models: what the authors promise, where it holds here."""

from __future__ import annotations

import pytest
import torch

from ima.interventions import browsing_effects as effects
from ima.interventions.browsing import load_two_pass_model
from ima.miniature.materials import load_zoo_language_model
from ima.miniature.several_pictures import open_picture_questions
from ima.models.zoo import get_zoo_root, hash_state_dict

pytestmark = [pytest.mark.usefixtures("committed_zoo"), pytest.mark.slow, pytest.mark.timeout(600)]
_N_QUESTIONS = 300
#: What the committed models do not show; the page says the same. Found after the one training that
#: the recipe describes, which was then left as it was.
_NOT_SHOWN = {
    "two passes beat one pass that was trained for it",
    "its own condition beats that of the same question on other pictures",
}


@pytest.fixture(scope="module")
def models(committed_zoo):
    return load_two_pass_model("two-pass"), load_two_pass_model("one-pass")


@pytest.fixture(scope="module")
def questions():
    return open_picture_questions("test", n=_N_QUESTIONS)


@pytest.fixture(scope="module")
def judged(models, questions):
    conditions = effects.make_conditions(models[0], questions)
    answers = effects.answer_in_arms(*models, questions, conditions=conditions)
    scores = effects.score_answers_by_arm(questions, answers)
    return effects.judge_statements(scores).set_index("statement")


@pytest.mark.parametrize("statement", list(effects.BROWSING_STATEMENTS))
def test_what_the_authors_promise_holds_where_the_page_says_so(judged, statement):
    row = judged.loc[statement]
    assert row["holds"] == (statement not in _NOT_SHOWN), row["difference"]


def test_a_zero_condition_is_one_pass_bit_for_bit(models, questions):
    reader, few = models[0], questions[:16]
    zero = reader.make_zero_conditions(len(few))
    batches = [reader.encode(few, conditions=given) for given in (None, zero)]
    logits = [reader.model.forward(batch, logits=True) for batch in batches]
    assert torch.equal(*logits)
    # The condition that it was trained with does change what is read.
    own = reader.encode(few, conditions=reader.browse(few))
    assert not torch.equal(own.embeds, batches[0].embeds)


def test_both_arms_read_equally_many_tokens_of_one_frozen_language_model(models, questions):
    reader, control = models
    first, second = (own.encode(questions[:8]) for own in models)
    assert torch.equal(first.modality, second.modality)
    language, _ = load_zoo_language_model(get_zoo_root() / "language/llama-mini")
    digest = hash_state_dict(language.state_dict())
    assert reader.card["language_state"] == control.card["language_state"] == digest
    own = reader.model.hook_points.trunk.state_dict()
    plain = language.model.state_dict()
    assert all(torch.equal(own[name], plain[name]) for name in plain)
