"""Starts ranks as forks of a process that has loaded TensorFlow, which takes seconds, once.

`multiprocessing` keeps that process, which has made no thread of TensorFlow's and joined nothing. A
fork becomes what `python -m MODULE` would have been, with variables, arguments and output of its
own.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.distributed.preloaded"])


def start_rank(
    module: str, args: Sequence[str], *, env: Mapping[str, str], folder: Path, output: Path
) -> ForkServerProcess:
    """Starts `python -m module *args` as a fork.

    Args:
        module: A module, or a path ending in `.py`.
        args: Its command line.
        env: All of its variables.
        folder: Where it runs.
        output: The file that its standard output and standard error go to.

    Returns:
        The process; its `exitcode` is None while it runs.
    """
    process = _context.Process(
        target=_be_rank, args=(module, list(args), dict(env), str(folder), str(output))
    )
    process.start()
    return process


def _be_rank(module: str, args: list[str], env: dict[str, str], folder: str, output: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    _point_streams_at(output)
    sys.argv = [module, *args]
    code: object = 0
    try:
        if module.endswith(".py"):
            runpy.run_path(module, run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    # What Python does at its end, and `multiprocessing` leaves out.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _point_streams_at(output: str) -> None:
    """Points standard output and error at a file, each line as soon as it is whole."""
    with open(os.devnull) as nothing, open(output, "ab") as file:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
