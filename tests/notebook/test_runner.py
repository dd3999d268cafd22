"""The notebook runner: checked parameters, complete outputs, saved failures, its own kernel."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
import subprocess
import sys
from functools import partial

import pytest

from ima.errors import CacheError, NotebookError, ParameterError, UnknownNameError
from ima.figures.figure_data import CSV
from ima.figures.phone import NARROW_SVG
from ima.notebook import runner

HEADER = """---
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

"""
PARAMETERS = """samples: int = 200  # how many
rate: float = 0.5  # a share
name: str = "x"  # a word
hook_points: list[str] | None = None  # which
deep: bool = False  # how"""


def write_page(folder, code, *, parameters=PARAMETERS, header=HEADER):
    path = folder / "page.md"
    cell = f"```{{code-cell}} ipython3\n:tags: [parameters]\n\n{parameters}\n```\n\n"
    path.write_text(header + cell + f"```{{code-cell}} ipython3\n{code}\n```\n", encoding="utf-8")
    return path


@pytest.fixture
def source(tmp_path):
    return partial(write_page, tmp_path)


def read_notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_result(path):
    """Return the output of the last cell of an executed notebook."""
    return "".join(read_notebook(path)["cells"][-1]["outputs"][-1]["data"]["text/plain"])


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The output of a page that got values, and whose loader remarks on a configuration."""
    folder = tmp_path_factory.mktemp("filled")
    page = write_page(
        folder,
        "import sys\n"
        "from transformers.utils import logging\n"
        "logging.get_logger('transformers').warning('a token outside the vocabulary')\n"
        "samples, hook_points, name, sys.executable",
    )
    values = {"samples": 3, "hook_points": ["attn_out"]}
    return runner.run_notebook(page, output=folder / "deep" / "out.ipynb", parameters=values)


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(scope="module")
def plain(tmp_path_factory, finished):
    """A page with defaults, in a repository; its output, and what a terminal saw of the run.

    A default names a cache as well as a value that was given; what is no cache is left out.
    """
    folder = tmp_path_factory.mktemp("plain")
    parameters = (
        f'caches: list[str] = ["{finished}", "{folder}/missing.zarr"]  # which\n'
        'samples: int = 3  # how many\nother: str = "x"  # y'
    )
    page = write_page(folder, "from ima.errors import ImaError\nsamples", parameters=parameters)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), "add", str(page)], check=True)
    subprocess.run(["git", "-C", str(folder), *identity, "commit", "-qm", "a"], check=True)
    with contextlib.redirect_stderr(_Terminal()) as shown:
        out = runner.run_notebook(page, output=folder / "out.ipynb")
    return page, out, shown.getvalue()


def test_run_fills_parameters_and_uses_this_interpreter(filled):
    assert read_result(filled) == f"(3, ['attn_out'], 'x', {sys.executable!r})"


def test_run_records_its_parameters_and_collapses_their_cell(filled):
    notebook = read_notebook(filled)
    recorded = notebook["metadata"]["ima"]
    assert recorded["parameters"] == {"samples": 3, "hook_points": ["attn_out"]}
    assert len(recorded["sha256"]) == 64
    assert recorded["packages"]["ima"]
    assert notebook["metadata"]["papermill"]["output_path"] == str(filled)
    tags = [cell["metadata"].get("tags", []) for cell in notebook["cells"]]
    assert ["parameters", "remove-cell"] in tags
    assert ["injected-parameters", "hide-input"] in tags


def test_a_page_does_not_show_what_a_loader_remarks_on_a_configuration(filled):
    cells = read_notebook(filled)["cells"]
    streams = [o for cell in cells for o in cell.get("outputs", []) if o["output_type"] == "stream"]
    assert streams == []


def test_a_run_records_its_caches_and_its_commit(plain, finished):
    page, out, _ = plain
    recorded = read_notebook(out)["metadata"]["ima"]
    (cache,) = recorded["caches"]
    assert cache["path"] == str(finished)
    assert cache["samples"] == 7
    assert len(cache["sha256"]) == 64
    assert re.fullmatch(r"[0-9a-f]{7,}", recorded["commit"])
    before = page.read_text(encoding="utf-8")
    page.write_text(before + "\nMore.\n", encoding="utf-8")
    assert runner.get_commit(page.parent).endswith("-dirty")
    page.write_text(before, encoding="utf-8")


def test_parameters_that_were_left_as_they_are_are_shown(plain):
    tags = [cell["metadata"].get("tags", []) for cell in read_notebook(plain[1])["cells"]]
    assert ["parameters", "hide-input"] in tags


def test_a_terminal_sees_the_time_left(plain):
    # Cells that are done, the time that they took, and the time that the others will take.
    assert re.search(r"page: .*1/3 \[00:\d\d<00:\d\d", plain[2])


def test_a_run_is_explained_by_what_changed_since_the_last(plain, tmp_path, finished):
    out, written = tmp_path / "out.ipynb", plain[0].read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(written, encoding="utf-8")
    assert f"there is no {out} yet" in runner.explain_notebook_run(page, output=out)
    shutil.copyfile(plain[1], out)
    text = runner.explain_notebook_run(page, output=out)
    assert "nothing has changed since then" in text
    assert f"cache {finished}, 7 samples, digest " in text
    text = runner.explain_notebook_run(page, output=out, parameters={"samples": "4"}, text=True)
    assert "parameter samples: its default, now 4" in text
    page.write_text(written.replace("\nsamples\n", "\nsamples + 1\n"), encoding="utf-8")
    assert "  the code of its cells\n" in runner.explain_notebook_run(page, output=out)
    assert "ima/errors.py" in read_notebook(out)["metadata"]["ima"]["code"]["modules"]
    with pytest.raises(UnknownNameError, match="Did you mean 'samples'"):
        runner.explain_notebook_run(page, output=out, parameters={"sample": 1})


def test_a_figure_carries_its_numbers_and_a_narrow_drawing(source, tmp_path):
    code = """import numpy as np, pandas as pd
