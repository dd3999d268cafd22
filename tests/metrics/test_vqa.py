"""VQAv2's accuracy against cases worked out by hand."""

import pytest

from ima.metrics.vqa import compute_vqa_accuracy, normalize_vqa_answer


@pytest.mark.parametrize(
    ("agreeing", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_an_answer_is_worth_a_third_for_each_other_person_who_gave_it(agreeing, accuracy):
    answers = ["red"] * agreeing + [f"other {i}" for i in range(10 - agreeing)]
    assert compute_vqa_accuracy("red", answers) == pytest.approx(accuracy)


def test_a_single_reference_counts_as_everybodys():
    assert compute_vqa_accuracy("Red.", ["red"]) == 1
    assert compute_vqa_accuracy("red square", ["red"]) == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Two Dogs", "2 dogs"),
        ("an apple, a pear", "apple pear"),
        ("it isnt", "it isn't"),
        ("none", "0"),
        ("3.5", "3.5"),
        ("yes.", "yes"),
        ("1,000", "1000"),
        ("black/white", "black white"),
        ("what ?", "what"),
    ],
)
def test_answers_are_compared_in_their_normal_form(answer, expected):
    assert normalize_vqa_answer(answer) == expected
