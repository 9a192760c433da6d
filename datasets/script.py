"""What the scripts of this folder have in common: their exit codes."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App, CycloptsError

from sharedlayers_dist.errors import UserError


def run(app: App) -> None:
    """Runs a script; what a user got wrong is one line on standard error and exit code 2."""
    try:
        app(exit_on_error=False, print_error=False)
    except (CycloptsError, UserError) as error:
        print(f"{Path(sys.argv[0]).name}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
