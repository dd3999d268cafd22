from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ima.cache.reader import open_cache
from ima.cache.verification import CacheProblem, verify_cache
from ima.errors import CacheCorruptError, CacheError, CacheIncompleteError, CacheSchemaError


def test_a_whole_cache_has_no_problem(whole: Path, files: dict[str, bytes]) -> None:
    report = verify_cache(whole)
    assert report.ok
    assert report.problems == ()
    assert report.unexpected == ()
    assert report.files == len(files)
    assert (report.done, report.samples) == (4, 4)


def test_damage_to_any_file_is_found(copy: Path, files: dict[str, bytes]) -> None:
    random = np.random.default_rng(0)
    kinds = [
        r".+/zarr\.json",
        r"zarr\.json",
        r"(?!samples).*/c/.*",
        # What says which samples are done, and which tokens they have, hides what follows from it.
        r"samples/(?!done|n_).*/c/.*",
        r"samples/n_.*/c/.*",
        r"samples/done/c/.*",
    ]
    seen: list[str] = []
    for pattern in kinds:
        chosen = [key for key in files if re.fullmatch(pattern, key)]
        assert chosen, pattern
        seen += chosen
        for damage in ("flip", "cut", "empty", "grow", "delete"):
            for key in chosen:
                content = bytearray(files[key])
                at = random.integers(len(content))
                if damage == "flip":
                    content[at] ^= 1 << random.integers(8)
                (copy / key).write_bytes(
                    {"cut": content[:at], "empty": b"", "grow": content + b"\n"}.get(
                        damage, content
                    )
                )
                if damage == "delete":
                    (copy / key).unlink()
            found = {problem.file for problem in verify_cache(copy).problems}
            assert found == set(chosen), damage
            for key in chosen:
                (copy / key).write_bytes(files[key])
    assert sorted(seen) == sorted(files)
    assert verify_cache(copy).ok


def test_a_shard_cut_at_any_length_is_found(copy: Path, files: dict[str, bytes]) -> None:
    key = "tokens/resid_post/state/c/0/0/0"
    length = len(files[key])
    for cut in (*range(6), length // 2, length - 68, length - 4, length - 1):
        (copy / key).write_bytes(files[key][:cut])
        assert key in {problem.file for problem in verify_cache(copy).problems}, cut


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (
            "norms/resid_post/mean/c/1/0/0",
            CacheProblem(
                "norms/resid_post/mean/c/1/0/0",
                "norms/resid_post",
                "mean",
                (1, 0, 0),
                ("s2", "s3"),
                "the checksum does not match",
                (1,),
            ),
        ),
        (
            # The first byte of a shard belongs to one of its chunks: one layer of two samples.
            "means/resid_post/mean/c/0/0/0/0",
            CacheProblem(
                "means/resid_post/mean/c/0/0/0/0",
                "means/resid_post",
                "mean",
                (0, 0, 0, 0),
                ("s0", "s1"),
                "the checksum does not match",
                (0,),
            ),
        ),
        (
            "samples/done/c/1",
            CacheProblem(
                "samples/done/c/1",
                "samples",
                "done",
                (1,),
                ("s2", "s3"),
                "the checksum does not match",
                (1,),
            ),
        ),
    ],
)
def test_damage_is_named_by_group_array_chunk_and_samples(
    copy: Path, key: str, problem: CacheProblem
) -> None:
    content = bytearray((copy / key).read_bytes())
    content[0] ^= 1
    (copy / key).write_bytes(content)
    (found,) = verify_cache(copy).problems
    assert found == problem
    assert f"group '/{problem.group}', array {problem.array!r}, chunk" in str(found)
    assert f"samples {', '.join(problem.samples)}" in str(found)


def test_samples_that_are_not_done_are_no_problem(partial: Path) -> None:
    report = verify_cache(partial)
    assert report.ok
    assert (report.done, report.samples) == (3, 7)


def test_verify_refuses_what_is_not_a_cache(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="No cache at"):
        verify_cache(tmp_path / "nothing.zarr")
    (tmp_path / "zarr.json").write_text(json.dumps({"attributes": {}, "node_type": "group"}))
    with pytest.raises(CacheSchemaError, match="not a cache of ima"):
        verify_cache(tmp_path)


def test_foreign_files_are_listed(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    assert verify_cache(copy).unexpected == ("notes.txt",)


def test_a_lost_root_and_its_copy_are_an_error(copy: Path) -> None:
    for key in ("zarr.json", "samples/zarr.json"):
        text = (copy / key).read_text()
        (copy / key).write_text(text.replace('"samples": 4', '"samples": 5'))
    with pytest.raises(
        CacheCorruptError, match=r"damaged, and so is its copy in samples/zarr\.json"
    ):
        verify_cache(copy)


@pytest.mark.parametrize("damage", ["delete", "empty"])
def test_a_lost_file_is_an_error_when_it_is_read(
    copy: Path, files: dict[str, bytes], damage: str
) -> None:
    """Zarr would read its fill value, which is NaN in most arrays."""
    chunks = [key for key in files if "/c/" in key]
    assert len(chunks) > 20
    for key in chunks:
        if damage == "delete":
            (copy / key).unlink()
        else:
            (copy / key).write_bytes(b"")
        with pytest.raises((CacheCorruptError, CacheIncompleteError)) as caught:
            open_cache(copy)[key.partition("/c/")[0]].load()
        if not key.startswith("samples/done"):
            assert key in str(caught.value)
            assert f"ima cache verify {copy} --repair" in str(caught.value)
        (copy / key).write_bytes(files[key])
    open_cache(copy).load()


def test_files_that_an_unfinished_cache_does_not_have_yet_are_not_lost(partial: Path) -> None:
    tree = open_cache(partial, allow_partial=True)
    done = tree["samples"].sizes["sample"]
    assert done > 0
    (partial / "means/resid_post/mean/c/0/0/0/0").unlink()
    with pytest.raises(CacheCorruptError, match="means/resid_post/mean/c/0/0/0/0"):
        open_cache(partial, allow_partial=True)


def test_a_damaged_coord_is_an_error_that_says_what_to_do(
    copy: Path, files: dict[str, bytes]
) -> None:
    coords = [key for key in files if re.fullmatch(r".*/(layer|kind|step)/c/.*", key)]
    assert coords
    for key in coords:
        (copy / key).write_bytes(b"\0" + files[key][1:])
        with pytest.raises(CacheCorruptError, match=r"ima cache verify .* --repair"):
            open_cache(copy)
        (copy / key).write_bytes(files[key])