from ima import figures
figures.set_theme()
row = {"model": "a", "plan": "half", "task": "captions", "value": 0.5, "low": 0.4, "high": 1}
figures.plot_relative_scores(pd.DataFrame([row]), threshold=0.9)"""
    out = runner.run_notebook(source(code), output=tmp_path / "out.ipynb")
    (output,) = read_notebook(out)["cells"][-1]["outputs"]
    assert {"image/svg+xml", CSV, NARROW_SVG} <= set(output["data"])
    rows = list(csv.DictReader("".join(output["data"][CSV]).splitlines()))
    assert [row["x"] for row in rows if row["mark"] == "point"] == ["0.5"]
    wide, narrow = ("".join(output["data"][kind]) for kind in ("image/svg+xml", NARROW_SVG))
    widths = [float(re.search(r'width="([\d.]+)pt"', text)[1]) for text in (wide, narrow)]
    assert widths[1] < widths[0]


def test_a_failed_run_is_saved_apart_and_an_older_output_stays(source, plain, tmp_path):
    out = tmp_path / "out.ipynb"
    shutil.copyfile(plain[1], out)
    before = out.read_bytes()
    with pytest.raises(NotebookError, match=r"ZeroDivisionError: division by zero") as caught:
        runner.run_notebook(source("one = 1\n\n\ndef f(): return one / 0\n\n\nf()"), output=out)
    failed = tmp_path / "out.failed.ipynb"
    # The line of the cell, and not its first one.
    assert f"Cell 2 of {tmp_path / 'page.md'}, `f()`, failed with" in str(caught.value)
    assert str(failed) in str(caught.value)
    assert f"{failed} is its log" in runner.explain_notebook_run(source("1"), output=out)
    assert "ZeroDivisionError" in failed.read_text(encoding="utf-8")
    assert out.read_bytes() == before
    page = source("1", parameters="caches: list[str] = []  # which")
    with pytest.raises(CacheError, match=r"No cache .*none\.zarr"):
        runner.run_notebook(page, output=out, parameters={"caches": [str(tmp_path / "none.zarr")]})
    runner.run_notebook(source("1"), output=out)
    assert not failed.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"page.md", "out.ipynb"}


def test_a_dead_kernel_is_an_error(source, tmp_path):
    log = tmp_path / "out.failed.ipynb"
    with pytest.raises(NotebookError, match=rf"stopped in the cell `import os` \(its log is {log}"):
        runner.run_notebook(source("import os\nos._exit(9)"), output=tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()
    assert "os._exit(9)" in log.read_text(encoding="utf-8")


def test_a_page_that_failed_goes_on_with_the_caches_that_it_made(tiny_zoo, source, tmp_path):
    store = tmp_path / "made.zarr"
    make = f"""from pathlib import Path
from ima.capture.writer import create_cache
store, unit = Path({str(store)!r}), {{"samples": 2, "keep_tokens": 0, "progress": False}}
create_cache("llama-mini/vit/image-caption", dataset="mini-image-caption", path=store, **unit)
```

```{{code-cell}} ipython3
"""
    out = tmp_path / "out.ipynb"
    with pytest.raises(NotebookError, match=r"Cell 3 of .*page\.md, `1 / 0`, [\s\S]*caches.*stay"):
        runner.run_notebook(source(f"{make}1 / 0"), output=out)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    runner.run_notebook(source(f"{make}len(list(store.iterdir()))"), output=out)
    after = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert int(read_result(out)) > 3
    assert after == before


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"sample": 1}, UnknownNameError, "Did you mean 'samples'"),
        ({"samples": "3"}, ParameterError, r"must be int; found '3' \(str\)"),
        ({"samples": True}, ParameterError, "must be int; found True"),
        ({"samples": 1.5}, ParameterError, "must be int"),
        ({"hook_points": "attn_out"}, ParameterError, r"must be list\[str\] | None"),
        ({"hook_points": [1]}, ParameterError, r"must be list\[str\]"),
        ({"deep": 1}, ParameterError, "must be bool"),
    ],
)
def test_wrong_parameters_run_nothing(source, tmp_path, values, error, message):
    page = source("samples")
    with pytest.raises(error, match=message):
        runner.run_notebook(page, output=tmp_path / "out.ipynb", parameters=values)
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]


def test_sources_that_are_no_notebooks(tmp_path):
    (tmp_path / "near.md").write_text("# Prose\n", encoding="utf-8")
    with pytest.raises(NotebookError, match=r"No notebook .* Available in this folder: .*near\.md"):
        runner.run_notebook(tmp_path / "far.md", output=tmp_path / "out.ipynb")
    with pytest.raises(NotebookError, match="without a notebook header"):
        runner.run_notebook(tmp_path / "near.md", output=tmp_path / "out.ipynb")
    with pytest.raises(ParameterError, match=r"must end in \.ipynb"):
        runner.run_notebook(tmp_path / "near.md", output=tmp_path / "out.md")
