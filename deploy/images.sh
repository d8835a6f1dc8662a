#!/usr/bin/env bash
# Packs binaries built on this machine into images, and checks what they weigh.
#
#   deploy/images.sh [--bins DIR] [--cuda-bins DIR] [--tag TAG] [--base IMAGE] [--any-size] [TARGET...]
#
#   --bins DIR       where paceline, paceline-coordinator and paceline-worker are   [target/release]
#   --cuda-bins DIR  where a paceline-worker built with --features cuda is; for the target worker-cuda
#   --tag TAG        images are named paceline-TARGET:TAG                            [local]
#   --base IMAGE     what they are built on  [distroless if it is here or can be pulled, else made by base.sh]
#   --any-size       do not fail if an image is too large, for binaries that are not optimised
#   TARGET           coordinator, worker, cli, worker-cuda                           [the first three]
#
# Needs an engine that speaks docker's command line (PACELINE_ENGINE=podman is another). Exit codes: 0 made, 1 too large
# or does not start, 2 usage, 64 a binary is missing, 69 no engine answers.
set -euo pipefail
cd "$(dirname "$0")/.."
engine=${PACELINE_ENGINE:-docker}
distroless=gcr.io/distroless/cc-debian12:nonroot
bins=${CARGO_TARGET_DIR:-target}/release cuda_bins='' tag=local base='' any_size='' targets=()

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
while [[ $# -gt 0 ]]; do
  case $1 in
    --bins) bins=${2?}; shift ;;
    --cuda-bins) cuda_bins=${2?}; shift ;;
    --tag) tag=${2?}; shift ;;
    --base) base=${2?}; shift ;;
    --any-size) any_size=yes ;;
    coordinator|worker|cli|worker-cuda) targets+=("$1") ;;
    *) usage ;;
  esac
  shift
done
[[ ${#targets[@]} -gt 0 ]] || targets=(coordinator worker cli)
missing() { echo "error: no $1: build it first (${2})" >&2; exit 64; }
"$engine" version >/dev/null 2>&1 || { echo "error: no container engine answers to \`$engine version\`" >&2; exit 69; }

context=$(mktemp -d); trap 'rm -rf "$context"' EXIT
mkdir -p "$context/out/empty"
for program in paceline paceline-coordinator paceline-worker; do
  [[ -x $bins/$program ]] || missing "$bins/$program" "cargo build --release --workspace"
  strip -o "$context/out/$program" "$bins/$program"
done
programs=("$context"/out/paceline*)
if [[ " ${targets[*]} " == *' worker-cuda '* ]]; then
  [[ -x $cuda_bins/paceline-worker ]] ||
    missing "paceline-worker under --cuda-bins '$cuda_bins'" "cargo build --release -p paceline-worker --features cuda"
  nvrtc=${CARGO_TARGET_DIR:-target}/cuda/nvidia/cu13/lib
  [[ -e $nvrtc/libnvrtc.so.13 ]] || missing "$nvrtc/libnvrtc.so.13" "deploy/cuda/build.sh fetches it"
  mkdir "$context/out-cuda" "$context/nvrtc"
  strip -o "$context/out-cuda/paceline-worker" "$cuda_bins/paceline-worker"
  # A second build of each, which NVIDIA ships beside them, is left out.
  find -L "$nvrtc" -name '*.so.*' ! -name '*.alt.*' -exec cp {} "$context/nvrtc/" \;
  programs+=("$context/out-cuda/paceline-worker" "$context"/nvrtc/*.so.*)
fi

# Programs linked with a newer glibc than distroless' would not start there.
fits() { [[ $(printf '%s\n' "$(ldd --version | sed -n '1s/.* //p')" 2.36 | sort -V | tail -n 1) == 2.36 ]]; }
if [[ -z $base ]]; then
  if ! fits; then
    base=paceline-base:$tag
    echo "this machine's glibc is newer than that of $distroless: the base is made from its libraries"
    deploy/base.sh "$base" "${programs[@]}"
  elif "$engine" image inspect "$distroless" >/dev/null 2>&1 || timeout 60 "$engine" pull -q "$distroless" >/dev/null 2>&1; then
    base=$distroless
  else
    base=paceline-base:$tag
    echo "no registry gives $distroless: the base is made from this machine's libraries"
    deploy/base.sh "$base" "${programs[@]}"
  fi
fi

revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[[ -z $(git status --porcelain 2>/dev/null) ]] || revision+=-modified
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | sed -n 1p)

# Megabytes that an image may take; NVRTC alone takes most of what a worker with CUDA does.
limit() { case $1 in coordinator) echo 60 ;; worker) echo 120 ;; cli) echo 60 ;; worker-cuda) echo 220 ;; esac; }
too_large=''
for target in "${targets[@]}"; do
  image=paceline-$target:$tag
  "$engine" build -q -f deploy/Dockerfile.host --target "$target" -t "$image" --build-arg "BASE=$base" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" "$context" >/dev/null
  "$engine" run --rm --network none --read-only "$image" --version >/dev/null ||
    { echo "error: $image does not start: were its programs built for $base? (--base, or deploy/Dockerfile)" >&2; exit 1; }
  size=$(($("$engine" image inspect -f '{{.Size}}' "$image") / 1000000))
  echo "$image: $size MB of $(limit "$target") MB"
  [[ $size -le $(limit "$target") ]] || too_large+=" $image"
done
# Builders that know no BuildKit leave the stages behind, without a name.
"$engine" image prune -f --filter label=paceline.stage=programs >/dev/null
if [[ -n $too_large && -z $any_size ]]; then
  echo "error: larger than they may be:$too_large" >&2
  exit 1
fi
