from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinycaches import DAMAGEABLE, DAMAGEABLE_SETTINGS, snapshot
from tinysamples import image_sample

from ima.cache.store import locate_store, lock_store
from ima.cache.verification import verify_cache
from ima.capture import repair
from ima.capture.repair import repair_cache
from ima.capture.writer import create_cache
from ima.data.samples import SampleSet
from ima.errors import CacheError, CacheLockedError
from ima.models.frozen import FrozenModel


def test_repair_computes_the_damaged_unit_only(
    copy: Path, files: dict[str, bytes], model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = []
    write = repair.write_work_unit
    monkeypatch.setattr(
        repair, "write_work_unit", lambda unit, **rest: (units.append(unit), write(unit, **rest))
    )
    (copy / "means/resid_post/mean/c/1/0/0/0").write_bytes(b"")
    report = repair_cache(copy, model=model, dataset=DAMAGEABLE)
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
    report = repair_cache(copy, model=model, dataset=DAMAGEABLE)
    assert report.ok
    assert {problem.file for problem in report.problems} == set(chosen)
    assert snapshot(copy) == files


def test_a_killed_repair_leaves_an_unfinished_cache(
    copy: Path, files: dict[str, bytes], model: FrozenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    (copy / "drift/cosine/c/1/0/0/0").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(repair, "write_work_unit", die)
        with pytest.raises(KeyboardInterrupt):
            repair_cache(copy, model=model, dataset=DAMAGEABLE)
    assert verify_cache(copy).done == 2
    create_cache(model, dataset=DAMAGEABLE, path=copy, **DAMAGEABLE_SETTINGS)
    assert snapshot(copy) == files


def test_repair_refuses_what_would_give_other_bytes(copy: Path, model: FrozenModel) -> None:
    (copy / "drift/cosine/c/1/0/0/0").unlink()
    before = snapshot(copy)
    other = SampleSet("tiny", "test", tuple(image_sample(row) for row in range(1, 5)))
    with pytest.raises(CacheError, match=r"would not give the bytes that it had:\n.*fingerprint"):
        repair_cache(copy, model=model, dataset=other)
    assert snapshot(copy) == before


def test_repair_waits_for_no_writer(copy: Path, model: FrozenModel) -> None:
    (copy / "drift/cosine/c/1/0/0/0").unlink()
    with lock_store(locate_store(copy)), pytest.raises(CacheLockedError):
        repair_cache(copy, model=model, dataset=DAMAGEABLE)
