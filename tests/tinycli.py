"""The command line in this process."""

from __future__ import annotations

import pytest

from ima import cli


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
