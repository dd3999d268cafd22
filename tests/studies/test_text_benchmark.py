"""Text benchmarks: scores, their paired differences, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ima.models
from ima.data.choices import ChoiceQuestion, Sum, TextSuite, draw_sums
from ima.errors import ParameterError, UnknownNameError
from ima.models.text_scores import score_texts
from ima.stats.scores import compute_score_gain
from ima.studies import text_benchmark as benchmark
from ima.studies.text_suites import (
    describe_tuning,
    find_text_controls,
    list_text_arms,
    open_text_suite,
)

SUITE = TextSuite(
    questions=(
        ChoiceQuestion("1", "what colour is it ?", "red", ("red", "scarlet"), ("left", "three")),
        ChoiceQuestion("2", "how many ?", "three", ("three",), ("red", "circle", "a ."), "count"),
    ),
    sums=draw_sums(n=2, digits=(1,)),
    passages=("a small red circle left of a large blue square .", "a green triangle moves ."),
    withheld="answer :",
)


@pytest.fixture(scope="module")
def pair(tiny_zoo):
    """A language model, one with a picture path around it, and one with other weights."""
    names = ("llama-mini", "llama-mini/vit/image-caption")
    frozen, seeing = (ima.models.load_model(name) for name in names)
    tuned = ima.models.load_model("llama-mini")
    weight = tuned.language.model.layers[1].mlp.down_proj.weight
    weight.data += 0.1 * weight.data.roll(1, 0)
    return frozen, seeing, replace(tuned, name="tuned")


@pytest.fixture(scope="module")
def results(pair):
    return [benchmark.run_text_benchmark(model, SUITE) for model in pair]


def test_scores_follow_from_log_probabilities(pair, results):
    model, result = pair[0], results[0]
    for row, own in enumerate(SUITE.questions):
        texts = [(own.prompt, text) for text in own.answers]
        total = dict(zip(own.answers, score_texts(model, texts).log_probability, strict=True))
        best = float(all(total[own.best] > total[text] for text in own.false))
        assert result.scores[benchmark.MC1][row] == best
        mass = np.exp([total[text] for text in own.true]).sum()
        everything = mass + np.exp([total[text] for text in own.false]).sum()
        assert result.scores[benchmark.MC2][row] == pytest.approx(mass / everything, rel=1e-5)
    table = benchmark.tabulate_text_result(result).set_index("metric")
    scores = score_texts(model, [("", text) for text in SUITE.passages])
    pooled = -scores.log_probability.sum() / scores.tokens.sum()
    assert table.loc[benchmark.LOSS, "score"] == pytest.approx(pooled)
    assert table.loc[benchmark.LOSS, ["n", "unit"]].tolist() == [2, "passage"]
    assert table.loc[benchmark.ARITHMETIC, "n"] == 4


def test_a_frozen_arm_differs_by_exactly_zero_and_a_tuned_one_does_not(results):
    frozen, seeing, tuned = results
    columns = ["difference", "difference low", "difference high"]
    same = benchmark.tabulate_text_result(seeing, against=frozen)
    assert not same[columns].to_numpy().any()
    assert benchmark.describe_text_differences(same).endswith("every difference is exactly zero")
    groups = benchmark.tabulate_text_groups(seeing, metric=benchmark.MC1, against=frozen)
    assert not groups[columns].to_numpy().any()
    other = benchmark.tabulate_text_result(tuned, against=frozen).set_index("metric")
    assert other.loc[benchmark.LOSS, "difference"] != 0
    own = benchmark.tabulate_text_result(tuned).set_index("metric")
    assert other.loc[benchmark.LOSS, "difference"] == pytest.approx(
        own.loc[benchmark.LOSS, "score"]
        - benchmark.tabulate_text_result(frozen).set_index("metric").loc[benchmark.LOSS, "score"]
    )


def test_equal_scores_of_two_models_are_not_certainly_equal():
    values = np.array([1.0] * 10 + [0.0] * 30)
    before, after = make_result("f", values), make_result("m", values)
    table = benchmark.tabulate_text_result(after, against=before)
    expected = compute_score_gain(values, values)
    assert table["difference"][0] == 0
    assert table["difference high"][0] == -table["difference low"][0] == expected.high > 0.05
    said = benchmark.describe_text_differences(table)
    assert said == "m shows no difference beyond its interval"
    # The same answers, with other probabilities: another model.
    pair = [
        replace(own, scores={**own.scores, benchmark.MC2: values / 2 + moved})
        for own, moved in ((before, 0), (after, 1e-9))
    ]
    table = benchmark.tabulate_text_result(pair[1], against=pair[0]).set_index("metric")
    assert table.loc[benchmark.MC1, "difference high"] == expected.high
    groups = benchmark.tabulate_text_groups(pair[1], metric=benchmark.MC1, against=pair[0])
    assert (groups["difference high"] > 0).all()


def make_result(name, values, read="a"):
    metric = benchmark.MC1
    groups = {metric: tuple("ab"[row % 2] for row in range(len(values)))}
    return benchmark.TextResult(name, {metric: np.array(values)}, np.zeros(0), groups, read)


def test_intervals_are_paired():
    rng = np.random.default_rng(0)
    before = (rng.random(200) < 0.5).astype(float)
    after = before.copy()
    after[:20] = 0
    lost = before[:20].sum() / 200
    table = benchmark.tabulate_text_result(
        make_result("m", after), against=make_result("f", before)
    )
    (row,) = table.to_dict("records")
    assert row["difference"] == pytest.approx(-lost)
    # Most questions agree, so the paired interval is far narrower than those of the scores.
    assert row["difference high"] - row["difference low"] < (row["high"] - row["low"]) / 2
    assert row["difference high"] < 0
    said = benchmark.describe_text_differences(table)
    assert said.startswith(f"m chooses the best answer less often ({-lost:+.3f} [")
    assert said.endswith("n = 200 questions)")
    groups = benchmark.tabulate_text_groups(make_result("m", after), metric=benchmark.MC1)
    assert groups[["group", "n"]].to_numpy().tolist() == [["a", 100], ["b", 100]]


def test_a_higher_loss_is_worse():
    tokens = np.array([10.0, 30.0])
    scores = [{benchmark.LOSS: np.array(own)} for own in ([2.0, 1.0], [3.0, 2.0])]
    before, after = (benchmark.TextResult("m", own, tokens, {}, "a") for own in scores)
    table = benchmark.tabulate_text_result(after, against=before)
    assert table["score"][0] == pytest.approx((3 * 10 + 2 * 30) / 40)
    assert "m predicts texts worse (+1.000" in benchmark.describe_text_differences(table)
    back = benchmark.tabulate_text_result(before, against=after)
    assert "m predicts texts better (-1.000" in benchmark.describe_text_differences(back)


def test_the_sentence_names_what_changes_in_words():
    metrics = [
        benchmark.MC1, benchmark.MC2, benchmark.MC1_PER_TOKEN, benchmark.MC1_WITHHELD,
        benchmark.ARITHMETIC,
    ]  # fmt: skip
    before, after = (
        benchmark.TextResult(
            "m", {each: np.full(40, own) for each in metrics}, np.zeros(0), {}, "a"
        )
        for own in (0.0, 1.0)
    )
    table = benchmark.tabulate_text_result(after, against=before)
    said = benchmark.describe_text_differences(table)
    order = [
        "m chooses the best answer more often (+", "), gives more probability to true answers (+",
        "), chooses the best answer more often by the mean over tokens (+",
        "), and calculates better (+",
    ]  # fmt: skip
    assert [said.index(words) for words in order] == sorted(said.index(words) for words in order)
    assert "withheld" not in said
    undecided = table.assign(**{"difference low": -1.0})
    assert benchmark.describe_text_differences(undecided).endswith("beyond its interval")


def test_a_longer_number_is_no_right_answer(pair, monkeypatch):
    from ima.models import text_scores

    sums = (Sum("1 + 1 =", "2", "one digit, plus"),)
    ends = {"": 1.0, " .": 1.0, "0": 0.0}
    for following, expected in ends.items():
        scored = text_scores.TextScores(
            np.zeros(1), np.ones(1, int), np.ones(1, bool), (following,)
        )
        monkeypatch.setattr(text_scores, "score_texts", lambda *given, found=scored, **o: found)
        result = benchmark.run_text_benchmark(pair[0], TextSuite((), sums, (), ""))
        assert result.scores[benchmark.ARITHMETIC].tolist() == [expected]


def test_models_that_read_other_tokens_are_not_compared():
    one, other = make_result("m", [1.0]), make_result("f", [1.0], read="b")
    with pytest.raises(ParameterError, match=r"'m' and 'f' read other tokens.*without --against"):
        benchmark.tabulate_text_result(one, against=other)


def test_nothing_to_read_is_refused(pair):
    with pytest.raises(ParameterError, match="nothing to read"):
        benchmark.run_text_benchmark(pair[0], TextSuite((), (), (), ""))


def test_suites_of_both_worlds():
    for world in ("drawings", "mini"):
        suite = open_text_suite(world)
        few = suite.take(7)
        assert [len(part) for part in (few.questions, few.sums, few.passages)] == [7, 7, 7]
        # A few are spread over all.
        assert len({own.topic for own in few.questions}) > 3
        assert suite.take(None) == suite
        assert benchmark.compute_chance_scores(suite)[benchmark.MC1] <= 0.25
    with pytest.raises(UnknownNameError, match=r"Unknown world 'minis'\. Did you mean 'mini'"):
        open_text_suite("minis")


def test_sums_are_right_different_and_seeded():
    sums = draw_sums(n=30, seed=3)
    assert len({own.prompt for own in sums}) == len(sums) == 120
    for own in sums:
        assert eval(own.prompt.removesuffix("=")) == int(own.answer) >= 0
        digits = {len(part) for part in own.prompt.split() if part.isdigit()}
        assert digits == ({1} if own.kind.startswith("one") else {2})
    assert draw_sums(n=30, seed=3) == sums != draw_sums(n=30, seed=4)


def test_documents_of_the_miniature_world_are_in_no_training():
    from itertools import islice

    from ima.miniature.corpus import iterate_documents

    passages = set(open_text_suite("mini").passages)
    assert len(passages) == 48
    for seed in range(4):
        read = [own.text for own in islice(iterate_documents(seed), 300)]
        assert not any(text.startswith(own) for text in read for own in passages)


def test_arms_are_found_in_the_zoo(multitask_zoo):
    assert list_text_arms("llama-mini") == {"llava-tiny": "frozen"}
    assert list_text_arms("smollm2") == {}


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({"tuned": False, "recipe": {}}, "frozen"),
        ({"tuned": True, "recipe": {"tuned": True}}, "all weights tuned"),
        ({"tuned": True, "recipe": {"lora_rank": 8}}, "adapter of all linear layers"),
        (
            {"tuned": True, "recipe": {"lora_rank": 8, "lora_layers": "query-value"}},
            "adapter of queries and values",
        ),
        (
            {"tuned": True, "recipe": {"lora_rank": 8, "text_only": True}},
            "adapter of all linear layers, on texts without pictures",
        ),
    ],
)
def test_a_card_says_what_was_tuned(card, expected):
    assert describe_tuning(card) == expected


def test_a_control_is_tuned_in_the_same_layers():
    cards = {
        "frozen": {"tuned": False, "recipe": {}},
        "light": {"tuned": True, "recipe": {"lora_rank": 8, "lora_layers": "query-value"}},
        "full": {"tuned": True, "recipe": {"lora_rank": 8}},
        "text": {"tuned": True, "recipe": {"lora_rank": 8, "text_only": True}},
    }
    tuning = {name: describe_tuning(card) for name, card in cards.items()}
    assert find_text_controls(tuning) == {"full": "text"}
    del tuning["text"]
    assert find_text_controls(tuning) == {}
