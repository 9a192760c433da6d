#!/usr/bin/env bash
# Builds Horovod's official source package against the TensorFlow in a virtual environment.
#
#   launch/build_horovod.sh VENV VERSION cpu|gpu FOLDER     puts the wheel into FOLDER
#
# CXX names the compiler, HOROVOD_BUILD_CUDA_CC_LIST the compute capabilities (80,90).
# launch/setup.sh calls this; what each header in launch/horovod_headers is for stands in it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$1 version=$2 flavour=$3 folder=$4

die() { echo "launch/build_horovod.sh: $*" >&2; exit 2; }

find_compiler() {
  local name
  for name in ${CXX:-c++ g++ clang++}; do
    if command -v "$name" >/dev/null; then command -v "$name"; return; fi
  done
  die "a C++ compiler is missing (Debian: g++), which Horovod is built with. Install one, or name one with CXX=/path/to/c++."
}

compiler=$(find_compiler)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Ninja, from PyPI, stands in for make; Horovod passes it make's VERBOSE=1, which it does not know.
cat >"$work/cmake" <<SH
#!/bin/sh
for argument in "\$@"; do shift; [ "\$argument" = VERBOSE=1 ] || set -- "\$@" "\$argument"; done
exec "$venv/bin/cmake" "\$@"
SH
chmod +x "$work/cmake"

path=$venv/bin:$PATH
settings=(
  CXX="$compiler" CMAKE_GENERATOR=Ninja HOROVOD_CMAKE="$work/cmake" MAKEFLAGS=-j
  # The headers must come first; newer compilers no longer bring in the other two by themselves.
  CXXFLAGS="-I$root/launch/horovod_headers -include stdexcept -include string"
  HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1
  HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1
)
if [ "$flavour" = gpu ]; then
  nvidia=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/nvidia")')
  # The packages keep their libraries apart; the build wants them under one root and unversioned.
  ln -sfn lib "$nvidia/cu13/lib64"
  ln -sf libcudart.so.13 "$nvidia/cu13/lib/libcudart.so"
  ln -sf libnccl.so.2 "$nvidia/nccl/lib/libnccl.so"
  path=$nvidia/cu13/bin:$path # Before any other nvcc, which would win over the CUDA home.
  settings+=(
    HOROVOD_GPU=CUDA HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_CUDA_HOME="$nvidia/cu13"
    HOROVOD_NCCL_HOME="$nvidia/nccl" HOROVOD_NCCL_LINK=SHARED CUDACXX="$nvidia/cu13/bin/nvcc"
    HOROVOD_BUILD_CUDA_CC_LIST="${HOROVOD_BUILD_CUDA_CC_LIST:-80,90}"
  )
fi

mkdir -p "$folder"
if ! env "${settings[@]}" PATH="$path" "$venv/bin/python" -m pip wheel --no-deps --no-build-isolation \
  --no-binary horovod --no-cache-dir -w "$work" "horovod==$version" >"$folder/build.log" 2>&1; then
  die "Horovod did not build; the log is $folder/build.log and its first error: $(grep -m 1 -E "error:|Error at" "$folder/build.log")"
fi
wheel=$(basename "$work"/horovod-*.whl)
cp "$work/$wheel" "$folder/.$wheel.partial"
mv "$folder/.$wheel.partial" "$folder/$wheel" # At once, so that no other clone sees half of it.
