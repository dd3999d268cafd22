"""The figures of executed notebooks, as far as their numbers tell: few curves, and a narrow form.

They are read from ``book/runs``; without it, these tests are skipped.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from pathlib import Path

import pytest

from ima.figures.figure_data import CSV
from ima.figures.labels import MOST_SERIES

RUNS = sorted((Path(__file__).parents[2] / "book" / "runs").glob("*.ipynb"))

pytestmark = pytest.mark.skipif(not RUNS, reason="no executed notebooks: make book")


def list_numbers(path):
    """Yield the name of each figure of an executed notebook, and its numbers as CSV."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name", "")
        for output in cell.get("outputs", []):
            if CSV in output.get("data", {}):
                yield name, "".join(output["data"][CSV])


def count_curves(numbers):
    """Return the number of curves of each panel; a line with one number goes through all of it."""
    points = defaultdict(lambda: defaultdict(int))
    for row in csv.DictReader(io.StringIO(numbers)):
        if row["mark"] == "line" and row["x"] and row["y"]:
            points[row["panel"]][row["series"]] += 1
    return {
        panel: sum(count > 1 for series, count in own.items() if series)
        for panel, own in points.items()
    }


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_panel_of_an_executed_page_has_few_curves(path):
    crowded = {
        f"{name}, {panel}": count
        for name, numbers in list_numbers(path)
        for panel, count in count_curves(numbers).items()
        if count > MOST_SERIES
    }
    assert not crowded, f"run `make book` where these figures are of older code: {crowded}"


def test_curves_are_counted_by_panel():
    lines = [f"a,{name},line,{x},1" for name in "pqrstuv" for x in (0, 1)]
    numbers = "\n".join(["panel,series,mark,x,y", *lines, "a,null,line,,0.5", "b,p,line,0,1"])
    assert count_curves(numbers) == {"a": 7, "b": 0}
