"""The site is read and written on several cores, if every extension allows it."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import all_cores
import pytest
from jupyter_book.config import get_final_config
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("given", "cores"), [(None, 1), ("", 1), ("2", 2)])
def test_sphinx_gets_the_cores_of_the_build(monkeypatch, given, cores):
    monkeypatch.delenv(all_cores.CORES_VARIABLE, raising=False)
    if given is not None:
        monkeypatch.setenv(all_cores.CORES_VARIABLE, given)
    app = SimpleNamespace(parallel=0, connect=lambda *_: 0)
    all_cores.setup(app)
    assert app.parallel == cores


def test_every_extension_of_the_book_allows_it(tmp_path, monkeypatch):
    monkeypatch.setenv(all_cores.CORES_VARIABLE, "3")
    monkeypatch.chdir(ROOT)
    settings, _ = get_final_config(
        user_yaml=ROOT / "_config.yml",
        cli_config={"latex_individualpages": False},
        sourcedir=ROOT,
    )
    contents = tmp_path / "_toc.yml"
    contents.write_text("format: jb-book\nroot: book/index\n", encoding="utf-8")
    settings["external_toc_path"] = str(contents)
    told = []
    with warnings.catch_warnings(), patch_docutils(), docutils_namespace():
        warnings.simplefilter("ignore")
        app = Sphinx(
            srcdir=ROOT,
            confdir=None,
            outdir=tmp_path / "html",
            doctreedir=tmp_path / "doctrees",
            buildername="dummy",
            confoverrides=settings,
            status=None,
            warning=SimpleNamespace(write=told.append, flush=lambda: None),
        )
        allowed = [app.is_parallel_allowed(kind) for kind in ("read", "write")]
    assert app.parallel == 3
    assert set(all_cores._SILENT) <= set(app.extensions)
    assert (allowed, [line for line in told if "parallel" in line]) == ([True, True], [])
