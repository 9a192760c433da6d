#!/usr/bin/env bash
# Sets up if needed, then runs the tests; arguments go to pytest (for example: -m slow, -k plan).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
exec .venv/bin/python -m pytest "$@"
