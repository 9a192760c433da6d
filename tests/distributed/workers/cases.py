"""Runs named checks on every rank, in one process group, and writes down what each found.

Command line: output file, modules. Every function of a module whose name begins with `case_` is
called with the world, in order; it raises if something is not as it should be. Ranks start in
order of nothing but the operating system, so they meet in each check's first collective.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import keras
import pytest

from sharedlayers_dist import dist
from sharedlayers_dist.world import World


def cases_of(module: ModuleType) -> dict[str, Callable[[World], None]]:
    """Returns a module's checks by name, without `case_`."""
    return {
        name.removeprefix("case_"): value
        for name, value in vars(module).items()
        if name.startswith("case_")
    }


def main() -> None:
    output, modules = Path(sys.argv[1]), sys.argv[2:]
    chosen = os.environ.get("CASES", "").split(",")
    world = dist.init(process_sets="dynamic")
    warnings.simplefilter("error")
    # Keras 3.15 converts its variables in a way that NumPy 2.4 announces to end.
    warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
    found: dict[str, str] = {}
    for module in modules:
        for name, case in cases_of(import_module(module)).items():
            if chosen != [""] and name not in chosen:
                continue
            started = time.monotonic()
            try:
                case(world)
                found[name] = ""
            except (Exception, pytest.fail.Exception):
                found[name] = traceback.format_exc()
            finally:
                keras.backend.clear_session()
                keras.config.set_dtype_policy("float32")
            print(f"{time.monotonic() - started:6.1f} s  {name}  {found[name]}", flush=True)
            output.with_suffix(f".{world.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
