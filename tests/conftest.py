"""Fixtures that several parts of the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A zoo of tiny models with random weights, in place of the real one."""
    from tinyzoo import make_zoo

    root = make_zoo(tmp_path_factory.mktemp("zoo"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMA_ZOO", str(root))
        yield root
