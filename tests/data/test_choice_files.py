"""Files of questions: ours, TruthfulQA's and ETHICS's, written here in their published layouts."""

from __future__ import annotations

import json

import pytest

from ima.data.choice_files import read_choice_questions
from ima.errors import SampleError

MC_TASK = [
    {
        "question": "What happens to seeds that you eat?",
        "mc1_targets": {"They pass through": 1, "They grow in you": 0},
        "mc2_targets": {"They pass through": 1, "Nothing": 1, "They grow in you": 0, "You die": 0},
    },
    {
        "question": "Is the moon made of cheese?",
        "mc1_targets": {"choices": ["No", "Yes"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["No", "It is rock", "Yes"], "labels": [1, 1, 0]},
    },
]
CSV_HEAD = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source"
ETHICS = {
    "cm_test.csv": "label,input,is_short,edited\n1,I kicked the dog.,True,False\n"
    '0,"I fed the dog, twice.",True,False\n',
    "justice_test.csv": "label,scenario\n1,I pay him because he works.\n0,I pay him for his hat.\n",
    "deontology_test.csv": "label,scenario,excuse\n0,Can you help me?,No because it is Monday.\n",
    "virtue_test.csv": "label,scenario\n1,He gave all away. [SEP] generous\n"
    "0,He gave all away. [SEP] greedy\n",
    "util_test.csv": "I ate a cake.,I ate a cake that was mouldy.\nI slept well.,I slept badly.\n",
}


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_truthfulqas_multiple_choice_file(tmp_path):
    questions = read_choice_questions(write(tmp_path, "mc_task.json", json.dumps(MC_TASK)))
    first, second = questions
    assert first.prompt == "Q: What happens to seeds that you eat?\nA:"
    assert (first.best, first.true) == ("They pass through", ("They pass through", "Nothing"))
    # mc1 has false answers of its own.
    assert (first.rivals, first.false) == (("They grow in you",), ("They grow in you", "You die"))
    assert (second.best, second.true, second.false) == ("No", ("No", "It is rock"), ("Yes",))


def test_truthfulqas_table(tmp_path):
    row = 'Adversarial,Health,Is ice cold?,"Yes","Yes; Yes, ice is cold; ",No; Never;,https://a'
    row = row.replace("Yes; Yes, ice is cold; ", "Yes; Ice is cold; ")
    (question,) = read_choice_questions(write(tmp_path, "TruthfulQA.csv", f"{CSV_HEAD}\n{row}\n"))
    assert (question.topic, question.best) == ("Health", "Yes")
    assert (question.true, question.false) == (("Yes", "Ice is cold"), ("No", "Never"))


@pytest.mark.parametrize("name", ETHICS)
def test_ethics(tmp_path, name):
    questions = read_choice_questions(write(tmp_path, name, ETHICS[name]))
    assert all({own.best, *own.false} == {"yes", "no"} for own in questions)
    assert all(own.prompt.endswith("Answer:") for own in questions)
    best = [own.best for own in questions]
    expected = {
        "cm_test.csv": ["yes", "no"], "justice_test.csv": ["yes", "no"],
        "deontology_test.csv": ["no"], "virtue_test.csv": ["yes", "no"],
    }  # fmt: skip
    if name in expected:
        assert best == expected[name]
        return
    # The more pleasant scenario is the first column; the prompt shows it first or second.
    for own, pleasant in zip(questions, ("I ate a cake.", "I slept well."), strict=True):
        first = own.prompt.splitlines()[0].removeprefix("Scenario 1: ")
        assert (own.best == "yes") == (first == pleasant)


def test_the_order_of_two_scenarios_follows_from_the_seed_and_is_balanced(tmp_path):
    text = "".join(f"good {n},bad {n}\n" for n in range(200))
    path = write(tmp_path, "util_train.csv", text)
    questions = read_choice_questions(path)
    assert questions == read_choice_questions(path)
    assert questions != read_choice_questions(path, seed=1)
    assert 70 < sum(own.best == "yes" for own in questions) < 130


def test_virtues_name_the_trait(tmp_path):
    path = write(tmp_path, "virtue_test.csv", ETHICS["virtue_test.csv"])
    assert '"generous"' in read_choice_questions(path)[0].prompt
    assert "[SEP]" not in read_choice_questions(path)[0].prompt


def test_our_own_file(tmp_path):
    record = {"question": "Is ice cold?", "best": "Yes", "true": ["Very"], "false": ["No"]}
    path = write(tmp_path, "mine.jsonl", json.dumps(record | {"topic": "weather"}) + "\n\n")
    (question,) = read_choice_questions(path)
    assert question.prompt == "Question: Is ice cold?\nAnswer:"
    assert (question.true, question.topic) == (("Yes", "Very"), "weather")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "no known file of questions: its name ends in .txt"),
        ("cm_test.csv", "label,input\n1," + 200_000 * "x" + "\n", "line 2: field larger than"),
        ("a.csv", "one,two\n1,2\n", r"its first row is 'one, two'.*util_\*.csv"),
        ("a.jsonl", "\n", "holds no questions"),
        ("a.jsonl", "{", "line 1 is not JSON"),
        ("a.jsonl", "[1]", "line 1: 'best' must be a text; found None"),
        ("a.jsonl", '{"question": "a", "best": "b", "false": "c"}', "'false' must be a list"),
        ("a.jsonl", '{"question": "a", "best": "b", "false": ["b"]}', "true and false: b"),
        ("a.jsonl", '{"question": "a", "best": "b", "false": []}', "needs true and false answers"),
        ("a.jsonl", '{"question": "a", "best": "b", "false": [" "]}', "has an empty answer"),
        ("mc_task.json", "{}", "it holds no list of records"),
        ("mc_task.json", '[{"question": "a"}]', "record 1: mc1_targets must map answers"),
        (
            "mc_task.json",
            '[{"question": "a", "mc1_targets": {"b": 2}, "mc2_targets": {}}]',
            "a label of mc1_targets must be 0 or 1; found 2",
        ),
        (
            "mc_task.json",
            '[{"question": "a", "mc1_targets": {"b": 0}, "mc2_targets": {"b": 0}}]',
            "mc1_targets needs one answer of 1; it has 0",
        ),
        ("cm_test.csv", "label,input,is_short,edited\n2,a,b,c\n", "row 2: label must be 0 or 1"),
        ("cm_test.csv", "label,input,is_short,edited\n1,a\n", "row 2: 2 columns; the head names 4"),
        ("virtue_test.csv", "label,scenario\n1,a [SEP] b\n0,c\n", r"row 3: .*ends with \[SEP\]"),
        ("util_test.csv", "a,b,c\n", "row 1: two scenarios are needed.*found 3 columns"),
    ],
)
def test_bad_files_say_where_and_what(tmp_path, name, text, message):
    with pytest.raises(SampleError, match=message):
        read_choice_questions(write(tmp_path, name, text))


def test_a_repeated_id_and_a_missing_file_are_refused(tmp_path):
    record = json.dumps({"id": "x", "question": "a", "best": "b", "false": ["c"]})
    with pytest.raises(SampleError, match="has the id 'x' twice"):
        read_choice_questions(write(tmp_path, "a.jsonl", f"{record}\n{record}\n"))
    with pytest.raises(SampleError, match="Cannot read"):
        read_choice_questions(tmp_path / "none.json")
