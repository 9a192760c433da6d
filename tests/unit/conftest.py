"""The command line, as tests of several folders call it."""

import pytest

from sharedlayers_dist.cli import main


@pytest.fixture
def command(capsys):
    """Runs the command line; returns exit code, standard output, standard error."""

    def run(*arguments):
        code: str | int | None = None
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as e:
            code = e.code
        captured = capsys.readouterr()
        return code or 0, captured.out, captured.err

    return run
