#!/usr/bin/env bash
# Runs the examples in docs/examples/ that log to MLflow, Weights & Biases (offline) and Trackio, in
# build/trackers: what these need does not go together with all of launch/requirements.txt. Arguments
# go to pytest; needs the package registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
python=build/trackers/bin/python
index=$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
.venv/bin/uv venv -q --clear --python .venv/bin/python build/trackers
.venv/bin/uv pip install -q --python "$python" -e '.[mlflow,wandb,trackio]' hypothesis pytest pytest-timeout
exec "$python" -m pytest tests/unit/docs/examples/test_trackers.py "$@"
