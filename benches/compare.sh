#!/usr/bin/env bash
# The same work in Paceline and in a peer, in turn (A B A B …): minimum and median of each, and of their ratio.
#
#   benches/compare.sh [--rounds N] [--work NAME]… [--peer jax_peer.py] [--out FILE] [--list]
#
#   --rounds N     rounds of A B (3)
#   --work NAME    only this work; may be given again
#   --peer FILE    jax_peer.py; or PACELINE_PEER. Without it only Paceline runs
#   --out FILE     results (benches/results/HOST.json)
#   --list         name the works and stop
#   --help         this text
#
# PACELINE_BIN names a built paceline; without it `cargo build --release` makes one. The peer's Python lives in
# PACELINE_VENV (benches/.venv), made with `pip install jax`, and torch for the AdamW row where it installs; where a package
# does not, the rows that need it are skipped by name.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }
fail() { echo "compare.sh: $1" >&2; exit "${2:-64}"; }

# name | what Paceline runs | which peer | what the peer runs
works() {
  cat <<'END'
adafac_mlp/mlp|inner --optimizer adafac_mlp --task mlp|jax|--optimizer adafac_mlp --task mlp
hyper_v2/mlp|inner --optimizer hyper_v2 --task mlp|jax|--optimizer hyper_v2 --task mlp
velo/mlp|inner --optimizer hyper_v2 --lstm 512 --bank 256 --task mlp --reps 3|jax|--optimizer hyper_v2 --lstm 512 --bank 256 --task mlp --reps 3
velo_low_rank/mlp|inner --optimizer hyper_v2 --lstm 512 --bank 256 --task mlp --noise low_rank --reps 3|jax|--optimizer hyper_v2 --lstm 512 --bank 256 --task mlp --reps 3
adafac_mlp/conv|inner --optimizer adafac_mlp --task conv --reps 3|jax|--optimizer adafac_mlp --task conv --reps 3
hyper_v2/conv|inner --optimizer hyper_v2 --task conv --reps 3|jax|--optimizer hyper_v2 --task conv --reps 3
celo2_base/mlp|inner --optimizer celo2_base --task mlp|jax|--optimizer celo2_base --task mlp
celo2_base/mlp_batch_64|inner --optimizer celo2_base --task mlp --pairs 32 --batch 64|jax|--optimizer celo2_base --task mlp --pairs 32 --batch 64
update/adafac_mlp|update --optimizer adafac_mlp --reps 20|jax_update|--optimizer adafac_mlp --reps 20
update/hyper_v2|update --optimizer hyper_v2 --reps 20|jax_update|--optimizer hyper_v2 --reps 20
update/velo|update --optimizer hyper_v2 --lstm 512 --bank 256 --reps 20|jax_update|--optimizer hyper_v2 --lstm 512 --bank 256 --reps 20
update/celo2_base|update --optimizer celo2_base --reps 20|jax_update|--optimizer celo2_base --reps 20
update/adam_w|update --optimizer adafac_mlp --reps 50|torch_update|--reps 50
END
}

rounds=3 peer=${PACELINE_PEER:-} out="" chosen=()
while [ $# -gt 0 ]; do
  case $1 in
    --rounds|--work|--peer|--out) [ $# -ge 2 ] || fail "$1 needs a value; see --help" 2 ;;
  esac
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --work) chosen+=("$2"); shift 2 ;;
    --peer) peer=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --list) works | cut -d'|' -f1; exit 0 ;;
    -h|--help) usage; exit 0 ;;
    *) fail "no such argument: $1; see --help" 2 ;;
  esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds must be a number from 1 (got $rounds)" 2
for name in ${chosen[@]+"${chosen[@]}"}; do
  works | cut -d'|' -f1 | grep -xF -- "$name" >/dev/null || fail "no work $name; there are: $(works | cut -d'|' -f1 | paste -sd' ')"
done
[ -z "$peer" ] || [ -f "$peer" ] || fail "no file $peer: name jax_peer.py with --peer or PACELINE_PEER"
out=${out:-$here/results/$(uname -n).json}

python=python3
if [ -n "${PACELINE_BIN:-}" ]; then
  paceline=$PACELINE_BIN
else
  echo "building paceline" >&2
  (cd "$root" && cargo build --release --bin paceline)
  paceline=${CARGO_TARGET_DIR:-$root/target}/release/paceline
fi
[ -x "$paceline" ] || fail "no program $paceline: name one with PACELINE_BIN"

has_jax="" has_torch=""
if [ -n "$peer" ]; then
  venv=${PACELINE_VENV:-$here/.venv}
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  python=$venv/bin/python
  install() { "$python" -c "import $1" 2>/dev/null || timeout 600 "$python" -m pip install --quiet "${@:2}" >&2; }
  if install jax jax; then has_jax=yes; else echo "jax does not install: its rows are skipped" >&2; fi
  if [ ${#chosen[@]} -eq 0 ] || [[ " ${chosen[*]} " == *" update/adam_w "* ]]; then
    # First the build without CUDA, which is a tenth as large; where its index is not reachable, PyPI's.
    if install torch torch numpy --index-url https://download.pytorch.org/whl/cpu || install torch torch numpy; then
      has_torch=yes
    else echo "torch does not install: update/adam_w has no peer" >&2; fi
  fi
else
  echo "no peer: name jax_peer.py with --peer or PACELINE_PEER; only Paceline runs" >&2
fi

mkdir -p "$(dirname "$out")"
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
# One line a run: the round, the work, whose it is, and what it printed.
note() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >> "$lines"; }
run_peer() {
  case $1 in
    jax) [ -n "$has_jax" ] && "$python" "$peer" "${@:2}" ;;
    jax_update) [ -n "$has_jax" ] && "$python" "$here/peer_update.py" jax --peer "$peer" "${@:2}" ;;
    torch_update) [ -n "$has_torch" ] && "$python" "$here/peer_update.py" torch "${@:2}" ;;
  esac
}
for round in $(seq "$rounds"); do
  while IFS='|' read -r name ours kind theirs; do
    if [ ${#chosen[@]} -gt 0 ] && ! printf '%s\n' "${chosen[@]}" | grep -xF -- "$name" >/dev/null; then continue; fi
    echo "round $round of $rounds: $name" >&2
    # shellcheck disable=SC2086  # the words of a work are words
    note "$round" "$name" paceline "$("$paceline" --format json bench $ours < /dev/null)"
    # shellcheck disable=SC2086
    if line=$(run_peer "$kind" $theirs < /dev/null); then note "$round" "$name" "${kind%_update}" "$(tail -n 1 <<< "$line")"; fi
  done < <(works)
  # After every round: what was measured outlives whatever stops the next one.
  python3 "$here/table.py" collect "$lines" "$out"
done
python3 "$here/table.py" print "$out"
