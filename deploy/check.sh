#!/usr/bin/env bash
# Checks what lies in deploy/ without starting anything: scripts, images' recipes, compose files and their overlays, alerts,
# dashboard, chart. What a machine lacks the tools for is skipped by name.
#
#   deploy/check.sh
set -euo pipefail
cd "$(dirname "$0")"
step() { printf -- '-- %s\n' "$*"; }
fail() { echo "error: $*" >&2; exit 1; }

step "scripts"
for script in *.sh */*.sh slurm/*.sbatch; do bash -n "$script"; done
if command -v shellcheck >/dev/null; then shellcheck ./*.sh ./*/*.sh slurm/*.sbatch
else echo "SKIPPED shellcheck: it is not here"; fi

step "Dockerfile and Dockerfile.host make the same images"
# All but the first part and the third, which are where the programs come from.
stages() { awk '/^# ---- /{part++} part == 1 || part == 3' "$1"; }
[[ $(stages Dockerfile | wc -l) -gt 40 ]] || fail "the marks between the stages of Dockerfile are gone"
diff <(stages Dockerfile) <(stages Dockerfile.host) || fail "the second halves of Dockerfile and Dockerfile.host differ"

step "compose files"
if docker compose version >/dev/null 2>&1; then compose=(docker compose)
elif docker-compose version >/dev/null 2>&1; then compose=(docker-compose)
else compose=(); echo "SKIPPED compose files: neither \`docker compose\` nor docker-compose is here"; fi
check_compose() {
  local files=() overlay config
  for overlay in "$@"; do files+=(-f "$overlay"); done
  config=$("${compose[@]}" "${files[@]}" config 2>&1) || fail "$*: $config"
  # Ports reach this machine alone unless PACELINE_BIND says otherwise. 1.29 prints a port on one line, v2 on several.
  if grep -E '^ +- "?[0-9.]*:?[0-9]+:[0-9]+(/tcp)?"?$' <<< "$config" | grep -v ' "\?127\.0\.0\.1:'; then
    fail "$*: a port is open to other machines"
  fi
  [[ $(grep -c 'published:' <<< "$config") == $(grep -c 'host_ip: 127.0.0.1' <<< "$config") ]] ||
    fail "$*: a port is open to other machines"
  if [[ $(grep -c 'cap_drop:' <<< "$config") != $(grep -cE '^    image:' <<< "$config") ]]; then
    fail "$*: a service keeps its capabilities"
  fi
}
if [[ ${#compose[@]} -gt 0 ]]; then
  check_compose compose.yaml
  for overlay in compose.*.yaml; do check_compose compose.yaml "$overlay"; done
  check_compose compose.yaml compose.tls.yaml compose.cuda.yaml compose.observability.yaml compose.chaos.yaml
fi

step "alerts and dashboard"
if command -v promtool >/dev/null; then
  (cd observability && promtool check config --syntax-only prometheus.yml && promtool test rules alerts.test.yml) >/dev/null
else
  echo "SKIPPED alerts: no promtool here"
fi
# A metric that nobody tells of is a panel that stays empty.
if [[ -e ../docs/observability.md ]]; then
  while read -r metric; do
    grep -qE "\`(${metric}|${metric%_*})\`" ../docs/observability.md || fail "docs/observability.md does not know $metric"
  done < <(grep -hoE '\b(paceline|rpc_server)_[a-z_]+' observability/alerts.yml observability/grafana/dashboards/paceline.json | sort -u)
else
  echo "SKIPPED names of metrics: there is no docs/observability.md to compare with"
fi

step "the chart"
helm/check.sh
