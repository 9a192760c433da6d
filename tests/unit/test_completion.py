"""Keys typed into real shells complete commands, options, choices and files."""

import fcntl
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

SECONDS_TO_ANSWER = 60
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""Fish completes only what it finds."""
FILES = {
    "bash": [".local/share/bash-completion/completions/sharedlayers", ".bashrc"],
    "zsh": [".zsh/completions/_cyclopts_sharedlayers", ".zshrc"],
    "fish": [".config/fish/completions/sharedlayers.fish"],
}
STARTS = {
    "bash": ["bash", "-i"],
    "zsh": ["zsh", "-i", "-o", "NO_GLOBAL_RCS"],
    "fish": ["fish", "-i"],
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home of a user who has a file, and no oh-my-zsh."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZSH", "ZSH_CUSTOM", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "options.toml").touch()
    return tmp_path


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


@contextmanager
def terminal(command: list[str], home: Path):
    """Runs a shell in a terminal of its own; yields what types into it and waits for an answer."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=home,
        env=os.environ | {"TERM": "dumb", "PS1": "$ ", "COLUMNS": "200", "PATH": PATH},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)

    def type_keys(keys: str, expected: str) -> None:
        os.write(ours, keys.encode())
        shown, deadline = "", time.monotonic() + SECONDS_TO_ANSWER
        while expected not in shown:
            assert time.monotonic() < deadline, f"{expected!r} is not in {shown!r}."
            if select.select([ours], [], [], 1)[0]:
                shown += os.read(ours, 4096).decode(errors="replace")

    try:
        yield type_keys
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


@pytest.mark.parametrize("shell", FILES)
def test_a_shell_completes_commands_options_choices_and_files(command, home, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed.")
    code, out, err = command("--install-completion", shell)
    assert code == 0, err
    assert out.splitlines() == [f"written: {home / name}" for name in FILES[shell]]
    if shell == "zsh":  # What most users have in theirs.
        with (home / ".zshrc").open("a") as file:
            file.write("autoload -Uz compinit && compinit -u\n")
    with terminal(STARTS[shell], home) as type_keys:
        type_keys("echo rea''dy\n", "ready")
        type_keys("sharedlayers tra\t", "sharedlayers train ")
        type_keys("--hea\t", "--head ")
        type_keys("absol\t", "absolute_difference ")
        type_keys("--config opt\t", "--config options.toml ")


def test_nothing_is_written_unless_it_is_asked_for(command, home):
    before = files(home)
    code, script, err = command("--show-completion", "bash")
    assert code == 0, err
    assert "complete -o default -F _sharedlayers sharedlayers" in script
    assert command("models")[0] == 0
    assert files(home) == before


def test_a_second_installation_adds_no_second_line(command, home):
    assert command("--install-completion", "bash")[0] == 0
    once = (home / ".bashrc").read_text()
    code, out, _ = command("--install-completion", "bash")
    assert code == 0
    assert out.splitlines() == [f"written: {home / FILES['bash'][0]}"]
    assert (home / ".bashrc").read_text() == once


def test_a_shell_that_is_not_known_is_told_in_one_line(command, home, monkeypatch):
    code, _, err = command("--install-completion", "ksh")
    assert code == 2
    assert "ksh" in err
    monkeypatch.setenv("PATH", "/nowhere")  # No `ps` that tells of the process around this one.
    for name in ("BASH_VERSION", "ZSH_VERSION", "FISH_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHELL", "/bin/sh")
    code, _, err = command("--install-completion")
    assert code == 2
    assert err == (
        "sharedlayers: Completion is there for bash, zsh, fish. Received: no shell around this "
        "command. Name the one to complete in, as in --install-completion bash.\n"
    )
    assert files(home) == {"options.toml"}
