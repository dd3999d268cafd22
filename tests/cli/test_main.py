"""The command line as a whole, and the commands of models, claims and timings."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ima import claims
from ima.bench import records, speed, suite
from ima.bench.records import BenchRecord
from ima.cache.reader import open_cache
from ima.errors import PartAbsentError
from ima.stats.intervals import Interval

MODEL = "llama-mini/vit/image-caption"


def test_help_lists_every_group(run_ima):
    code, out, _ = run_ima("--help")
    assert code == 0
    for word in ("cache", "models", "notebook", "claims", "zoo", "bench"):
        assert word in out


def test_models_list(run_ima, tiny_zoo):
    code, out, _ = run_ima("models", "list")
    assert code == 0
    assert MODEL in out
    code, out, _ = run_ima("models", "list", "--json")
    fields = {"name", "setup", "modality", "task", "dataset", "parameters", "scores", "floors"}
    fields |= {"controls", "beams", "checkpoints"}
    records = json.loads(out)
    assert MODEL in {record["name"] for record in records}
    assert all(set(record) == fields for record in records)


def test_claims_collect_links_each_verdict_to_its_page(run_ima, tmp_path):
    runs = tmp_path / "book" / "runs"
    entry = claims.make_claim_record(
        "F1.1",
        "as stated",
        interval=Interval(0.2, 0.1, 0.3, n=60),
        model="tiny (ST)",
        dataset="some",
    )
    written = claims.write_claim_records([entry], runs / "finding1.claims.json")
    out, table = tmp_path / "all.json", tmp_path / "book" / "_generated" / "claims.md"
    code, _, _ = run_ima("claims", "collect", written, "--out", out, "--table", table)
    assert code == 0
    assert json.loads(out.read_text(encoding="utf-8")) == [entry.model_dump()]
    assert (table.parent / "claims.json").read_bytes() == out.read_bytes()
    assert "narrow cones" in (table.parent / "beside.md").read_text(encoding="utf-8").lower()
    text = table.read_text(encoding="utf-8")
    assert "(runs/finding1.ipynb)" in text
    assert (table.parent / "verdicts" / "F1.1-as-stated.svg").is_file()


def test_bench_prints_the_time_of_each_step(run_ima, monkeypatch):
    given = ("bench", "--model", "llama-mini/vit/image-caption")
    code, _, err = run_ima(*given, "--samples", "0")
    assert code == 2
    assert "--samples" in err
    timings = [speed.StepTiming("a", 1.0, 2), speed.StepTiming("b", 2.0, 2, 2.0, "a")]
    monkeypatch.setattr(speed, "benchmark_caching", lambda model, **settings: timings)
    code, out, _ = run_ima(*given, "--json")
    assert code == 0
    assert json.loads(out) == [vars(timing) for timing in timings]
    assert "2.00 × a" in run_ima(*given)[1]


def test_bench_runs_what_has_a_limit(run_ima, monkeypatch, tmp_path):
    kept = BenchRecord("write", "a store", 0.2, "s", 1.5, 2.0, 7, "cpu", against="plain files")
    slow = replace(kept, name="read", ratio=2.5)
    monkeypatch.setattr(
        suite,
        "list_benchmarks",
        lambda repeats: {
            "storage": lambda: [kept, slow],
            "capture/large": _refuse,
        },
    )
    out = tmp_path / "bench.json"
    code, text, err = run_ima("bench", "--out", out)
    assert code == 0
    rows = [line.split() for line in text.splitlines() if "plain files" in line]
    assert [row[-2:] for row in rows] == [["2.00", "met"], ["NOT", "MET"]]
    assert "capture/large is left out. fetch it" in err
    stored = records.read_records([out])
    assert stored["met"].tolist() == [True, False]
    assert set(stored["device"]) == {speed.describe_machine()["device"]}
    code, text, _ = run_ima("bench", "--only", "storage", "--json")
    assert [record["name"] for record in json.loads(text)] == ["write", "read"]
    code, _, err = run_ima("bench", "--only", "speed")
    assert code == 1
    assert "Unknown benchmark 'speed'" in err
    code, _, err = run_ima("bench", "--only", "storage", "--shape", "tiny")
    assert code == 1
    assert "leave out --model and --shape" in err


def _refuse():
    raise PartAbsentError("fetch it")


def test_every_command_of_the_pages_exists(run_ima):
    """What the prose tells a reader to type is what the command line takes."""
    root = Path(__file__).parents[2]
    texts = [p.read_text(encoding="utf-8") for p in [root / "README.md", *root.glob("book/*.md")]]
    texts += [p.read_text(encoding="utf-8") for p in root.glob("notebooks/*.md")]
    told = set()
    for line in "\n".join(texts).splitlines():
        words = line.replace("`", " ").strip("$ ").split()
        if len(words) > 2 and words[0] == "ima":
            told.add((words[1], *([words[2]] if words[2][0] not in "-[" else [])))
    assert ("cache", "create") in told
    for words in sorted(told):
        assert run_ima(*words, "--help")[0] == 0, f"ima {' '.join(words)}"


def test_bench_takes_a_published_size(run_ima):
    small = ("--samples", "4", "--batch-size", "2", "--repeats", "1", "--json")
    code, out, _ = run_ima("bench", "--shape", "tiny", *small)
    assert code == 0
    plain, measured = json.loads(out)
    assert plain["samples"] == measured["samples"] == 4
    assert measured["ratio"] > 0
    code, _, err = run_ima("bench", "--shape", "llava")
    assert code == 1
    assert "Available: llama-12, llama-768, llava-1.5-13b, llava-1.5-7b, opt-125m, tiny" in err


@pytest.mark.parametrize("writable", [True, False])
def test_a_fault_is_kept_in_a_file_and_not_shown(run_ima, monkeypatch, tmp_path, writable):
    """No traceback reaches a user; what is needed to repeat the fault is in the file."""
    logs = tmp_path / "logs"
    if not writable:
        logs.write_text("a file where the folder should be")
    monkeypatch.setenv("IMA_LOGS", str(logs))

    def fail(*_, **__):
        raise ZeroDivisionError("half of \ud83d")

    monkeypatch.setattr("ima.data.folder_check.check_data_folder", fail)
    code, out, shown = run_ima("data", "check", tmp_path)
    assert code == 1
    assert "Traceback" not in out + shown
    assert "Error: ZeroDivisionError: half of \\ud83d" in shown
    (path,) = re.findall(r"report it with (\S+),", shown)
    kept = Path(path).read_text()
    assert "ZeroDivisionError" in kept
    assert "Traceback" in kept
    assert "torch" in kept
    assert Path(path).is_relative_to(logs) == writable


def test_names_of_modules_come_from_a_file_wherever_the_option_stands(
    run_ima, create_arguments, tmp_path, tiny_zoo, monkeypatch
):
    monkeypatch.delenv("IMA_ARCHITECTURE", raising=False)
    names = tmp_path / "names.toml"
    create = create_arguments(tmp_path / "a.zarr")
    for place in (0, 2, len(create)):
        code, _, err = run_ima(*create[:place], "--architecture", names, *create[place:])
        assert code == 1
        assert "names.toml' cannot be read: No such file" in err
    assert not (tmp_path / "a.zarr").exists()
    names.write_text('[architecture.llama]\nlast_linear = "up_proj"\n')
    code, _, err = run_ima(*create, f"--architecture={names}")
    assert code == 1
    assert "reading of 'mlp_post'" in err
    names.write_text('[architecture.llama]\nlast_linear = "down_proj"\n')
    assert run_ima(*create, f"--architecture={names}")[0] == 0
    reading = open_cache(tmp_path / "a.zarr").attrs["model"]["reading"]
    assert reading == {"modules": {"last_linear": "down_proj"}}
    # The same samples without the names are another cache.
    assert "IMA_ARCHITECTURE" not in os.environ
    code, _, err = run_ima(*create)
    assert code == 1
    assert "model.reading.modules.last_linear" in err
