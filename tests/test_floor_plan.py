"""The floor plan: which way imports go, what imports without torch, how large a module may be."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def check_imports(root):
    """Run the linter of imports on a copy of the package, as `make lint` does."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(
        [*command, "pyproject.toml"],
        cwd=root,
        env={"PYTHONPATH": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path):
    """The package, to plant imports in."""
    shutil.copytree(ROOT / "ima", tmp_path / "ima", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


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


def test_planted_backward_imports_fail(checkout):
    for module, (planted, _) in BACKWARD.items():
        path = checkout / "ima" / module
        path.write_text(f"{path.read_text(encoding='utf-8')}\n{planted}\n", encoding="utf-8")
    done = check_imports(checkout)
    assert done.returncode == 1
    for module, (_, imported) in BACKWARD.items():
        lower, upper = module.partition("/")[0], imported.split(".")[1]
        assert f"ima.{lower} is not allowed to import ima.{upper}" in done.stdout
        importer = f"ima.{module.removesuffix('.py').replace('/', '.')}"
        assert f"{importer} -> {imported} (l." in done.stdout


def test_imports_go_down_the_floor_plan(checkout):
    done = check_imports(checkout)
    assert done.returncode == 0, done.stdout


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
