"""Docstrings: every public function shows how it is called."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "ima").rglob("*.py"))


def public_functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # Commands show their use with --help.
    if "cli" in path.relative_to(ROOT).parts:
        return []
    return [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]


def test_every_public_function_has_an_example():
    found = {(path, node.name): node for path in MODULES for node in public_functions(path)}
    assert len(found) > 300
    without = [
        f"{path.relative_to(ROOT)}: {name}"
        for (path, name), node in found.items()
        if "Examples\n" not in (ast.get_docstring(node) or "")
    ]
    assert without == []
