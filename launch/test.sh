#!/usr/bin/env bash
# Sets up if needed, then runs the tests; arguments go to pytest (for example: -m slow, -k plan).
# Without any, the unit tests take two cores, and those that start ranks follow one by one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
[ $# -eq 0 ] || exec .venv/bin/python -m pytest "$@"
failed=0
.venv/bin/python -m pytest tests/unit -n 2 --dist worksteal || failed=$?
.venv/bin/python -m pytest tests/distributed || failed=$?
exit "$failed"
