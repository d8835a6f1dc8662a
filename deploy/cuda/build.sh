#!/usr/bin/env bash
# Everything about CUDA that can be checked without a device: the feature builds, every kernel compiles with NVIDIA's
# compiler for two architectures, the kernels' tests pass on the host, the binary starts where there is no CUDA at all.
#
#   deploy/cuda/build.sh [--release]
#
# Needs a Rust toolchain, a C++ compiler, Python 3 with pip, and PyPI (90 MB, once; kept in target/cuda). Not part of
# .ci/run: see docs/cuda.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=(); folder=debug
if [[ "${1:-}" == --release ]]; then profile=(--release); folder=release; fi
target=${CARGO_TARGET_DIR:-target}
cache=$target/cuda
nvrtc=nvidia-cuda-nvrtc==13.0.88

step() { printf '\n== %s\n' "$*"; }

step "NVRTC from PyPI ($nvrtc)"
lib=$cache/nvidia/cu13/lib
if [[ ! -e $lib/libnvrtc.so.13 ]]; then
  mkdir -p "$cache"
  python3 -m pip download -q --no-deps --only-binary=:all: -d "$cache/wheels" "$nvrtc"
  for wheel in "$cache"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$cache"; done
fi
lib=$(cd "$lib" && pwd)
ls "$lib"

step "every kernel with NVRTC: PTX in $cache/ptx, and what it takes of a multiprocessor"
LD_LIBRARY_PATH=$lib python3 deploy/cuda/compile_kernels.py \
  "$lib/libnvrtc.so.13" worker/src/cuda/kernels "$cache/ptx" 80 90

step "cargo clippy and build, --features cuda"
cargo clippy --locked -p paceline-worker -p paceline --features paceline-worker/cuda,paceline/cuda --all-targets -- -D warnings
cargo build --locked "${profile[@]}" -p paceline-worker -p paceline --features paceline-worker/cuda,paceline/cuda

step "the kernels' tests; those that need a device are skipped by name where there is none"
LD_LIBRARY_PATH=$lib cargo test --locked "${profile[@]}" -p paceline-worker --features cuda -- cuda config

step "the binary needs no CUDA to start"
worker=$target/$folder/paceline-worker
if ldd "$worker" | grep -iE 'cuda|nvrtc'; then echo "it is linked with CUDA" >&2; exit 1; fi
"$worker" --version

# Where there is a driver, the answer is the machine's own affair.
if ! ldconfig -p | grep libcuda.so >/dev/null; then
  step "without a driver it says so and does not work on something else"
  set +e; said=$("$worker" --device cuda:0 2>&1); code=$?; set -e
  echo "$said (exit code $code)"
  [[ $code == 78 && $said == *libcuda.so.1* ]]

  step "with a driver that fails (a stub that answers 999 to everything) it says so too"
  stub=$(mktemp -d); trap 'rm -rf "$stub"' EXIT
  for call in cuInit cuDeviceGetCount cuDeviceGet cuGetErrorName cuGetErrorString; do
    echo "int $call(void) { return 999; }"
  done > "$stub/stub.c"
  cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$stub/libcuda.so" "$stub/stub.c"
  set +e; said=$(LD_LIBRARY_PATH=$stub "$worker" --device cuda:0 2>&1); code=$?; set -e
  echo "$said (exit code $code)"
  [[ $code == 78 && $said == *"failed to start"* ]]
fi

step "all of it passed; what this does not show stands in docs/cuda.md"
