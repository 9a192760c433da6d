"""What a user got wrong, and how an error is told in one line."""

from __future__ import annotations

import sys
import warnings
from io import TextIOBase
from typing import TextIO, cast


class UserError(ValueError):
    """What a user gave cannot be used: told in one line, without a traceback, exit code 2.

    The message holds the rule, `Received: name=value`, and a remedy. Any other exception is a
    fault of the program or of a library, and keeps its traceback.
    """


class SetupError(RuntimeError):
    """An environment lacks what is asked of it: told in one line, without a traceback, exit code 1.

    The message says what is missing, `Received: name=value` where there is one, and a remedy.
    """


class CollectiveUserError(UserError):
    """A UserError that every rank raises, so that rank zero alone can speak for all."""

    raised_on_all_ranks = True


class CollectiveRuntimeError(RuntimeError):
    """A RuntimeError that every rank raises, so that rank zero alone can speak for all.

    On the rank that met it, it is raised from the error itself.
    """

    raised_on_all_ranks = True


def one_line(error: BaseException) -> str:
    """An error's text without the line breaks of some libraries; its type if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def named_line(error: BaseException) -> str:
    """An error's type and its text, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def show_warnings_in_one_line(program: str, stream: TextIO | TextIOBase | None = None) -> None:
    """Shows what code warns its users of as one line, without its place in the code.

    Args:
        program: the name that the line begins with.
        stream: where it is shown; standard error by default.
    """
    show_elsewise = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, UserWarning):
            line = f"{program}: {' '.join(str(message).split())}"
            print(line, file=cast("TextIO", file or stream or sys.stderr))
        else:
            show_elsewise(message, category, filename, lineno, file, line)

    warnings.showwarning = show
