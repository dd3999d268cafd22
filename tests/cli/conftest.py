"""Fixtures of the command line's tests: a run in this process, and a small cache."""

from __future__ import annotations

import pytest

from ima import cli

MODEL = "llama-mini/vit/image-caption"
DATASET = "mini-image-caption"


@pytest.fixture
def run_ima(capsys):
    """Run the command line in this process; return exit code, standard output and error."""

    def run(*arguments):
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        else:
            code = 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


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
