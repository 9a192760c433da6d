"""Completion of the command line in a shell: its script, and where it goes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from cyclopts import App, Argument
from cyclopts.completion import (
    ShellDetectionError,
    add_to_rc_file,
    detect_shell,
    get_default_completion_path,
)

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import Launch

Shell = Literal["bash", "zsh", "fish"]


def add_commands(app: App) -> None:
    """Lets a command line install its completion, and show what that would write."""

    @app.command(name="--install-completion")
    def install_completion(shell: Shell | None = None) -> None:
        """Lets a shell complete commands, options, choices and files, from its next start on.

        Args:
            shell: The shell to complete in; by default the one that this is run from.
        """
        Launch.detect().require_one_process("--install-completion", "Run it without a launcher.")
        for path in _install(app, _choose(shell)):
            print(f"written: {path}")

    @app.command(name="--show-completion")
    def show_completion(shell: Shell | None = None) -> None:
        """Prints what --install-completion would install, and writes nothing.

        Args:
            shell: The shell to complete in; by default the one that this is run from.
        """
        print(_make_script(app, _choose(shell)))


def _choose(shell: Shell | None) -> Shell:
    """The shell that is named, or the one that this process was started from."""
    if shell is not None:
        return shell
    try:
        found = detect_shell()
    except ShellDetectionError:
        found = None
    for known in get_args(Shell):
        if found == known:
            return known
    raise UserError(
        f"Completion is there for {', '.join(get_args(Shell))}. Received: {found or 'no shell'} "
        "around this command. Name the one to complete in, as in --install-completion bash."
    )


def _make_script(app: App, shell: Shell) -> str:
    """The script that completes commands, options, choices and, for other texts, files."""
    script = str(app.generate_completion(shell=shell))
    if shell == "bash":  # Files where the script itself has nothing to offer.
        return script.replace("complete -F", "complete -o default -F")
    if shell == "zsh":
        names = "|".join(sorted(set(_text_options(app))))
        return re.sub(rf"^(\s*'\*?--(?:{names})\[.*\]:[\w-]+)'", r"\1:_files'", script, flags=re.M)
    return script  # Fish offers files by itself.


def _install(app: App, shell: Shell) -> list[Path]:
    """Writes the script where the shell looks for it; returns the files written.

    For bash and zsh, a line in ~/.bashrc or ~/.zshrc loads it; that is added if it is missing.
    """
    path = get_default_completion_path(shell, app.name[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_make_script(app, shell), encoding="utf-8")
    written = [path]
    if shell != "fish" and add_to_rc_file(path, app.name[0], shell):
        written.append(Path.home() / f".{shell}rc")
    return written


def _text_options(app: App) -> Iterator[str]:
    """The names of all options that take any text, which may be the name of a file."""
    for name in app:
        if not name.startswith("-"):
            arguments = app[name].assemble_argument_collection()
            yield from (
                argument.name.removeprefix("--") for argument in filter(_is_text, arguments)
            )
    yield "config"


def _is_text(argument: Argument) -> bool:
    hint = argument.hint
    return hint is str or (get_origin(hint) is tuple and get_args(hint)[0] is str)
