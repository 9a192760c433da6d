#!/usr/bin/env bash
# Compares the training speed with that of legacy Keras with Horovod and of PyTorch, in build/rivals,
# which has the packages of .venv too. Arguments go to the benchmark; needs the package registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
.venv/bin/python -m venv --clear build/rivals
ours=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
theirs=$(build/rivals/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('$ours')" > "$theirs/ours.pth"
build/rivals/bin/python -m pip install -q --no-deps tf_keras==2.21.0
build/rivals/bin/python -m pip install -q torch==2.13.0
ln -s "$PWD/.venv/bin/horovodrun" build/rivals/bin/horovodrun
exec build/rivals/bin/python -m tests.benchmarks.rivals "$@"
