"""`ima notebook`: parameters by name, and what it lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from ima.notebook import runner

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
def notebook(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(NOTEBOOK, encoding="utf-8")
    return path


def test_notebook_run_takes_names_and_values(run_ima, notebook, tmp_path):
    out = tmp_path / "out.ipynb"
    code, printed, _ = run_ima(
        "notebook", "run", "-p", "samples", "48", notebook, out, "-p", "hook_points", "a,b"
    )
    assert code == 0
    assert printed.strip() == str(out)
    assert "(48, ['a', 'b'])" in out.read_text(encoding="utf-8")


def test_notebook_run_says_why(run_ima, notebook, tmp_path):
    out = tmp_path / "out.ipynb"
    code, printed, told = run_ima("notebook", "run", notebook, out, "--why")
    assert code == 0
    assert printed.strip() == str(out)
    assert f"All cells of {notebook} run, because there is no {out} yet." in told
    _, _, told = run_ima("notebook", "run", notebook, out, "--why", "-p", "samples", "48")
    assert "  parameter samples: its default, now 48" in told
    assert "No cache is reused." in told


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("sample", "48"), "Unknown parameter 'sample'. Did you mean 'samples'?"),
        (("samples", "many"), "Parameter 'samples' must be int; found 'many' (str)."),
    ],
)
def test_notebook_run_refuses_parameters(run_ima, notebook, tmp_path, pair, message):
    out = tmp_path / "out.ipynb"
    code, _, err = run_ima("notebook", "run", notebook, out, "-p", *pair)
    assert code == 1
    assert message in err
    assert sorted(tmp_path.iterdir()) == [notebook]


def test_a_lone_name_is_misuse(run_ima, notebook, tmp_path):
    code, _, err = run_ima("notebook", "run", notebook, tmp_path / "out.ipynb", "-p", "samples")
    assert code == 2
    assert "-p needs a name and a value" in err


def test_notebook_params_and_list(run_ima, notebook, tmp_path):
    code, out, _ = run_ima("notebook", "params", notebook)
    assert code == 0
    assert "how many" in out
    code, out, _ = run_ima("notebook", "list", tmp_path)
    assert code == 0
    assert "samples, hook_points" in out
    code, _, err = run_ima("notebook", "list", tmp_path / "empty")
    assert code == 1
    assert "repository's root" in err


def test_notebooks_declare_typed_commented_parameters():
    for source in (Path(__file__).parents[2] / "notebooks").glob("*.md"):
        for parameter in runner.read_notebook_parameters(source):
            assert parameter.comment, f"{source.name}: {parameter.name} needs a comment"
