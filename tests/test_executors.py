"""The book's steps as jobs of Slurm: its profile, a dry run, and a tiny Slurm that runs jobs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tinyslurm import install_slurm

ROOT = Path(__file__).parents[1]
PROFILES = ROOT / "workflow" / "profiles"
SNAKEFILE = """
import sys
sys.path[:0] = [{workflow!r}, {workflow!r} + "/plugins"]
import build_report
import snakemake_logger_plugin_ima
from pathlib import Path

STEPS = {{
    name: build_report.Step(name, Path("Snakefile"), Path(f"{{name}}.txt"), {{}})
    for name in ("one", "two")
}}
snakemake_logger_plugin_ima.announce(
    build_report.BuildReport(STEPS, record=Path("times.json"), cores=workflow.cores)
)

rule two:
    input: "one.txt"
    output: "two.txt"
    shell: "cat {{input}} > {{output}}"

rule one:
    output: "one.txt"
    shell: "echo $SLURM_JOB_ID $OMP_NUM_THREADS > {{output}}"
"""


def run_snakemake(*words, folder, path=""):
    found = os.environ.get("PYTHONPATH", "")
    plugins = ROOT / "workflow" / "plugins"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{plugins}{os.pathsep}{found}",
    }
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--nolock", *words],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def read_documented_arguments(name):
    """Return the words that a page gives Snakemake for a site's account and partition."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.search(r'make book PROFILE=slurm \\\n +ARGS="([^"]+)"', text)[1].split()


def test_steps_run_as_jobs_of_slurm(tmp_path):
    slurm = install_slurm(tmp_path / "slurm")
    folder = tmp_path / "book"
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE.format(workflow=str(ROOT / "workflow")))
    words = ["--workflow-profile", str(PROFILES / "slurm"), "--cores", "2", "--logger", "ima"]
    words += read_documented_arguments("notebooks/workers.md")
    words += ["--latency-wait", "1", "--slurm-init-seconds-before-status-checks", "1"]
    done = run_snakemake(*words, folder=folder, path=slurm)
    assert done.returncode == 0, done.stdout + done.stderr
    # The second step read what the first one, another job, wrote.
    assert (folder / "two.txt").read_text() == "1 1\n"
    asked = (slurm / "asked").read_text().splitlines()
    assert len(asked) == 2
    assert all("lab" in line and "long" in line for line in asked)
    assert all("--mem\t8000" in line and "\t120" in line for line in asked)
    assert "2 of 2 steps are done" in done.stderr


def test_the_profile_asks_for_memory_and_waits_for_files():
    profile = yaml.safe_load((PROFILES / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    assert profile["executor"] == "slurm"
    assert profile["default-resources"]["mem_mb"] > 0
    assert profile["latency-wait"] >= 30
    # A list on the command line replaces that of the profile.
    kept = [f"{name}={value}" for name, value in profile["default-resources"].items()]
    assert set(kept) < set(read_documented_arguments("notebooks/workers.md"))


@pytest.mark.slow
def test_a_dry_run_of_the_book_on_workers_of_slurm():
    words = ["--snakefile", "workflow/Snakefile", "--workflow-profile", str(PROFILES / "slurm")]
    words += ["--default-resources", "slurm_account=lab", "slurm_partition=long"]
    done = run_snakemake(*words, "--dry-run", "--config", "size=small", "--", "site", folder=ROOT)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    # Whatever of the book is there already.
    assert "rule site:" in told or "Nothing to be done" in told


def test_the_makefile_takes_a_profile():
    words = ["make", "--dry-run", "--old-file=.venv/.ready", "book", "PROFILE=slurm"]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.count("--workflow-profile workflow/profiles/slurm") == 2


def test_the_makefile_names_the_profiles_that_exist():
    words = ["make", "--dry-run", "--old-file=.venv/.ready", "book", "PROFILE=pbs"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no profile 'pbs': slurm" in done.stderr
