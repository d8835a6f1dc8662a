{{/* Names, labels and what coordinator and workers have in common. */}}

{{- define "paceline.name" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "paceline.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "paceline.labels" -}}
{{ include "paceline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* A list of the root and the image's name. */}}
{{- define "paceline.image" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}{{ index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* Where workers find the coordinator: the service that does not wait for readiness. */}}
{{- define "paceline.address" -}}
{{ eq .Values.security.mode "tls" | ternary "https" "http" }}://{{ include "paceline.name" . }}-workers.{{ .Release.Namespace }}.svc:{{ .Values.coordinator.service.port }}
{{- end }}

{{- define "paceline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "paceline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Settings that each fit by themselves and not together. */}}
{{- define "paceline.check" -}}
{{- $c := .Values.coordinator -}}
{{- if ge (mul 3 (int $c.heartbeatSeconds)) (int $c.leaseSeconds) }}{{ fail "coordinator.heartbeatSeconds must be less than a third of coordinator.leaseSeconds, so that two heartbeats may get lost before a lease is" }}{{ end -}}
{{- if ge (int $c.drainSeconds) (int $c.terminationGracePeriodSeconds) }}{{ fail "coordinator.terminationGracePeriodSeconds must be more than coordinator.drainSeconds, or the drain is cut off" }}{{ end -}}
{{- if ge (int $c.leaseSeconds) (int .Values.workerDefaults.terminationGracePeriodSeconds) }}{{ fail "workerDefaults.terminationGracePeriodSeconds must be more than coordinator.leaseSeconds, or a worker is ended before its lease can be given back" }}{{ end -}}
{{- if eq .Values.security.mode "tls" -}}
{{- if not .Values.security.certificateSecret }}{{ fail "security.mode tls needs security.certificateSecret: a secret with tls.crt, tls.key and ca.crt (or let cert-manager make it)" }}{{ end -}}
{{- if not .Values.security.workerTokenSecret }}{{ fail "security.mode tls needs security.workerTokenSecret: a secret with the workers' token under the key token" }}{{ end -}}
{{- if and .Values.security.clientAuthoritySecret (not .Values.security.workerCertificateSecret) }}{{ fail "security.clientAuthoritySecret needs security.workerCertificateSecret: workers must show a certificate too" }}{{ end -}}
{{- if and .Values.security.certManager.enabled (not .Values.security.certManager.issuer) }}{{ fail "security.certManager.enabled needs security.certManager.issuer" }}{{ end -}}
{{- end -}}
{{- if and .Values.monitoring.serviceMonitor.enabled (not .Values.admin.enabled) }}{{ fail "monitoring.serviceMonitor.enabled needs admin.enabled: metrics are on the admin port" }}{{ end -}}
{{- range $class, $worker := .Values.workers -}}
{{- with $worker.autoscaling }}
{{- if and $worker.enabled (ne .kind "none") (not $.Values.admin.enabled) }}{{ fail (printf "workers.%s.autoscaling needs admin.enabled: paceline_pending_slots is on the admin port" $class) }}{{ end -}}
{{- if gt (int .minReplicas) (int .maxReplicas) }}{{ fail (printf "workers.%s.autoscaling.minReplicas is more than maxReplicas" $class) }}{{ end -}}
{{- if and (eq .kind "hpa") (lt (int .minReplicas) 1) }}{{ fail (printf "workers.%s.autoscaling: a HorizontalPodAutoscaler keeps at least one worker; kind keda may go to 0" $class) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}
