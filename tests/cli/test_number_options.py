"""Counts on the command line have a range, so that a wrong one is refused before anything loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from ima.cli import app

#: Commands whose options a settings model makes, which checks each value itself.
_CHECKED = ("train", "cache create")


def list_count_options() -> Iterator[tuple[str, Any]]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, own in getattr(command, "commands", {}).items():
            yield from walk(own, (*path, name))
        for option in command.params:
            annotation = getattr(option, "type_descriptor", None)
            if re.search(r"\bint\b", str(getattr(annotation, "annotation", ""))):
                yield " ".join(path), option

    yield from walk(typer.main.get_command(app), ())


def test_every_count_has_a_range():
    found = list(list_count_options())
    assert len(found) > 15
    free = [f"{name} {own.name}" for name, own in found if own.min is None and own.max is None]
    assert [each for each in free if not each.startswith(_CHECKED)] == []


@pytest.mark.parametrize(
    "words",
    [
        ("proxy", "x.zarr", "--resamples", "-5"),
        ("proxy", "x.zarr", "--seed", "-1"),
        ("claims", "simulate", "--families", "0"),
        ("quiz", "llama-mini", "--batch-size", "0"),
        ("data", "import", "coco", "--samples", "-1"),
        ("skip", "llama-mini", "--plan", "x.yaml", "--repeats", "-1"),
        ("bench", "--shape", "tiny", "--repeats", "0"),
        ("zoo", "score", "--samples", "0"),
    ],
)
def test_a_number_out_of_range_is_refused_by_its_option(run_ima, words):
    code, _, err = run_ima(*words)
    assert code == 2
    assert words[-2] in err
    assert "greater than or equal to" in " ".join(err.replace("│", " ").split())
    assert "fault of ima" not in err
