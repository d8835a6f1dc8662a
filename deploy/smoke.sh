#!/usr/bin/env bash
# Shows that a cluster of containers survives, over TLS and with tokens: a run whose worker and coordinator are killed, and
# whose cluster is stopped and started, ends with the theta of the same run undisturbed in one process on this machine.
#
#   deploy/smoke.sh [--bins DIR] [--any-size]
#
#   --bins DIR   where the three binaries are                              [target/release]
#   --any-size   images may be too large, for binaries not optimised
#
# Everything is taken down at the end, however it ends. Exit codes: 0 it does, or skipped by name where no container engine
# or no compose is; 1 it does not; 2 usage; 64 a binary is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
bins=${CARGO_TARGET_DIR:-target}/release size=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --bins) bins=${2?}; shift ;;
    --any-size) size=(--any-size) ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
  esac
  shift
done

skip() { echo "SKIPPED deploy/smoke.sh: $1"; exit 0; }
docker version >/dev/null 2>&1 || skip "no container engine answers to \`docker version\`"
if docker compose version >/dev/null 2>&1; then compose=(docker compose)
elif docker-compose version >/dev/null 2>&1; then compose=(docker-compose)
else skip "neither \`docker compose\` nor docker-compose is here"; fi
command -v openssl >/dev/null || skip "no openssl, which makes the certificates"
[[ -x $bins/paceline ]] || { echo "error: no $bins/paceline: cargo build --release --workspace" >&2; exit 64; }

