"""What a second pass changes: arms, their statements, and alignment against the first pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ima.interventions import browsing_effects as effects
from ima.interventions.browsing import make_two_pass_model
from ima.measures.treatments import TREATMENTS
from ima.miniature.several_pictures import open_picture_questions
from ima.models import load_model


@pytest.fixture(scope="module")
def questions():
    return open_picture_questions("test", n=12)


@pytest.fixture(scope="module")
def two_pass(tiny_zoo):
    base = load_model("llama-mini/vit/image-qa")
    made = make_two_pass_model(base, queries=4, pictures=3)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        made.condition.project.weight.normal_(std=2.0)
    return made


@pytest.fixture(scope="module")
def conditions(two_pass, questions):
    return effects.make_conditions(two_pass, questions)


def test_conditions_come_from_the_right_question_and_pictures(two_pass, questions, conditions):
    own, other = conditions[effects.TWO_PASSES], conditions[effects.OTHER_CONDITION]
    assert not conditions[effects.ONE_PASS].any()
    torch.testing.assert_close(own, two_pass.browse(questions), atol=1e-5, rtol=1e-5)
    # Those of the same questions in another order, none in its place.
    distance = torch.cdist(other, own)
    assert sorted(distance.argmin(dim=1).tolist()) == list(range(len(questions)))
    assert not (distance.argmin(dim=1) == torch.arange(len(questions))).any()
    assert (conditions[effects.OTHER_PICTURES] - own).norm(dim=-1).min() > 1e-3


def test_the_condition_of_another_question_asks_something_else(two_pass, questions, monkeypatch):
    first, second, *others = questions
    same = replace(second, question=replace(second.question, prompt=first.question.prompt))
    asked = [first, same, *others]
    monkeypatch.setattr(type(two_pass), "browse", lambda _, given: torch.arange(len(given)))
    for seed in range(4):
        order = effects.make_conditions(two_pass, asked, seed=seed)[effects.OTHER_CONDITION]
        for own, other in zip(asked, order.tolist(), strict=True):
            assert asked[other].question.prompt != own.question.prompt


def test_what_a_condition_adds_is_compared_with_the_queries(two_pass):
    project = two_pass.condition.project.weight
    ups, downs = torch.eye(project.shape[1])[:6], -torch.eye(project.shape[1])[:6]
    # A normalised unit vector has the same length as its opposite, and the opposite direction.
    added = effects.measure_added_vectors(two_pass, torch.cat([ups, downs]))
    assert added["common"] == pytest.approx(0.0, abs=1e-9)
    assert added["length"].n == 12
    normalised = torch.nn.functional.layer_norm(ups, ups.shape[1:])
    lengths = (normalised @ project.T).norm(dim=-1)
    queries = two_pass.connector.queries.norm(dim=-1).mean()
    assert added["length"].value == pytest.approx(float((lengths / queries).mean()), rel=1e-4)
    same = effects.measure_added_vectors(two_pass, ups[:1].expand(5, -1))
    assert same["common"] == pytest.approx(1.0)


def test_each_arm_reads_what_its_name_says(two_pass, questions, conditions, monkeypatch):
    read = []
    answer = type(two_pass).answer

    def watch(self, asked, *, conditions=None, **options):
        pixels = [picture.load() for own in asked for picture in own.pictures]
        read.append((conditions, max(float(each.std()) for each in pixels) == 0))
        return answer(self, asked, conditions=conditions, **options)

    monkeypatch.setattr(type(two_pass), "answer", watch)
    answers = effects.answer_in_arms(two_pass, two_pass, questions, conditions=conditions)
    assert set(answers) == set(effects.BROWSING_ARMS)
    assert {len(own) for own in answers.values()} == {len(questions)}
    assert answers[effects.CONTROL] == answers[effects.ONE_PASS]
    given = dict(zip(answers, read, strict=True))
    for arm, (condition, blank) in given.items():
        assert blank is (arm in (effects.BLANK_AFTER, effects.BLANK))
        if arm in conditions:
            assert condition is conditions[arm]
    assert given[effects.CONTROL][0] is None
    assert given[effects.BLANK_AFTER][0] is conditions[effects.TWO_PASSES]
    # Without pictures, all questions of one wording have one condition.
    seen = given[effects.BLANK][0]
    assert not torch.equal(seen, conditions[effects.TWO_PASSES])


def test_scores_and_statements_are_paired(questions):
    n = len(questions)
    right = [own.question.references[0] for own in questions]
    wrong = ["nothing"] * n
    answers = dict.fromkeys(effects.BROWSING_ARMS, wrong) | {effects.TWO_PASSES: right}
    answers[effects.BLANK_AFTER] = [*right[: n // 2], *wrong[n // 2 :]]
    scores = effects.score_answers_by_arm(questions, answers)
    # Twelve questions leave room for a gain of another condition, a hundred do not.
    few = effects.judge_statements(scores)
    assert few["holds"].tolist() == [True, True, False, True, True]
    many = {arm: np.tile(own, 10) for arm, own in scores.items()}
    judged = effects.judge_statements(many)
    assert judged["holds"].all()
    assert [own.value for own in judged["difference"]] == [1.0, 1.0, 0.0, 1.0, 0.5]
    helps = {effects.OTHER_CONDITION: np.ones(10 * n), effects.TWO_PASSES: np.zeros(10 * n)}
    judged = effects.judge_statements(many | helps)
    assert judged["holds"].tolist() == [False, False, False, False, True]
    table = effects.tabulate_arms(questions, scores)
    assert set(table["kind"]) == {"all", "attribute", "which", "besides"}
    whole = table[(table["arm"] == effects.TWO_PASSES) & (table["kind"] == "all")].iloc[0]
    assert (whole["score"], whole["n"]) == (1.0, n)
    assert whole["low"] < 1
    # Two or three places, and eight colours or nouns.
    assert effects.compute_even_guess(questions) == pytest.approx((5 / 12 + 2 / 8) / 3)
    listed = effects.list_scores_by_kind(table)
    assert list(listed["arm"]) == list(scores)
    assert set(listed.columns) == {"arm", "attribute", "which", "besides"}


def test_alignment_is_compared_with_the_first_pass(two_pass, questions, conditions):
    means = effects.capture_pass_means(two_pass, questions, conditions=conditions, batch_size=5)
    assert set(means) == set(conditions)
    first = means[effects.ONE_PASS]["raw"]
    assert first.dims == ("sample", "kind", "layer", "hidden")
    assert first.sizes["sample"] == len(questions)
    batch = two_pass.encode(questions[:1])
    seen = batch.embeds[0, batch.modality[0] > 0].mean(dim=0)
    np.testing.assert_allclose(
        first[0].sel(kind="perceptual", layer=0).values, seen.numpy(), atol=1e-5
    )
    compared = effects.compare_passes(means, resamples=20).set_index(["arm", "treatment"])
    assert len(compared) == len(conditions) * len(TREATMENTS)
    for treatment in TREATMENTS:
        same = compared.loc[(effects.ONE_PASS, treatment), "difference"]
        assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
        own = compared.loc[(effects.TWO_PASSES, treatment)]
        gap = own["score"].value - compared.loc[(effects.ONE_PASS, treatment), "score"].value
        assert own["difference"].value == pytest.approx(gap)
        assert own["difference"].value != 0
    apart = effects.capture_pass_means(two_pass, questions, conditions=conditions, separated=True)
    # A text that attends to no picture has the same states in both passes.
    for arm in conditions:
        np.testing.assert_allclose(
            apart[arm]["raw"].sel(kind="textual"),
            apart[effects.ONE_PASS]["raw"].sel(kind="textual"),
            atol=1e-4,
        )


def test_the_opening_says_what_the_condition_carries():
    n = 200
    scores = {arm: np.ones(n) for arm in effects.BROWSING_ARMS} | {effects.BLANK: np.zeros(n)}
    text = effects.describe_passes("tiny", scores)
    assert "two passes are not shown to beat one pass" in text
    assert "carries the question and not the pictures" in text
    scores[effects.OTHER_PICTURES] = scores[effects.CONTROL] = np.arange(n) % 2 * 1.0
    text = effects.describe_passes("tiny", scores)
    assert "two passes beat one pass that was trained for it (+0.50 [" in text
    assert "carries the pictures: that of other pictures does worse (own less other: +0.50" in text
    few = {arm: own[:12] for arm, own in scores.items()} | {effects.OTHER_PICTURES: np.ones(12)}
    few[effects.OTHER_PICTURES][0] = 0.0
    assert "is open (own less other: +0.08" in effects.describe_passes("tiny", few)
    # Without pictures it answers as well: nothing is said of its passes.
    text = effects.describe_passes("tiny", scores | {effects.BLANK: np.ones(n)})
    assert text.startswith(
        "tiny is not shown to read its pictures: with them it answers more by +0"
    )
    assert "beat" not in text
