"""Planted faults: each is one wrong line in a copy of the package, and the suite must fail on it.

Run with ``make test ARGS="-m mutants"``; the default selection only looks whether each can still be
planted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """A fault: a text of a module, what replaces it, and the tests that must notice."""

    module: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MUTANTS = {
    "HSIC": Mutant(
        "measures/representation_similarity.py",
        "rows = 2 / (n - 2) *",
        "rows = 2 / (n - 1) *",
        ("tests/measures/test_representation_similarity.py",),
    ),
    "retrieval ties": Mutant(
        "measures/representation_similarity.py",
        "np.diagonal(best, start) / best.sum(axis=1)",
        "np.diagonal(best, start) * 1.0",
        ("tests/measures/test_representation_similarity.py",),
    ),
    "a band": Mutant(
        "stats/intervals.py",
        "np.quantile(deviation.max(axis=1), rank",
        "np.quantile(deviation, rank",
        ("tests/stats", "tests/measures"),
    ),
    "the logit lens": Mutant(
        "capture/logit_lens.py",
        "    if paper_compat:\n        state = hook_points.final_norm(state)",
        "    state = hook_points.final_norm(state)",
        ("tests/capture/test_logit_lens.py",),
    ),
    "ranking order": Mutant(
        "token_reduction/scoring.py",
        'np.argsort(-own if step.control == "reversed" else own, kind="stable")',
        'np.argsort(own if step.control == "reversed" else -own, kind="stable")',
        ("tests/token_reduction/test_scoring.py", "tests/token_reduction/test_methods.py"),
    ),
    "VQA's rule": Mutant(
        "metrics/vqa.py",
        "(agreeing - (other == answer)) / enough",
        "agreeing / enough",
        ("tests/metrics/test_vqa.py",),
    ),
    "a checksum": Mutant(
        "cache/store.py",
        "        return [Crc32cCodec()]\n"
        "    return [ZstdCodec(level=3, checksum=True), Crc32cCodec()]",
        "        return []\n    return [ZstdCodec(level=3, checksum=False)]",
        ("tests/cache/test_verification.py",),
    ),
    "the verdict": Mutant(
        "claims/readings.py",
        "low, high = interval.low - reading.null, interval.high - reading.null",
        "low = high = interval.value - reading.null",
        ("tests/claims",),
    ),
    "FLOPs": Mutant(
        "token_reduction/cost.py",
        "attention += 4 * int((attending * present).sum())",
        "attention += 2 * int((attending * present).sum())",
        ("tests/token_reduction/test_cost.py",),
    ),
    "a mask": Mutant(
        "measures/subnetworks.py",
        "removed = int(scores.shape[-1] * sparsity)",
        "removed = int(scores.shape[-1] * (1 - sparsity))",
        ("tests/measures/test_subnetworks.py",),
    ),
    "a resume": Mutant(
        "capture/writer.py",
        "if not done[slice(*layout.bounds(unit))].all()",
        "if not done[slice(*layout.bounds(unit))].any() and unit > 0",
        ("tests/faults/test_process_faults.py", "tests/capture/test_writer.py"),
    ),
    "a replaced cache": Mutant(
        "cache/guarded_reads.py",
        "if after[:1] != self.watch.opened[:1]:",
        "if False:",
        ("tests/faults/test_process_faults.py",),
    ),
    "a claim": Mutant(
        "measures/cone_gaps.py",
        "compute_lowest_point(gaps,",
        "compute_lowest_point(-gaps,",
        ("tests/measures/test_cone_gaps.py",),
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package that takes the place of the installed one."""
    root = tmp_path_factory.mktemp("mutants")
    shutil.copytree(ROOT / "ima", root / "ima", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def run(copy, *arguments):
    # -P keeps the current folder off the path, where the package itself lies.
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(copy), "IMA_ZOO": str(ROOT / "data" / "zoo")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", MUTANTS)
def test_the_fault_can_be_planted(name):
    mutant = MUTANTS[name]
    text = (ROOT / "ima" / mutant.module).read_text(encoding="utf-8")
    assert text.count(mutant.right) == 1, f"{mutant.module} does not hold {mutant.right!r} once"
    assert all((ROOT / path).exists() for path in mutant.tests)


@pytest.mark.mutants
def test_the_copy_is_what_runs(copy):
    shown = run(copy, "-c", "import ima.claims; print(ima.claims.__file__)").stdout
    assert Path(shown.strip()).is_relative_to(copy)


@pytest.mark.mutants
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_suite_kills(copy, name):
    mutant = MUTANTS[name]
    path = copy / "ima" / mutant.module
    original = path.read_text(encoding="utf-8")
    path.write_text(original.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        done = run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests)
    finally:
        path.write_text(original, encoding="utf-8")
    # 1: tests ran, and some failed. Anything else says nothing about the fault.
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "failed" in done.stdout.splitlines()[-1]
    assert "ImportError" not in done.stdout
