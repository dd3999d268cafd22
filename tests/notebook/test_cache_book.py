"""A site of somebody's caches, without their model."""

from __future__ import annotations

from pathlib import Path

import pytest

from ima.errors import CacheError, NotebookError, ParameterError
from ima.notebook import cache_book

ROOT = Path(__file__).parents[2]


def test_pages_that_need_no_model_become_a_site(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_book, "CACHE_PAGES", {"reading": {}})
    index = cache_book.build_cache_book([finished], out=tmp_path / "out", repository=ROOT)
    pages = index.parent / "book"
    assert "finished.zarr" in (pages / "index.html").read_text(encoding="utf-8")
    page = (pages / "runs" / "reading.html").read_text(encoding="utf-8")
    assert "How this page was made" in page
    assert "Reader&#39;s edition" in page or "Reader's edition" in page


def test_a_page_that_fails_is_named_and_the_others_are_there(finished, tmp_path, monkeypatch):
    def run(source, *, output, parameters):
        if source.stem == "finding1":
            raise NotebookError("Cell 3 failed with CacheError: no /means")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch()

    monkeypatch.setattr(cache_book, "run_notebook", run)
    monkeypatch.setattr(cache_book, "_build", lambda site: site)
    site = cache_book.build_cache_book([finished], out=tmp_path, repository=ROOT)
    front = (site / "book" / "index.md").read_text(encoding="utf-8")
    assert "*finding1* is left out. Cell 3 failed with CacheError: no /means" in front
    contents = (site / "_toc.yml").read_text(encoding="utf-8")
    assert "runs/reading" in contents
    assert "runs/finding1\n" not in contents

    def fail(source, **_):
        raise NotebookError(f"{source.stem}: no")

    monkeypatch.setattr(cache_book, "run_notebook", fail)
    with pytest.raises(NotebookError, match="No page could be made"):
        cache_book.build_cache_book([finished], out=tmp_path, repository=ROOT)


def test_what_is_missing_is_said_before_a_page_runs(finished, tmp_path):
    with pytest.raises(ParameterError, match="clone of the repository"):
        cache_book.build_cache_book([finished], out=tmp_path / "out", repository=tmp_path)
    with pytest.raises(CacheError, match="No cache at"):
        cache_book.build_cache_book([tmp_path / "no.zarr"], out=tmp_path / "out", repository=ROOT)
    assert not (tmp_path / "out").exists()


def test_a_page_that_could_run_a_model_is_told_not_to():
    """A page that runs a model says on which device."""
    from ima.notebook.runner import read_notebook_parameters

    for name, given in cache_book.CACHE_PAGES.items():
        names = {one.name for one in read_notebook_parameters(ROOT / "notebooks" / f"{name}.md")}
        assert {"caches", *given} <= names
        assert "device" not in names or given


def test_a_folder_of_something_else_is_refused(finished, tmp_path):
    (tmp_path / "samples.jsonl").write_text("{}\n")
    with pytest.raises(ParameterError, match="holds something else than an earlier book"):
        cache_book.build_cache_book([finished], out=tmp_path, repository=ROOT)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]
