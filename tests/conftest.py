"""Fixtures that several parts of the tests share."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Generator, Iterator
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """What collecting makes stays to the end: the garbage collector need not look at it.

    Modules and tests are some million objects. Looking at them takes a fifth of the time of
    collecting, and would take a twentieth of the time of the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


class _SeededImport(MetaPathFinder):
    """Seeds torch when it is imported, for a test that is the first of a run to do so."""

    def find_spec(self, fullname: str, *_: object, **__: object) -> ModuleSpec | None:
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_seed(module: Any) -> None:
            execute(module)
            module.manual_seed(0)

        spec.loader.exec_module = execute_and_seed
        return spec


sys.meta_path.insert(0, _SeededImport())


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Random weights and inputs of a test do not depend on the tests before it.

    Tests that do without torch do not wait for its import.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def tiny_zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A zoo of tiny models with random weights, in place of the real one."""
    from tinyzoo import make_zoo

    root = make_zoo(tmp_path_factory.mktemp("zoo"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMA_ZOO", str(root))
        yield root


@pytest.fixture(autouse=True)
def _committed_zoo(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the tiny zoo, which lasts for a session, from tests that do not ask for it."""
    if "tiny_zoo" not in request.fixturenames:
        monkeypatch.delenv("IMA_ZOO", raising=False)


@pytest.fixture(scope="module")
def committed_zoo() -> Iterator[None]:
    """The project's own zoo, for models that a whole file shares."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("IMA_ZOO", raising=False)
        yield


@pytest.fixture(scope="session")
def _multitask_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tinyzoo import add_multitask, make_zoo

    root = make_zoo(tmp_path_factory.mktemp("multitask") / "zoo")
    add_multitask(root)
    return root


@pytest.fixture(scope="session")
def hub_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write the tiny model of a family of the hub once: a folder that no test may change."""
    from tinyhub import save

    root = tmp_path_factory.mktemp("hub")
    return cache(lambda family: save(family, root / family))


@pytest.fixture(scope="session")
def hub_models(hub_folders: Callable[[str], Path]) -> Callable[[str], Any]:
    """Load the tiny model of a family of the hub once: a model that no test may change."""
    from ima.models import load_model

    return cache(lambda family: load_model(str(hub_folders(family))))


@pytest.fixture
def browsing_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny zoo with models that read their pictures twice."""
    from tinyzoo import add_browsing, make_zoo

    root = make_zoo(tmp_path / "zoo")
    monkeypatch.setenv("IMA_ZOO", str(root))
    add_browsing(root)
    return root


@pytest.fixture(scope="session")
def codes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny zoo with models that read pictures as codes, and their control."""
    from tinyzoo import add_codes, make_zoo

    root = make_zoo(tmp_path_factory.mktemp("codes") / "zoo")
    add_codes(root)
    return root


@pytest.fixture
def codes_zoo(codes_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny zoo with models that read pictures as codes, that no test may change."""
    monkeypatch.setenv("IMA_ZOO", str(codes_root))
    return codes_root


@pytest.fixture
def unified_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny zoo with models of several modalities: shared experts, and separate connectors."""
    from tinyzoo import add_unified, make_zoo

    root = make_zoo(tmp_path / "zoo")
    monkeypatch.setenv("IMA_ZOO", str(root))
    add_unified(root)
    return root


@pytest.fixture
def multitask_zoo(_multitask_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny zoo with a multitask model, llava-tiny, that no test may change."""
    monkeypatch.setenv("IMA_ZOO", str(_multitask_root))
    return _multitask_root


@pytest.fixture
def few_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most frequent answer is that of few training samples: drawing many takes seconds."""
    monkeypatch.setattr("ima.metrics.answers._N_MAJORITY_SAMPLES", 50)
