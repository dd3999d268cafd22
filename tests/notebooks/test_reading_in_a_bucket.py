"""The page *Reading* works on a cache in a bucket, as a whole and in its cells about buckets."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import jupytext
import pytest
import xarray as xr
from tinybucket import Bucket, bucket, s3_port
from tinycaches import finished, model

from ima.cache.transfer import push_cache

__all__ = ["bucket", "finished", "model", "s3_port"]

PAGE = Path(__file__).parents[2] / "notebooks" / "reading.md"


def list_cells(heading: str | None = None) -> list[str]:
    """Return the code of a section of the page, or of all."""
    found, is_inside = [], heading is None
    for cell in jupytext.read(PAGE).cells:
        headings = re.findall("^## (.+)$", cell.source, flags=re.MULTILINE)
        if heading and cell.cell_type == "markdown" and headings:
            is_inside = headings[-1] == heading
        elif cell.cell_type == "code" and is_inside and "caches: list" not in cell.source:
            found.append(cell.source)
    return found


@pytest.mark.parametrize("place", ["bucket", "folder"])
def test_the_cells_about_a_bucket(
    bucket: Bucket, finished: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    address = str(finished)
    if place == "bucket":
        address = f"{bucket.url}/x.zarr"
        push_cache(finished, target=address)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setitem(sys.modules, "ima.cache", None)
    bucket.requests.clear()
    names: dict[str, Any] = {"caches": [address], "xr": xr}
    cells = list_cells("A cache in a bucket")
    assert cells
    opening = next(cell for cell in list_cells() if "def open_store" in cell)
    for cell in (opening, *cells):
        exec(compile(cell, str(PAGE), "exec"), names)
    monkeypatch.undo()
    local = xr.open_datatree(finished, engine="zarr", chunks=None)
    assert bool(bucket.requests) == (place == "bucket")
    if place == "folder":
        xr.testing.assert_identical(names["remote"].load(), local.load())
    # Of the means, only the layer that was asked for has been read.
    read = [path for _, path in bucket.requests if "/means/resid_post/mean/c/" in path]
    assert len(set(read)) <= 3


def test_the_whole_page_gives_the_same_numbers_on_a_cache_in_a_bucket(
    bucket: Bucket, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket.url}/x.zarr"
    push_cache(finished, target=url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    cells, found = list_cells(), {}
    assert len(cells) > 10
    for address in (url, str(finished)):
        names: dict[str, Any] = {"caches": [address]}
        for cell in cells:
            # In the interpreter of these tests, the package has been imported.
            if "sys.modules" not in cell:
                exec(compile(cell, str(PAGE), "exec"), names)
        found[address] = names
    there, here = found[url], found[str(finished)]
    assert len({path for _, path in bucket.requests}) > 10
    xr.testing.assert_identical(there["curves"].load(), here["curves"].load())
    xr.testing.assert_identical(there["tree"].load(), here["tree"].load())
    assert there["counts"].equals(here["counts"])
    assert there["description"] == here["description"]
