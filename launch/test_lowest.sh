#!/usr/bin/env bash
# Runs the unit tests with the lowest versions that setup.py allows, in build/lowest, for CPUs: up to
# 40 minutes. Arguments go to pytest (for example: tests/unit/data); needs the package registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
python=build/lowest/bin/python
index=$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
.venv/bin/uv venv -q --clear --python .venv/bin/python build/lowest
# Warnings are errors here, and later versions of these two warn of what the lowest Matplotlib and
# scikit-learn call.
.venv/bin/uv pip compile -q --resolution lowest-direct --python "$python" setup.py --extra ray --extra dev \
  -c - -o build/lowest/requirements.txt <<<$'pyparsing<3.3\nscipy<1.15'
# Horovod is the one that launch/setup.sh has built.
horovod=$(.venv/bin/python - <<'PYTHON'
import json
from importlib.metadata import distribution

print(json.loads(distribution("horovod").read_text("direct_url.json"))["url"])
PYTHON
)
install() { .venv/bin/uv pip install -q --python "$python" "$@"; }
install -r build/lowest/requirements.txt
install --no-deps "$horovod" -e .
[ $# -gt 0 ] || set -- tests/unit
exec timeout 40m "$python" -m pytest "$@"
