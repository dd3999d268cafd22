"""Archives: members are streamed out of wheels and tarballs, and each is checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ima.errors import PartError
from ima.packages.archives import unpack_members


@pytest.fixture
def archives(tiny_part, registry):
    """The paths of the tiny part's archives."""
    return {a.filename: registry.folder / a.filename for a in tiny_part.archives}


def test_members_come_under_their_keys(tiny_part, archives, tmp_path):
    members = unpack_members(tiny_part, archives, folder=tmp_path)
    assert {key: path.read_bytes() for key, path in members.items()} == {
        "tiny/weights.txt": b"12",
        "icons": b"{}",
    }
    assert members["icons"].suffix == ".json"


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_member_is_named(tiny_part, archives, tmp_path, number):
    members = list(tiny_part.members)
    members[number] = replace(members[number], path="gone.txt")
    part = replace(tiny_part, members=tuple(members))
    with pytest.raises(PartError, match=r"Cannot read gone\.txt from .*part 'tiny'"):
        unpack_members(part, archives, folder=tmp_path)


@pytest.mark.parametrize("change", [{"size": 3}, {"sha256": "0" * 64}])
def test_another_member_is_named(tiny_part, archives, tmp_path, change):
    first, second = tiny_part.members
    part = replace(tiny_part, members=(replace(first, **change), second))
    with pytest.raises(PartError, match=r"tiny/weights\.txt in .* is another file"):
        unpack_members(part, archives, folder=tmp_path)


def test_a_file_that_is_no_archive_is_named(tiny_part, archives, tmp_path):
    for path in archives.values():
        path.write_bytes(b"no archive")
        with pytest.raises(PartError, match="Cannot read"):
            unpack_members(tiny_part, archives, folder=tmp_path)


def test_a_folder_in_a_tarball_is_no_member(tiny_part, archives, tmp_path):
    import tarfile

    path = archives[tiny_part.archives[1].filename]
    with tarfile.open(path, "w:gz") as tarball:
        entry = tarfile.TarInfo("package/icons.json")
        entry.type = tarfile.DIRTYPE
        tarball.addfile(entry)
    with pytest.raises(PartError, match="is no file"):
        unpack_members(tiny_part, archives, folder=tmp_path)
