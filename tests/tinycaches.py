"""Tiny caches: a model, its finished and its stopped cache, and a look at their bytes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tinysamples import image_set

from ima.capture.writer import create_cache
from ima.models import load_model
from ima.models.frozen import FrozenModel

MODEL = "llama-mini/vit/image-caption"
SETTINGS: dict[str, Any] = {
    "samples": 7,
    "keep_tokens": 4,
    "batch_size": 2,
    "unit": 3,
    "logit_lens": 5,
    "input_norms": True,
}
DAMAGEABLE = image_set(4)
DAMAGEABLE_SETTINGS: dict[str, Any] = {
    "samples": 4,
    "keep_tokens": 3,
    "batch_size": 2,
    "unit": 2,
    "hook_points": ["resid_post"],
}


def snapshot(path: Path) -> dict[str, bytes]:
    """Return every file of a store."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def count_hooks(model: FrozenModel) -> int:
    """Return how many hooks the modules of a model have."""
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in model.language.modules()
    )


@pytest.fixture(scope="session")
def model(tiny_zoo: Path) -> FrozenModel:
    return load_model(MODEL)


@pytest.fixture(scope="session")
def finished(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cache that no test may change."""
    # Folders of tests share it: what is finished is not made again.
    path = tmp_path_factory.getbasetemp() / "finished.zarr"
    create_cache(model, dataset=image_set(7), path=path, **SETTINGS)
    return path


@pytest.fixture(scope="session")
def stopped(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache whose writer stopped after the first of three units, that no test may change."""
    from ima.capture import writer

    path = tmp_path_factory.mktemp("caches") / "partial.zarr"
    write = writer.write_work_unit

    def stop(unit: int, **arguments: Any) -> None:
        if unit == 1:
            message = "disk full"
            raise OSError(28, message)
        write(unit, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "write_work_unit", stop)
        with pytest.raises(OSError, match="disk full"):
            create_cache(model, dataset=image_set(7), path=path, **SETTINGS)
    return path


@pytest.fixture
def partial(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the stopped cache that a test may finish."""
    return shutil.copytree(stopped, tmp_path / "partial.zarr")


@pytest.fixture(scope="module")
def whole(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished cache to damage a copy of."""
    path = tmp_path_factory.mktemp("caches") / "whole.zarr"
    create_cache(model, dataset=DAMAGEABLE, path=path, **DAMAGEABLE_SETTINGS)
    return path


@pytest.fixture(scope="module")
def files(whole: Path) -> dict[str, bytes]:
    """Every file of the small cache."""
    return snapshot(whole)


@pytest.fixture
def copy(files: dict[str, bytes], tmp_path: Path) -> Path:
    """A copy of the small cache that a test may damage."""
    for key, content in files.items():
        (tmp_path / "copy.zarr" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy.zarr" / key).write_bytes(content)
    return tmp_path / "copy.zarr"
