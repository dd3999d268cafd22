"""Files are written whole or not at all."""

import pytest

from ima.files import read_json, replace_file, write_json


class Killed(Exception):
    pass


def write_half(path):
    with replace_file(path) as partial:
        partial.write_text("half")
        raise Killed


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "card.json", {"a": 1})
    with pytest.raises(Killed):
        write_half(tmp_path / "card.json")
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]
    assert read_json(tmp_path / "card.json") == {"a": 1}
