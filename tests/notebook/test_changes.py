"""Why a notebook runs: parameters, caches and code against those of its last run."""

from __future__ import annotations

import json

import pytest

from ima.notebook import changes

LAST = {
    "source": "page.md",
    "parameters": {"samples": 24, "caches": ["a.zarr", "b.zarr"]},
    "caches": [
        {"path": "a.zarr", "samples": 24, "sha256": "a" * 64},
        {"path": "b.zarr", "samples": 24, "sha256": "b" * 64},
    ],
    "code": {"cells": "1", "modules": {"ima/files.py": "1", "ima/gone.py": "1"}},
    "seconds": 61.2,
    "day": "2026-11-30",
}


def explain(now):
    return changes.explain_run({**LAST, **now}, output="out.ipynb", last=LAST)


def test_nothing_has_changed():
    text = explain({})
    assert "because you ask for it" in text
    assert "out.ipynb was made on 2026-11-30 in 61 s, and nothing has changed" in text
    assert "  cache a.zarr, 24 samples, digest aaaaaaaaaa\n" in text


@pytest.mark.parametrize(
    ("now", "lines"),
    [
        (
            {"parameters": {"samples": 48, "caches": ["a.zarr", "b.zarr"], "seed": 1}},
            ["parameter samples: 24, now 48", "parameter seed: its default, now 1"],
        ),
        (
            {
                "parameters": {"samples": 24, "caches": ["a.zarr", "c.zarr"]},
                "caches": [
                    {"path": "a.zarr", "samples": 24, "sha256": "c" * 64},
                    {"path": "c.zarr", "samples": 24, "sha256": "d" * 64},
                ],
            },
            [
                "cache a.zarr: digest aaaaaaaaaa, now cccccccccc",
                "cache c.zarr is new to it",
                "cache b.zarr is not read any more",
            ],
        ),
        (
            {"code": {"cells": "2", "modules": {"ima/files.py": "2"}}},
            ["the code of its cells", "code of ima/files.py, ima/gone.py"],
        ),
    ],
)
def test_each_change_is_named(now, lines):
    assert changes.list_changes({**LAST, **now}, last=LAST) == lines
    text = explain(now)
    assert "Since then this changed:" in text
    assert all(f"\n  {line}\n" in text for line in lines)


def test_many_modules_are_counted():
    modules = {f"ima/m{number}.py": "1" for number in range(6)}
    now = {**LAST, "code": {"cells": "1", "modules": modules}}
    last = {**LAST, "code": {"cells": "1", "modules": {}}}
    (line,) = changes.list_changes(now, last=last)
    assert line == "code of ima/m0.py, ima/m1.py, ima/m2.py and 3 more modules"
    # A page of before: its code is unknown.
    assert changes.list_changes(now, last={**LAST, "code": None})[-1] == (
        "the last run did not record its code"
    )


def test_docstrings_of_modules_are_no_change(tmp_path):
    module = tmp_path / "ima" / "one.py"
    module.parent.mkdir()
    (module.parent / "__init__.py").touch()

    def describe(text):
        module.write_text(text, encoding="utf-8")
        return changes.describe_code("import ima.one", root=tmp_path)

    before = describe("x = 1\n")
    assert set(before["modules"]) == {"ima/__init__.py", "ima/one.py"}
    assert describe('"""Documented."""\nx = 1  # why\n') == before
    assert describe("x = 2\n") != before


def test_a_file_of_anothers_is_no_last_run(tmp_path):
    path = tmp_path / "out.ipynb"
    for text in ("", "{}", json.dumps({"metadata": {}})):
        path.write_text(text, encoding="utf-8")
        assert changes.read_last_run(path) is None
