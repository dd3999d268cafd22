"""`ima quiz`: scores of texts alone, differences to another model, users' files, and errors."""

from __future__ import annotations

import json

import pytest

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_a_model_with_a_picture_path_is_quizzed_against_its_language_model(run_ima, tiny_zoo):
    words = ["quiz", "llama-mini/vit/image-qa", "--against", "llama-mini", "--world", "mini"]
    code, out, _ = run_ima(*words, "--samples", "3", "--json")
    assert code == 0
    rows = json.loads(out[out.index("[") :])
    assert {row["unit"] for row in rows} == {"question", "sum", "passage"}
    assert all(
        row["difference"] == row["difference low"] == row["difference high"] == 0 for row in rows
    )
    assert all(row["n"] == 3 for row in rows)
    code, out, _ = run_ima(*words, "--samples", "2")
    assert code == 0
    assert "difference to llama-mini" in out
    assert "+0.000" in out
    assert "2 questions" in out
    code, out, _ = run_ima(*words, "--samples", "8", "--by-topic", "--json")
    assert code == 0
    rows = json.loads(out[out.index("[") :])
    for metric in ("questions: mc1", "arithmetic: exact"):
        whole, *parts = [row for row in rows if row["metric"] == metric]
        assert "group" not in whole
        assert len({row["group"] for row in parts}) == len(parts) > 1
        assert sum(row["n"] for row in parts) == whole["n"]
        total = sum(row["n"] * row["score"] for row in parts)
        assert total == pytest.approx(whole["n"] * whole["score"])
    code, out, _ = run_ima(*words, "--samples", "8", "--by-topic")
    assert "arithmetic: exact, one digit, plus" in out


def test_a_model_of_the_hub_reads_files_of_a_user(run_ima, hub_folders, tmp_path):
    llava = hub_folders("llava")
    questions, passages, primer = (tmp_path / name for name in ("q.jsonl", "p.txt", "primer.txt"))
    record = {"question": "Is ice cold?", "best": "Yes", "false": ["No", "Never"]}
    questions.write_text(json.dumps(record))
    passages.write_text("a red circle\nand a square .\n\n\na blue star .\n")
    primer.write_text("Question: Is fire hot?\nAnswer: Yes\n")
    words = ["quiz", llava, "--questions", questions, "--passages", passages, "--json"]
    code, out, _ = run_ima(*words)
    assert code == 0
    plain = {row["metric"]: row for row in json.loads(out[out.index("[") :])}
    assert {row["n"] for row in plain.values()} == {1, 2}
    assert "arithmetic: exact" not in plain
    code, _, error = run_ima(*words, "--by-topic")
    assert code == 1
    assert "none of these questions has one. Give each record of the file a `topic`" in error
    code, out, _ = run_ima(*words, "--primer", primer)
    primed = {row["metric"]: row for row in json.loads(out[out.index("[") :])}
    assert primed["questions: mc2"]["score"] != plain["questions: mc2"]["score"]
    loss = "passages: loss in nats per token"
    assert primed[loss] == plain[loss]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--world", "minis"], "Unknown world 'minis'. Did you mean 'mini'?"),
        (["--questions", "none.jsonl"], "Cannot read none.jsonl"),
        (["--passages", "EMPTY"], "holds no text"),
        (["--against", "llama-minis"], "llama-mini"),
    ],
)
def test_errors_say_what_to_give(run_ima, tiny_zoo, tmp_path, options, message):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    given = [{"EMPTY": empty}.get(word, word) for word in options]
    code, _, error = run_ima("quiz", "llama-mini", *given)
    assert code == 1
    assert message in error
    assert "Traceback" not in error
