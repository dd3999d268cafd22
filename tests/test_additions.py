"""Additions: one of each kind, made in a copy of the repository by touching as few files as told.

CONTRIBUTING says how many files each kind of addition touches; these tests make it true.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MEASURE = '''"""A toy measure: the mean over samples."""

from __future__ import annotations

import xarray as xr


def compute_toy_mean(values: xr.DataArray) -> xr.DataArray:
    """Return the mean over samples.

    Examples
    --------
    >>> float(compute_toy_mean(xr.DataArray([1.0, 3.0], dims="sample")))
    2.0
    """
    return values.mean("sample")
'''

METHOD = '''"""A toy method: the last tokens leave first."""

from __future__ import annotations

import torch
from torch import Tensor

from ima.token_reduction.plans import PruneStep
from ima.token_reduction.scoring import TokenView


class ToyLast(PruneStep):
    """Prune the tokens that come last."""

    title = "Toy"
    choose: str = "toylast"

    def score(self, tokens: TokenView) -> Tensor:
        """Return a score that falls with the position, ``(sample, token)``."""
        places = torch.arange(tokens.candidates.shape[1], 0, -1)
        return places.expand(tokens.candidates.shape).double()
'''

IMPORTER = '''"""A toy data set: questions without media."""

from __future__ import annotations

from collections.abc import Iterator

from ima.data.importers.entries import PublishedFiles, PublishedRecord, PublishedSample, Text
from ima.data.importers.registry import register_importer


class _Toy(PublishedRecord):
    question: str
    answer: Text


@register_importer("toyset", needs="Give toyset.json.")
def read_toyset(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read the toy data set."""
    for number, toy in enumerate(published.document("toys").records("toys", _Toy)):
        yield PublishedSample(
            str(number), "text", "qa", (toy.answer,), None, question=toy.question
        )
'''

CLAIM = """    Claim(
        "F9.9",
        "toy",
        "Toys are measured.",
        page="toyclaim",
        as_stated=Reading(
            sentence="Toys are measured.",
            statistic="mean over samples",
            margin=COSINE_MARGIN,
            unit="contents",
            figure="none",
        ),
        as_tested=Reading(
            sentence="Most toys are measured.",
            statistic="median over samples",
            margin=COSINE_MARGIN,
            unit="contents",
            figure="none",
        ),
    ),
)
"""

PROBE = """
import json, sys
from pathlib import Path

sys.path.insert(0, "workflow")
import api, contents, plan, yaml
from ima.data.importers.entries import import_data
from ima.data.samples import open_samples
from ima.measures.toy_measure import compute_toy_mean
from ima.token_reduction.methods import list_methods
from ima.token_reduction.plans import parse_plan

Path("toyset.json").write_text('{"toys": [{"question": "cold ?", "answer": "yes"}]}')
folder = import_data("toyset", annotations=[Path("toyset.json")], media=None, out=Path("toys"))
config = plan.complete(yaml.safe_load(Path("workflow/config.yaml").read_text()))
parts = {part["caption"]: part["chapters"] for part in contents.read_contents()["parts"]}
steps = [{"prune": "perceptual", "choose": "toylast", "ratio": 0.5, "after_layer": 2}]
print(json.dumps({
    "page of the API": "ima.measures.toy_measure" in api.rooms()["measures"],
    "imported": open_samples(str(folder))[0].references,
    "method": "toylast" in str(parse_plan({"name": "toy", "steps": steps})),
    "listed": "toy_last" in list_methods(),
    "chapter": {"file": "book/runs/toyclaim"} in parts["Findings"],
    "run": config["runs"]["toyclaim"].get("claims"),
}))
"""


@pytest.fixture(scope="module")
def additions(tmp_path_factory):
    """A copy of the repository with one addition of each kind; what a probe then sees."""
    root = tmp_path_factory.mktemp("repository")
    skip = shutil.ignore_patterns("__pycache__", "_static", "runs", "_generated", "_build")
    for folder in ("ima", "notebooks", "workflow", "book"):
        shutil.copytree(ROOT / folder, root / folder, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", root)
    added = {
        "ima/measures/toy_measure.py": MEASURE,
        "ima/token_reduction/methods/toy_last.py": METHOD,
        "ima/data/importers/toyset.py": IMPORTER,
        "notebooks/toyclaim.md": (ROOT / "notebooks/reading.md").read_text(encoding="utf-8"),
    }
    for path, text in added.items():
        (root / path).write_text(text, encoding="utf-8")
    findings = root / "ima/claims/findings.py"
    text = findings.read_text(encoding="utf-8")
    assert text.endswith("\n)\n")
    findings.write_text(text.removesuffix(")\n") + CLAIM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "IMA_ZOO": str(ROOT / "data/zoo")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_measure_is_one_file(additions):
    assert additions["page of the API"]


def test_a_token_reduction_method_is_one_file(additions):
    assert additions["listed"]
    assert additions["method"]


def test_an_importer_is_one_file(additions):
    assert additions["imported"] == ["yes"]


def test_a_claim_is_its_declaration_and_its_notebook(additions):
    assert additions["chapter"]
    assert additions["run"] is True
