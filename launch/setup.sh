#!/usr/bin/env bash
# Makes .venv with everything in it, Horovod built against the TensorFlow in it. Quick when nothing
# changed, and when an earlier clone of the same user has built Horovod already.
#
#   launch/setup.sh         for CPUs (Gloo)
#   launch/setup.sh --gpu   for NVIDIA GPUs (CUDA and NCCL, all from PyPI)
#
# PYTHON names the interpreter to use, CXX the compiler. Needs Python 3.11 to 3.13 and a C++ compiler.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=$root/.venv
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sharedlayers_dist

die() { echo "launch/setup.sh: $*" >&2; exit 2; }
say() { echo "launch/setup.sh: $*"; }

flavour=cpu
[ ! -f "$venv/flavour" ] || flavour=$(<"$venv/flavour")
case "${1:-}" in
  "") ;;
  --gpu) flavour=gpu ;;
  --cpu) flavour=cpu ;;
  -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) die "the options are --gpu and --cpu. Received: $1." ;;
esac

# Everything that the environment depends on: when this has not changed, there is nothing to do.
build_recipe() { cat launch/build_horovod.sh; find launch/horovod_headers -type f -print0 | sort -z | xargs -0 cat; }
recipe() { cat launch/setup.sh launch/requirements*.txt setup.py; build_recipe; }
stamp="$flavour $root $(recipe | cksum)"
if [ -f "$venv/stamp" ] && [ "$(<"$venv/stamp")" = "$stamp" ] && [ -x "$venv/bin/sharedlayers" ]; then
  say "$venv is up to date ($flavour)."
  exit 0
fi

find_python() {
  local name
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  die "Python 3.11, 3.12 or 3.13 with its venv module is missing (Debian: python3 and python3-venv). Install it, or name one with PYTHON=/path/to/python3."
}

check() {
  "$venv/bin/uv" pip check -q --python "$venv/bin/python" || die "the installed packages contradict each other; remove $venv and run this again."
  "$venv/bin/python" -c 'from sharedlayers_dist.quiet import import_tensorflow_quietly as load; load(); import horovod.tensorflow' || die "Horovod was built but cannot be imported; the error is above."
  "$venv/bin/horovodrun" -np 2 "$venv/bin/sharedlayers" doctor || die "the two-rank all-reduce failed; the error is above."
}

rm -f "$venv/stamp"
python=$(find_python)
if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
  say "making $venv with $python"
  "$python" -m venv --clear "$venv"
fi
echo "$flavour" >"$venv/flavour"
unset PYTHONDONTWRITEBYTECODE # The imports of the checks below leave compiled modules for later ones.
export PYTHONWARNINGS=ignore TF_CPP_MIN_LOG_LEVEL=3 HOROVOD_LOG_LEVEL=error
uv_version=$(sed -n 's/^uv==//p' launch/requirements.txt)
"$venv/bin/python" -m pip install -q --disable-pip-version-check "uv==$uv_version"
index=$("$venv/bin/python" -m pip config get global.index-url 2>/dev/null || true)
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
install() { "$venv/bin/uv" pip install -q --python "$venv/bin/python" "$@"; }

say "installing the packages that launch/requirements.txt pins"
packages=(-r launch/requirements.txt)
[ "$flavour" = cpu ] || packages+=(-r launch/requirements-gpu.txt)
install "${packages[@]}"

horovod_version=$(sed -n 's/.*"horovod==\([0-9.]*\)".*/\1/p' setup.py)
tag=$("$venv/bin/python" - <<'PYTHON'
import platform, sys
from importlib.metadata import version

parts = [f"tf{version('tensorflow')}", f"cp{sys.version_info.major}{sys.version_info.minor}"]
print("-".join([*parts, platform.system(), platform.machine()]).lower())
PYTHON
)
wheels=$cache/horovod-$horovod_version-$tag-$flavour-$(build_recipe | cksum | cut -d' ' -f1)
if ! compgen -G "$wheels/horovod-*.whl" >/dev/null; then
  say "building Horovod $horovod_version for $tag ($flavour), once for this user; it takes about three minutes"
  launch/build_horovod.sh "$venv" "$horovod_version" "$flavour" "$wheels"
fi
install --reinstall --no-deps "$wheels"/horovod-*.whl
# horovodrun looks at each framework in a process of its own, whose output it means to mute; the notes
# of TensorFlow's C++ code come through all the same.
sed -i "s|^\( *\)sys.stderr = open(os.devnull, 'w')$|&\n\1os.dup2(sys.stderr.fileno(), 2)|" \
  "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/horovod/common/util.py"
install --no-deps --no-build-isolation -e .
say "checking: the import, and an all-reduce over two ranks"
check
echo "$stamp" >"$venv/stamp"
say "done. $venv/bin/sharedlayers --help lists the commands."
