"""The table of faults: each test that it names exists, and each test of faults is in it."""

from __future__ import annotations

import ast
from pathlib import Path

from ima.cache.promises import PROMISES, tabulate_promises

ROOT = Path(__file__).parents[2]
# What the table has to hold.
FAULTS = (
    "killed",
    "disk",
    "read-only",
    "byte flips",
    "cut short",
    "second writer",
    "clock",
    "NaN",
    "Memory",
    "Data or weights changed",
    "being written",
)


def list_tests(path: Path) -> set[str]:
    return {
        f"{path.relative_to(ROOT).as_posix()}::{node.name}"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_promise_has_tests_that_exist() -> None:
    named = [test for promise in PROMISES for test in promise.tests]
    assert all(promise.tests for promise in PROMISES)
    assert len(named) == len(set(named))
    files = {ROOT / test.partition("::")[0] for test in named}
    assert set(named) <= set().union(*map(list_tests, files))


def test_each_test_of_faults_holds_a_promise() -> None:
    named = {test for promise in PROMISES for test in promise.tests}
    there = set().union(*map(list_tests, (ROOT / "tests" / "faults").glob("test_*.py")))
    assert len(there) > 15
    assert there <= named


def test_the_table_holds_every_fault() -> None:
    table = tabulate_promises()
    for fault in FAULTS:
        assert table["fault"].str.contains(fault).any(), fault
    assert list(table.columns) == ["fault", "promise", "tests"]
