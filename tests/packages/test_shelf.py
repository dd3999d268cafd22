"""The shelf: what is fetched, what was edited, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ima.errors import PartAbsentError, PartError
from ima.files import read_json
from ima.packages import fetch_part, find_part, get_parts_root, is_fetched, verify_part
from ima.packages.shelf import RECORD_FILE


def test_a_variable_moves_the_folder(shelf, monkeypatch):
    assert get_parts_root() == shelf
    monkeypatch.setenv("IMA_PARTS", "~/elsewhere")
    assert get_parts_root() == Path.home() / "elsewhere"
    monkeypatch.delenv("IMA_PARTS")
    assert get_parts_root().parts[-2:] == ("ima", "parts")


def test_an_absent_part_names_the_command(tiny_part):
    with pytest.raises(
        PartAbsentError, match=r"Part 'tiny' \(a tiny model\) is not fetched"
    ) as caught:
        find_part(tiny_part)
    assert str(caught.value).endswith("ima models fetch tiny")
    assert isinstance(caught.value, OSError)
    with pytest.raises(PartAbsentError, match="ima models fetch tiny --source hub"):
        find_part(tiny_part, source="hub")
    assert not is_fetched(tiny_part)


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda folder: (folder / "inner/joined.txt").unlink(), "joined.txt is missing"),
        (lambda folder: (folder / "new.txt").write_text("x"), "new.txt was added"),
        (lambda folder: (folder / "inner/joined.txt").write_text("x"), "has 1 bytes instead of 4"),
        (lambda folder: (folder / "part.json").write_text("{"), "part.json is no record"),
        (lambda folder: (folder / "part.json").write_text("{}"), "part.json is no record"),
    ],
)
def test_an_edited_folder_is_named(tiny_part, edit, found):
    folder = fetch_part(tiny_part)
    edit(folder)
    with pytest.raises(PartError, match=found) as caught:
        find_part(tiny_part)
    assert str(folder) in str(caught.value)
    assert "Replace it: ima models fetch tiny --force" in str(caught.value)
    assert not isinstance(caught.value, PartAbsentError)


def test_digests_find_what_sizes_do_not(tiny_part):
    folder = fetch_part(tiny_part)
    (folder / "inner" / "joined.txt").write_text("21{}")
    assert find_part(tiny_part) == folder
    with pytest.raises(PartError, match=r"inner/joined\.txt has other bytes"):
        verify_part(tiny_part)


def test_the_record_can_be_read(tiny_part):
    assert read_json(fetch_part(tiny_part) / RECORD_FILE)["made_by"] == "us"