step() { printf '\n== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
# Tries COMMAND twice a second; fails after SECONDS.
wait_for() {
  local what=$1 seconds=$2 end; shift 2
  end=$((SECONDS + seconds))
  until "$@"; do
    [[ $SECONDS -lt $end ]] || fail "$what: not within $seconds s"
    sleep 0.5
  done
}

# Apart from any cluster that runs here: names, images and port of its own, and leases that a dead worker loses soon.
export COMPOSE_PROJECT_NAME=paceline-smoke-$$ PACELINE_TAG=smoke-$$ PACELINE_THREADS=1
export PACELINE_PYTHON_IMAGE=paceline-tools:$PACELINE_TAG
export PACELINE_LEASE_TTL=6s PACELINE_HEARTBEAT=1s
PACELINE_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' \
  2>/dev/null || echo $((20000 + $$ % 20000)))
folder=$(mktemp -d)
export PACELINE_PORT PACELINE_COORDINATOR=https://127.0.0.1:$PACELINE_PORT
export PACELINE_CA=$folder/ca.pem PACELINE_TOKEN_FILE=$folder/operator.token
unset PACELINE_DATA PACELINE_STORE PACELINE_TOKEN
cluster() { "${compose[@]}" -f deploy/compose.yaml -f deploy/compose.tls.yaml "$@"; }
paceline() { "$bins/paceline" "$@"; }
clean_up() {
  code=$?
  if [[ $code != 0 ]]; then cluster logs --tail=30 2>&1 | cut -c -300 || true; fi
  cluster down -v --remove-orphans --timeout 10 >/dev/null 2>&1 || true
  docker image ls -q --filter "reference=paceline-*:$PACELINE_TAG" | xargs -r docker image rm >/dev/null 2>&1 || true
  rm -rf "$folder"
  exit "$code"
}
trap clean_up EXIT

# The first line; reads to the end, because a writer that meets a closed pipe would end the script (pipefail).
first() { sed -n 1p; }
field() { grep -oE "\"$1\":\"?[^,\"}]*" | first | sed 's/.*:"\{0,1\}//'; }
outer_step() { paceline run show "$run" --format json 2>/dev/null | field outer_step; }
reached() { local now; now=$(outer_step) && [[ -n $now && $now -ge $1 ]]; }
container() { cluster ps -q "$1" | first; }
restarts() { docker inspect -f '{{.RestartCount}}' "$1"; }
healthy() { [[ $(docker inspect -f '{{.State.Health.Status}}' "$1") == healthy ]]; }
restarted() { [[ $(restarts "$1") -gt $2 && $(docker inspect -f '{{.State.Running}}' "$1") == true ]]; }

# A crash is SIGKILL to the process, so that the restart policy has to answer; `docker kill` counts as a wish to stop.
crash() {
  local id pid before; id=$(container "$1"); before=$(restarts "$id")
  pid=$(docker inspect -f '{{.State.Pid}}' "$id")
  if grep -qs "$id" "/proc/$pid/cgroup" && kill -9 "$pid" 2>/dev/null; then
    wait_for "a restart of the $1 that was killed" 60 restarted "$id" "$before"
    echo "the $1 was killed (process $pid) and restarted by the engine"
  else
    docker kill "$id" >/dev/null && docker start "$id" >/dev/null
    echo "the $1 was killed and started by hand: the engine's processes can't be reached from here"
  fi
}

step "images from $bins"
deploy/images.sh --bins "$bins" --tag "$PACELINE_TAG" "${size[@]}" 2>/dev/null
# Stands in for the public image in which compose.tls.yaml makes certificates.
tools=()
for tool in sh openssl cat cp mv mkdir chmod chown; do tools+=("$(command -v "$tool")"); done
deploy/base.sh --tools "$PACELINE_PYTHON_IMAGE" "${tools[@]}"

step "the undisturbed run, in one process on this machine"
expected=$(paceline train deploy/smoke.toml --store "$folder/alone" --no-eval --format json |
  tail -n 1 | grep -oE '"file":"[^"]*"' | cut -d'"' -f4)
expected=$(paceline checkpoint show "$expected" --format json | field theta_hash)
echo "theta $expected"

step "the cluster: certificates, a coordinator, a token, two workers"
cluster up -d 2>/dev/null
wait_for "a healthy coordinator" 60 healthy "$(container coordinator)"
docker cp "$(container coordinator)":/trust/ca.pem "$PACELINE_CA" >/dev/null
docker cp "$(container coordinator)":/data/operator.token "$PACELINE_TOKEN_FILE" >/dev/null
wait_for "a ready worker" 60 docker exec "$(container worker)" paceline-worker --probe 2>/dev/null

step "strangers"
# refused WHO CODE COMMAND…: the command ends with this exit code (docs/exit-codes.md).
refused() {
  local who=$1 expected=$2 code=0; shift 2
  "$@" >"$folder/answer" 2>&1 || code=$?
  [[ $code == "$expected" ]] || fail "$who: exit code $code, not $expected: $(cat "$folder/answer")"
  echo "$who: refused, $(grep -m 1 . "$folder/answer" | cut -c -100)"
}
refused "nobody's token" 77 env -u PACELINE_TOKEN_FILE "$bins/paceline" run list
refused "another authority" 77 env -u PACELINE_CA "$bins/paceline" run list
refused "plain text" 69 env -u PACELINE_TOKEN_FILE -u PACELINE_CA PACELINE_COORDINATOR="http://127.0.0.1:$PACELINE_PORT" "$bins/paceline" run list

step "a run"
run=$(paceline run submit deploy/smoke.toml --format json | field run)
echo "submitted $run"

step "a worker is killed"
wait_for "outer step 100" 240 reached 100
crash worker
echo "outer step $(outer_step)"

step "the coordinator is killed"
wait_for "outer step 350" 240 reached 350
crash coordinator
wait_for "outer step 400 after the crash" 240 reached 400
echo "outer step $(outer_step)"

step "the cluster is stopped and started"
wait_for "outer step 600" 240 reached 600
before=$(outer_step)
cluster stop >/dev/null 2>&1
for id in $(cluster ps -q); do
  code=$(docker inspect -f '{{.State.ExitCode}}' "$id")
  [[ $code == 0 ]] || fail "$(docker inspect -f '{{.Name}}' "$id") ended with code $code when it was asked to stop"
done
cluster start >/dev/null 2>&1
wait_for "the run where it was" 120 reached "$before"
echo "stopped at outer step $before, all with exit code 0; now at $(outer_step)"

step "one worker more"
cluster up -d --scale worker=3 --no-recreate 2>/dev/null
[[ $(cluster ps -q worker | wc -w) == 3 ]] || fail "--scale worker=3 gives $(cluster ps -q worker | wc -w) workers"

step "the end of the run"
timeout 420 "$bins/paceline" run watch "$run" --format json | tail -n 1 | field status | grep -x completed >/dev/null \
  || fail "$run did not complete: $(paceline run show "$run" 2>&1 | sed -n 1,5p)"
paceline run ledger "$run"
pulled=$folder/pulled.safetensors
paceline checkpoint pull "$run" -o "$pulled"
paceline checkpoint verify "$pulled"
found=$(paceline checkpoint show "$pulled" --format json | field theta_hash)
[[ -n $expected && $found == "$expected" ]] || fail "theta of the disturbed run is $found, undisturbed it is $expected"
echo "the disturbed run has the undisturbed one's theta: $found"
