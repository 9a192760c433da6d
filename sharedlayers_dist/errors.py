"""What a user got wrong, and how an error is told in one line."""

from __future__ import annotations


class UserError(ValueError):
    """What a user gave cannot be used: told in one line, without a traceback, exit code 2.

    The message holds the rule, `Received: name=value`, and a remedy. Any other exception is a
    fault of the program or of a library, and keeps its traceback.
    """


class CollectiveUserError(UserError):
    """A UserError that every rank raises, so that rank zero alone can speak for all."""

    raised_on_all_ranks = True


def one_line(error: BaseException) -> str:
    """An error's text without the line breaks of some libraries; its type if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def named_line(error: BaseException) -> str:
    """An error's type and its text, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
