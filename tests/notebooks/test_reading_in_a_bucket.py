"""The page *Reading*: its cells about a bucket work on a cache in one."""

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


def list_cells(heading: str) -> list[str]:
    """Return the code of a section of the page."""
    found, is_inside = [], False
    for cell in jupytext.read(PAGE).cells:
        headings = re.findall("^## (.+)$", cell.source, flags=re.MULTILINE)
        if cell.cell_type == "markdown" and headings:
            is_inside = headings[-1] == heading
        elif cell.cell_type == "code" and is_inside:
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
    for cell in cells:
        exec(compile(cell, str(PAGE), "exec"), names)
    monkeypatch.undo()
    local = xr.open_datatree(finished, engine="zarr", chunks=None)
    assert bool(bucket.requests) == (place == "bucket")
    if place == "folder":
        xr.testing.assert_identical(names["remote"].load(), local.load())
    # Of the means, only the layer that was asked for has been read.
    read = [path for _, path in bucket.requests if "/means/resid_post/mean/c/" in path]
    assert len(set(read)) <= 3
