"""Fixtures of the cache's tests: a tiny model and one finished cache of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tinycaches import MODEL, SETTINGS
from tinysamples import image_set

from ima.capture.writer import create_cache
from ima.models import load_model
from ima.models.frozen import FrozenModel


@pytest.fixture(scope="session")
def model(tiny_zoo: Path) -> FrozenModel:
    return load_model(MODEL)


@pytest.fixture(scope="session")
def finished(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cache that no test may change."""
    path = tmp_path_factory.mktemp("caches") / "finished.zarr"
    create_cache(model, dataset=image_set(7), path=path, **SETTINGS)
    return path


@pytest.fixture
def partial(model: FrozenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose writer stopped after the first of three units."""
    from ima.capture import writer

    path = tmp_path / "partial.zarr"
    write = writer.write_work_unit

    def stop(unit: int, **arguments: Any) -> None:
        if unit == 1:
            message = "disk full"
            raise OSError(28, message)
        write(unit, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_work_unit", stop)
        with pytest.raises(OSError, match="disk full"):
            create_cache(model, dataset=image_set(7), path=path, **SETTINGS)
    return path
