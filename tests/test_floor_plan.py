"""The floor plan: which way imports go, what imports without torch, how large a module may be."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Rooms that analysts use where torch is absent.
READERS = (
    "cache", "claims", "data", "errors", "figures", "files", "hook_points", "measures", "metrics",
    "notebook", "packages", "progress", "stats", "studies", "systems", "timing",
)  # fmt: skip
WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers"}:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
"""
#: Without this, the imports before it would show nothing.
TORCH_IS_ABSENT = """
try:
    import ima.models.frozen
except ModuleNotFoundError as error:
    assert str(error) == "No module named 'torch'", error
else:
    raise SystemExit("torch can be imported")
"""


#: By module: an import that goes up, and what the linter says about it.
BACKWARD = {
    "measures/cones.py": ("import ima.cache.reader", "ima.cache.reader"),
    "data/samples.py": (
        "def late():\n    from ima.miniature import datasets",
        "ima.miniature.datasets",
    ),
    "models/batch.py": ("from ima.capture import hooks", "ima.capture.hooks"),
    "packages/parts.py": ("from ima.data import samples", "ima.data.samples"),
}


def test_imports_go_down_the_floor_plan_and_planted_ones_fail(tmp_path):
    """The linter of `make lint` finds all the imports that are planted, and no others."""
    shutil.copytree(ROOT / "ima", tmp_path / "ima", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, (planted, _) in BACKWARD.items():
        path = tmp_path / "ima" / module
        path.write_text(f"{path.read_text(encoding='utf-8')}\n{planted}\n", encoding="utf-8")
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    done = subprocess.run(
        [*command, "pyproject.toml"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    expected = {
        (f"ima.{module.removesuffix('.py').replace('/', '.')}", imported)
        for module, (_, imported) in BACKWARD.items()
    }
    # A package that has no line in the plan.
    assert "not listed as layers" not in done.stdout
    assert set(re.findall(r"(ima[\w.]*) -> (ima[\w.]*) \(l\.", done.stdout)) == expected
    for importer, imported in expected:
        lower, upper = importer.split(".")[1], imported.split(".")[1]
        assert f"ima.{lower} is not allowed to import ima.{upper}" in done.stdout


def modules(rooms):
    paths = [path for room in rooms for path in sorted((ROOT / "ima").glob(f"{room}.py"))]
    paths += [path for room in rooms for path in sorted((ROOT / "ima" / room).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def test_readers_do_without_torch():
    wanted = ["ima", "ima.cli", *modules(READERS)]
    assert {"ima.cache.reader", "ima.measures.cones", "ima.studies.model_summary"} <= set(wanted)
    imports = "\n".join(f"import {name}" for name in wanted)
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + imports + TORCH_IS_ABSENT], check=True, cwd=ROOT
    )


def test_a_long_module_says_why_it_is_one():
    for path in (ROOT / "ima").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 500:
            said = ast.get_docstring(ast.parse(text)) or ""
            assert "One module because" in said, path.relative_to(ROOT)
