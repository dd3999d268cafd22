"""Fixtures of the command line's tests: a run in this process, and a small cache."""

from __future__ import annotations

import pytest
from tinybucket import bucket, s3_port
from tinycli import run_ima

from ima import cli

__all__ = ["bucket", "cache_path", "create_arguments", "run_ima", "s3_port"]

MODEL = "llama-mini/vit/image-caption"
DATASET = "mini-image-caption"


def make_create_arguments(path, *more):
    """Return the arguments that make a small cache."""
    words = ["cache", "create", "--model", MODEL, "--dataset", DATASET, "--samples", "3"]
    return [
        *words,
        "--keep-tokens",
        "1",
        "--hook-points",
        "attn_out,resid_post",
        "--out",
        str(path),
        *more,
    ]


@pytest.fixture(scope="module")
def cache_path(tiny_zoo, tmp_path_factory):
    """A small finished cache, made by the command line."""
    path = tmp_path_factory.mktemp("cli") / "made.zarr"
    with pytest.raises(SystemExit) as stop:
        cli.main(make_create_arguments(path))
    assert stop.value.code == 0
    return path


@pytest.fixture
def create_arguments():
    """Make the arguments of a small cache at a path."""
    return make_create_arguments
