"""A tiny model, a cache of it, and caches of two tasks that share its language model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tinysamples import image_set

from ima.capture.writer import create_cache
from ima.models import load_model
from ima.models.frozen import FrozenModel

NAMES = ("llama-mini/vit/image-caption", "llama-mini/vit/image-qa")


@pytest.fixture(scope="session")
def model(tiny_zoo: Path) -> FrozenModel:
    return load_model(NAMES[0])


@pytest.fixture(scope="session")
def caches(tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return by model a cache with inputs; no two are of the same samples."""
    folder = tmp_path_factory.mktemp("pruning")
    paths = {name: folder / f"{number}.zarr" for number, name in enumerate(NAMES)}
    for number, (name, path) in enumerate(paths.items()):
        samples = image_set(4 + number)[number:]
        create_cache(
            load_model(name), dataset=samples, path=path, samples=4, unit=2, hook_points=["ln1"],
            input_norms=True,
        )  # fmt: skip
    return paths


@pytest.fixture(scope="session")
def cache(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with inputs of six samples."""
    path = tmp_path_factory.mktemp("inputs") / "inputs.zarr"
    create_cache(
        model,
        dataset=image_set(6),
        path=path,
        samples=6,
        unit=2,
        hook_points=["ln1"],
        input_norms=True,
    )
    return path
