"""What `make book` says: which steps run, which are reused, why, and the time left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import build_report
import pytest
from build_report import BuildReport, Step

ROOT = Path(__file__).parents[1]
HEADER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

```{code-cell} ipython3
:tags: [parameters]

samples: int = 200  # how many
```
"""


@pytest.fixture
def clock():
    def read():
        return read.now

    read.now = 0.0
    return read


@pytest.fixture
def make(tmp_path, clock):
    """Make a report of two caches, two pages and the site."""
    page = tmp_path / "one.md"
    page.write_text(HEADER, encoding="utf-8")

    def make_report(record=None, **parameters):
        path = tmp_path / "times.json"
        if record is not None:
            path.write_text(json.dumps(record), encoding="utf-8")
        steps = {
            "cache_a": Step("caching-a", makes_cache=True),
            "cache_b": Step("caching-b", makes_cache=True),
            "run_one": Step("one", page, tmp_path / "one.ipynb", parameters),
            "run_two": Step("two", page, tmp_path / "two.ipynb"),
            "html": Step("site"),
        }
        return BuildReport(steps, record=path, cores=2, clock=clock)

    return make_report


def test_what_runs_and_what_is_reused_is_named(make):
    report = make()
    head, run, reused = report.plan({"run_one", "html", "site", "total"})
    assert head == "2 of 5 steps run, 3 are reused; no run time is recorded yet."
    assert run == "Run: one, site"
    assert reused == "Reused: caching-a, caching-b, two"
    # The first call of make book looks at caches only.
    assert make().plan({"cache_a", "caches"})[0].startswith("1 of 2 steps run, 1 are reused")


def test_time_left_comes_from_the_last_build(make, clock):
    known = {"caching-a": {"seconds": 60}, "one": {"seconds": 300}, "site": {"seconds": 40}}
    report = make(known)
    head, *_ = report.plan({"cache_a", "run_one", "html"})
    # Two cores: the longest step decides.
    assert "about 5 min left, by the times of the last build." in head
    report.start("run_one")
    report.start("cache_a")
    clock.now = 60.0
    (line,) = report.finish("cache_a")
    assert line.startswith("caching-a took 60 s; 1 of 3 steps are done; about 4 min left")
    clock.now = 400.0
    (line,) = report.finish("run_one")
    assert line.startswith("one took 7 min; 2 of 3 steps are done; about 40 s left")
    report.start("html")
    (line,) = report.finish("html")
    assert line == "site took 0 s; 3 of 3 steps are done."
    # The next build knows these times.
    assert make().last["one"]["seconds"] == 400.0


def test_a_step_without_a_recorded_time_is_counted(make):
    report = make({"one": {"seconds": 30}})
    head, *_ = report.plan({"run_one", "run_two", "html"})
    assert "at least 30 s left, by the times of the last build, which lacks 2 of the steps" in head


def test_a_step_runs_for_what_changed_since_the_last_build(make):
    now = make().steps["run_one"]
    last = build_report.describe_notebook_run(now.source)
    record = {"one": {"seconds": 1, **last}}
    report = make(record, samples=48)
    (line,) = report.explain("run_one", reason="Params have changed since last execution: x")
    assert line == "one runs: parameter samples: its default, now 48"
    record["one"]["code"] = {"cells": "0", "modules": {f"ima/{n}.py": "0" for n in range(2)}}
    (line,) = make(record).explain("run_one", reason="")
    assert line == "one runs: the code of its cells; code of ima/0.py, ima/1.py"
    # Snakemake knows of weights and samples, which a notebook does not record.
    (line,) = make().explain("run_two", reason="Updated input files: data/a.json, b.json, c, d")
    assert line == "two runs: newer: a.json, b.json, c and 1 more"
    assert report.explain("site", reason="x") == []


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Missing output files: a", "it is not made yet"),
        ("Input files updated by another job: x/a.json", "made again: a.json"),
        (
            "Set of input files has changed since last execution; Params have changed since "
            "last execution: before: a; now: b",
            "it reads other caches or pages than before; "
            "weights, samples, tables, code or parameters changed, or a touch",
        ),
        ("Something else", "Something else"),
    ],
)
def test_reasons_of_snakemake_are_translated(reason, words):
    assert build_report.translate_reason(reason) == words


SNAKEFILE = """
import sys
from pathlib import Path
sys.path.append({workflow!r})
import build_report, snakemake_logger_plugin_ima
page = Path("two.ipynb")
steps = {{
    "one": build_report.Step("one"),
    "two": build_report.Step("two", page=page),
}}
snakemake_logger_plugin_ima.announce(
    build_report.BuildReport(steps, record=Path("times.json"), cores=1)
)
rule all:
    input: "two.txt"
rule one:
    output: "one.txt"
    shell: "touch {{output}}"
rule two:
    input: "one.txt"
    output: "two.txt"
    shell: "test -f mended || {{{{ echo Cell 3 failed >&2; touch two.failed.ipynb; exit 1; }}}}; "
        "touch {{output}}"
"""


def test_a_build_that_failed_goes_on_where_it_was(tmp_path):
    """Snakemake itself, with the options that the Makefile gives it."""
    path = tmp_path / "Snakefile"
    path.write_text(SNAKEFILE.format(workflow=str(ROOT / "workflow")), encoding="utf-8")
    found = os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'workflow' / 'plugins'}:{found}"}

    def build(*more):
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--nolock"]
        made = subprocess.run(
            [*command, "--rerun-incomplete", "--logger", "ima", *more],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return made.returncode, made.stderr

    code, told = build("--dry-run")
    assert code == 0
    assert told.count("2 of 2 steps run, 0 are reused") == 1
    assert "one runs: it is not made yet\n" in told
    code, told = build()
    assert code == 1
    assert "one took 0 s; 1 of 2 steps are done" in told
    assert "Cell 3 failed" in told
    assert "two failed; the error above says where. Its log is two.failed.ipynb. 1 steps" in told
    (tmp_path / "mended").touch()
    code, told = build()
    assert code == 0
    assert "1 of 2 steps run, 1 are reused" in told
    assert "Reused: one\n" in told
    assert "2 of 2" not in told
    assert "1 of 1 steps are done." in told
    code, told = build()
    assert (code, told.strip()) == (
        0,
        "Everything is there, and nothing has changed since: all steps are reused.",
    )


def test_the_makefile_asks_for_this_report_unless_snakemake_is_to_speak():
    def ask(arguments):
        command = ["make", "--dry-run", "--old-file=.venv/.ready", "book", f"ARGS={arguments}"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert ask("").count("--logger ima") == 2
    assert ask("--dry-run").count("--dry-run --logger ima") == 2
    assert "--logger" not in ask("--printshellcmds")
    assert "PYTHONPATH=workflow/plugins" in ask("")
