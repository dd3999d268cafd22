"""The command line: what it prints, how it fails, and with which exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ima import claims, cli
from ima.bench import speed
from ima.cache.provenance import validate_cache_parameters
from ima.notebook import runner
from ima.stats.intervals import Interval

MODEL = "llama-mini/vit/image-caption"
DATASET = "mini-image-caption"
NOTEBOOK = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A page

```{code-cell} ipython3
:tags: [parameters]

samples: int = 200  # how many
hook_points: list[str] = ["attn_out"]  # which
```

```{code-cell} ipython3
samples, hook_points
```
"""


@pytest.fixture
def ima(capsys):
    """Run the command line in this process; return exit code, standard output and error."""

    def run(*arguments):
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        else:
            code = 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def cache(tiny_zoo, tmp_path_factory):
    """A small finished cache, made by the command line."""
    path = tmp_path_factory.mktemp("cli") / "made.zarr"
    with pytest.raises(SystemExit) as stop:
        cli.main(create(path))
    assert stop.value.code == 0
    return path


@pytest.fixture
def notebook(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(NOTEBOOK, encoding="utf-8")
    return path


def create(path, *more):
    words = ["cache", "create", "--model", MODEL, "--dataset", DATASET, "--samples", "3"]
    return [
        *words,
        "--keep-tokens",
        "1",
        "--hook-points",
        "attn_out,resid_post",
        "--out",
        str(path),
        *more,
    ]


def test_help_lists_every_group(ima):
    code, out, _ = ima("--help")
    assert code == 0
    for word in ("cache", "models", "notebook", "claims", "zoo", "bench"):
        assert word in out


def test_models_list(ima, tiny_zoo):
    code, out, _ = ima("models", "list")
    assert code == 0
    assert MODEL in out
    code, out, _ = ima("models", "list", "--json")
    fields = {"name", "setup", "modality", "task", "dataset", "parameters", "scores", "floors"}
    fields |= {"controls", "beams", "checkpoints"}
    assert all(set(record) == fields for record in json.loads(out))


def test_cache_info(ima, cache):
    code, out, _ = ima("cache", "info", cache)
    assert code == 0
    assert "/means/resid_post" in out
    assert MODEL in out
    code, out, _ = ima("cache", "info", cache, "--json")
    record = json.loads(out)
    assert record["finished"]
    assert record["samples"] == 3
    assert record["hook_points"] == ["attn_out", "resid_post"]


def test_cache_verify_names_damage_and_repairs_it(ima, cache, tmp_path):
    store = Path(shutil.copytree(cache, tmp_path / "damaged.zarr"))
    code, out, _ = ima("cache", "verify", store)
    assert code == 0
    assert "0 damaged pieces" in out
    chunk = next(
        path for path in sorted(store.glob("means/attn_out/mean/c/**/*")) if path.is_file()
    )
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:40] + bytes([sound[40] ^ 1]) + sound[41:])
    code, out, _ = ima("cache", "verify", store)
    assert code == 1
    assert "/means/attn_out" in out
    assert "mini-image-test-000000" in out
    assert f"ima cache verify {store} --repair" in out
    code, out, _ = ima("cache", "verify", store, "--repair", "--json")
    assert code == 0
    assert json.loads(out)["ok"]
    assert chunk.read_bytes() == sound


def test_the_command_that_a_cache_names_is_one_that_the_command_line_takes(ima, tmp_path, tiny_zoo):
    asked = validate_cache_parameters(
        {
            "model": MODEL,
            "dataset": DATASET,
            "samples": 2,
            "hook_points": ["attn_out"],
            "keep_tokens": 1,
            "batch_size": 1,
            "unit": 1,
            "dtype": "float32",
            "seed": 3,
            "loss": False,
            "predict": True,
        }
    )
    words = asked.command(str(tmp_path / "named.zarr")).split()
    assert ima(*words[1:])[0] == 0
    _, out, _ = ima("cache", "info", tmp_path / "named.zarr", "--json")
    stored = json.loads(out)
    found = {**stored["parameters"], "batch_size": stored["execution"]["batch_size"]}
    assert {name: found[name] for name in found} == {
        name: value for name, value in asked.model_dump(mode="json").items() if name in found
    }


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--model", "llama-mini/vit/image-captoin", f"Did you mean '{MODEL}'?"),
        ("--dataset", "mini-image-captoin", f"Did you mean '{DATASET}'?"),
        ("--hook-points", "resid_pots", "Did you mean 'resid_post'?"),
        ("--samples", "0", "greater than or equal to 1"),
        ("--dtype", "bfloat16", "float16"),
        ("--keep-tokens", "9", "keep_tokens=9"),
        ("--out", "/proc/nowhere/c.zarr", "/proc/nowhere"),
    ],
)
def test_bad_input_of_cache_create(ima, tiny_zoo, tmp_path, option, value, message):
    store = tmp_path / "none.zarr"
    code, out, err = ima(*create(store, option, value))
    assert code == 1
    assert out == ""
    assert err.startswith("Error: ")
    assert message in err
    assert not store.exists()


def test_a_wrong_type_is_misuse(ima, tmp_path):
    code, _, err = ima(*create(tmp_path / "none.zarr", "--samples", "many"))
    assert code == 2
    assert "valid integer" in err
    assert not (tmp_path / "none.zarr").exists()


