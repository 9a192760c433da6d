"""What the scripts of this folder have in common: their exit codes, and what they say in a line."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App, CycloptsError

from sharedlayers_dist.errors import UserError, one_line, show_warnings_in_one_line
from sharedlayers_dist.storage.uri import hide_secrets
from sharedlayers_dist.world import Launch


def run(app: App) -> None:
    """Runs a script; what a user got wrong is one line on standard error and exit code 2.

    So is storage that cannot be reached, with exit code 1.
    """
    name = Path(sys.argv[0]).name
    show_warnings_in_one_line(name)
    try:
        Launch.detect().require_one_process(name, "Start it without a launcher, once.")
        app(exit_on_error=False, print_error=False)
    except (CycloptsError, UserError, OSError) as error:
        print(f"{name}: {hide_secrets(one_line(error))}", file=sys.stderr)
        sys.exit(1 if isinstance(error, OSError) else 2)
