#!/usr/bin/env bash
# Compares sharedlayers_dist.losses with sentence-transformers and pytorch-metric-learning, in
# build/other_losses: these need PyTorch, which nothing else here does. Arguments go to pytest; needs
# the package registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
python=build/other_losses/bin/python
index=$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
.venv/bin/uv venv -q --clear --python .venv/bin/python build/other_losses
.venv/bin/uv pip install -q --python "$python" -e . hypothesis pytest pytest-timeout \
  'sentence-transformers>=6.2' 'pytorch-metric-learning>=2.9'
exec "$python" -m pytest tests/unit/losses/test_other_losses.py "$@"