def test_errors_show_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ima.cli", "cache", "info", str(tmp_path / "none.zarr")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_notebook_run_takes_names_and_values(ima, notebook, tmp_path):
    out = tmp_path / "out.ipynb"
    code, said, _ = ima(
        "notebook", "run", "-p", "samples", "48", notebook, out, "-p", "hook_points", "a,b"
    )
    assert code == 0
    assert said.strip() == str(out)
    assert "(48, ['a', 'b'])" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("sample", "48"), "Unknown parameter 'sample'. Did you mean 'samples'?"),
        (("samples", "many"), "Parameter 'samples' must be int; found 'many' (str)."),
    ],
)
def test_notebook_run_refuses_parameters(ima, notebook, tmp_path, pair, message):
    out = tmp_path / "out.ipynb"
    code, _, err = ima("notebook", "run", notebook, out, "-p", *pair)
    assert code == 1
    assert message in err
    assert sorted(tmp_path.iterdir()) == [notebook]


def test_a_lone_name_is_misuse(ima, notebook, tmp_path):
    code, _, err = ima("notebook", "run", notebook, tmp_path / "out.ipynb", "-p", "samples")
    assert code == 2
    assert "-p needs a name and a value" in err


def test_notebook_params_and_list(ima, notebook, tmp_path):
    code, out, _ = ima("notebook", "params", notebook)
    assert code == 0
    assert "how many" in out
    code, out, _ = ima("notebook", "list", tmp_path)
    assert code == 0
    assert "samples, hook_points" in out
    code, _, err = ima("notebook", "list", tmp_path / "empty")
    assert code == 1
    assert "repository's root" in err


def test_claims_collect_links_each_verdict_to_its_page(ima, tmp_path):
    runs = tmp_path / "book" / "runs"
    entry = claims.make_claim_record(
        "F1.1",
        interval=Interval(0.2, 0.1, 0.3, n=60),
        model="tiny (ST)",
        dataset="some",
        notebook="notebooks/finding1.md",
    )
    written = claims.write_claim_records([entry], runs / "finding1.claims.json")
    out, table = tmp_path / "all.json", tmp_path / "book" / "_generated" / "claims.md"
    code, _, _ = ima("claims", "collect", written, "--out", out, "--table", table)
    assert code == 0
    assert json.loads(out.read_text(encoding="utf-8")) == [entry.model_dump()]
    text = table.read_text(encoding="utf-8")
    assert "(runs/finding1.ipynb)" in text
    assert text.count("not yet measured") == len(claims.CLAIMS) - 1


def test_bench_prints_the_time_of_each_step(ima, monkeypatch):
    code, _, err = ima("bench", "--samples", "0")
    assert code == 1
    assert "at least 1" in err
    timings = [speed.StepTiming("a", 1.0, 2), speed.StepTiming("b", 2.0, 2, 2.0, "a")]
    monkeypatch.setattr(speed, "benchmark_caching", lambda model, **settings: timings)
    code, out, _ = ima("bench", "--json")
    assert code == 0
    assert json.loads(out) == [vars(timing) for timing in timings]
    assert "2.00 × a" in ima("bench")[1]


def test_bench_keeps_timings_with_their_machine(ima, tmp_path):
    out = tmp_path / "kept" / "here.json"
    given = ("--samples", "4", "--batch-size", "2", "--repeats", "1", "--out", out)
    assert ima("bench", "--shape", "tiny", *given)[0] == 0
    found = speed.read_timings(out.parent)
    assert found["step"].tolist() == [speed.FORWARD_STEP, speed.MEASURE_STEP]
    assert set(found["what"]) == {"tiny, random weights, float32"}
    assert set(found["device"]) == {speed.describe_machine()["device"]} != {""}


def test_every_command_of_the_pages_exists(ima):
    """What the prose tells a reader to type is what the command line takes."""
    root = Path(__file__).parents[1]
    texts = [p.read_text(encoding="utf-8") for p in [root / "README.md", *root.glob("book/*.md")]]
    texts += [p.read_text(encoding="utf-8") for p in root.glob("notebooks/*.md")]
    told = set()
    for line in "\n".join(texts).splitlines():
        words = line.replace("`", " ").strip("$ ").split()
        if len(words) > 2 and words[0] == "ima":
            told.add((words[1], *([words[2]] if words[2][0] not in "-[" else [])))
    assert ("cache", "create") in told
    for words in sorted(told):
        assert ima(*words, "--help")[0] == 0, f"ima {' '.join(words)}"


def test_notebooks_declare_typed_commented_parameters():
    for source in (Path(__file__).parents[1] / "notebooks").glob("*.md"):
        for parameter in runner.read_notebook_parameters(source):
            assert parameter.comment, f"{source.name}: {parameter.name} needs a comment"


def test_bench_takes_a_published_size(ima):
    small = ("--samples", "4", "--batch-size", "2", "--repeats", "1", "--json")
    code, out, _ = ima("bench", "--shape", "tiny", *small)
    assert code == 0
    plain, measured = json.loads(out)
    assert plain["samples"] == measured["samples"] == 4
    assert measured["ratio"] > 0
    code, _, err = ima("bench", "--shape", "llava")
    assert code == 1
    assert "Available: llama-12, llava-1.5-13b, llava-1.5-7b, tiny" in err
