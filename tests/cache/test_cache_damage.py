from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinycaches import snapshot
from tinysamples import image_set

from ima.cache.verification import CacheProblem, verify_cache
from ima.capture import writer
from ima.capture.repair import repair_cache
from ima.capture.writer import create_cache
from ima.errors import CacheCorruptError, CacheError, CacheLockedError, CacheSchemaError
from ima.models.frozen import FrozenModel

SAMPLES = image_set(4)


@pytest.fixture(scope="module")
def whole(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("caches") / "whole.zarr"
    create_cache(
        model,
        dataset=SAMPLES,
        path=path,
        samples=4,
        keep_tokens=3,
        batch_size=2,
        unit=2,
        hook_points=["resid_post"],
    )
    return path


@pytest.fixture(scope="module")
def files(whole: Path) -> dict[str, bytes]:
    return snapshot(whole)


@pytest.fixture
def copy(files: dict[str, bytes], tmp_path: Path) -> Path:
    for key, content in files.items():
        (tmp_path / "copy.zarr" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy.zarr" / key).write_bytes(content)
    return tmp_path / "copy.zarr"


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


def test_repair_computes_the_damaged_unit_only(
    copy: Path, files: dict[str, bytes], model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = []
    import ima.capture.repair as module

    write = module.write_work_unit
    monkeypatch.setattr(
        module, "write_work_unit", lambda unit, **rest: (units.append(unit), write(unit, **rest))
    )
    (copy / "means/resid_post/mean/c/1/0/0/0").write_bytes(b"")
    report = repair_cache(copy, model=model, dataset=SAMPLES)
    assert report.ok
    assert units == [1]
    assert report.repaired == (1,)
    assert [problem.array for problem in report.problems] == ["mean"]
    assert snapshot(copy) == files


@pytest.mark.parametrize(
    "pattern",
    [
        r"zarr\.json",
        r"samples/zarr\.json",
        r"tokens/resid_post/state/.*",
        r"samples/done/c/0",
        r"means/.*layer/.*",
        r"samples/n_textual/.*",
        r"(drift|norms)/.*",
    ],
)
def test_repair_gives_back_every_byte(
    copy: Path, files: dict[str, bytes], model: FrozenModel, pattern: str
) -> None:
    random = np.random.default_rng(1)
    chosen = [key for key in files if re.fullmatch(pattern, key)]
    assert chosen
    for key in chosen:
        content = bytearray(files[key])
        content[random.integers(len(content))] ^= 4
        (copy / key).write_bytes(content)
    report = repair_cache(copy, model=model, dataset=SAMPLES)
    assert report.ok
    assert {problem.file for problem in report.problems} == set(chosen)
    assert snapshot(copy) == files


def test_a_killed_repair_leaves_an_unfinished_cache(
    copy: Path, files: dict[str, bytes], model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ima.capture.repair as module

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    (copy / "drift/cosine/c/1/0/0/0").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_work_unit", die)
        with pytest.raises(KeyboardInterrupt):
            repair_cache(copy, model=model, dataset=SAMPLES)
    assert verify_cache(copy).done == 2
    create_cache(
        model,
        dataset=SAMPLES,
        path=copy,
        samples=4,
        keep_tokens=3,
        batch_size=2,
        unit=2,
        hook_points=["resid_post"],
    )
    assert snapshot(copy) == files


def test_samples_that_are_not_done_are_no_problem(partial: Path) -> None:
    report = verify_cache(partial)
    assert report.ok
    assert (report.done, report.samples) == (3, 7)


def test_repair_refuses_what_would_give_other_bytes(copy: Path, model: FrozenModel) -> None:
    (copy / "drift/cosine/c/1/0/0/0").unlink()
    before = snapshot(copy)
    from tinysamples import image_sample

    from ima.data.samples import SampleSet

    other = SampleSet("tiny", "test", tuple(image_sample(row) for row in range(1, 5)))
    with pytest.raises(CacheError, match=r"would not give the bytes that it had:\n.*fingerprint"):
        repair_cache(copy, model=model, dataset=other)
    assert snapshot(copy) == before


def test_a_lost_root_and_copy_cannot_be_repaired(copy: Path, finished: Path) -> None:
    for key in ("zarr.json", "samples/zarr.json"):
        text = (copy / key).read_text()
        (copy / key).write_text(text.replace('"samples": 4', '"samples": 5'))
    with pytest.raises(
        CacheCorruptError, match=r"damaged, and so is its copy in samples/zarr\.json"
    ):
        verify_cache(copy)


def test_verify_refuses_what_is_not_a_cache(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="No cache at"):
        verify_cache(tmp_path / "nothing.zarr")
    (tmp_path / "zarr.json").write_text(json.dumps({"attributes": {}, "node_type": "group"}))
    with pytest.raises(CacheSchemaError, match="not a cache of ima"):
        verify_cache(tmp_path)


def test_foreign_files_are_listed(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    assert verify_cache(copy).unexpected == ("notes.txt",)


def test_repair_waits_for_no_writer(copy: Path, model: FrozenModel) -> None:
    from ima.cache.store import locate_store, lock_store

    assert writer.create_cache is create_cache
    (copy / "drift/cosine/c/1/0/0/0").unlink()
    with lock_store(locate_store(copy)), pytest.raises(CacheLockedError):
        repair_cache(copy, model=model, dataset=SAMPLES)
