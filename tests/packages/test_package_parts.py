"""The description of a part: keys, archives, commands and fingerprints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ima.errors import ParameterError


def test_members_need_different_keys(tiny_part):
    twice = (tiny_part.members[0], tiny_part.members[0])
    with pytest.raises(ParameterError, match="same key; give them names"):
        replace(tiny_part, members=twice)


def test_a_member_of_several_archives_names_its_package(tiny_part):
    with pytest.raises(ParameterError, match=r"archives: tiny, @art/tiny"):
        replace(tiny_part, members=(replace(tiny_part.members[0], package=""),))


def test_the_command_follows_from_kind_and_source(tiny_part):
    assert tiny_part.get_command() == "ima models fetch tiny"
    assert tiny_part.get_command("hub") == "ima models fetch tiny --source hub"
    assert replace(tiny_part, kind="data").get_command() == "ima data fetch tiny"


@pytest.mark.parametrize(
    "change", [{"revision": 2}, {"convert": "other:convert"}, {"members": ()}, {"archives": None}]
)
def test_the_fingerprint_follows_what_decides_the_bytes(tiny_part, change):
    if "archives" in change:
        first, second = tiny_part.archives
        change = {"archives": (replace(first, sha256="0"), second)}
    assert replace(tiny_part, **change).compute_fingerprint() != tiny_part.compute_fingerprint()


def test_words_do_not_change_the_fingerprint(tiny_part):
    other = replace(tiny_part, description="another wording", licence="MIT License")
    assert other.compute_fingerprint() == tiny_part.compute_fingerprint()


def test_default_parts_are_free_and_needed(tiny_part):
    assert tiny_part.is_default
    assert not replace(tiny_part, optional=True).is_default
    assert not replace(tiny_part, must_accept=True).is_default
