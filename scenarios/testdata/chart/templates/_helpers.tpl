{{- define "percona-valkey.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "percona-valkey.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "percona-valkey.isCluster" -}}
{{- if eq .Values.mode "cluster" }}yes{{ end -}}
{{- end -}}

{{- define "percona-valkey.isHardened" -}}
{{- if eq .Values.image.variant "hardened" }}yes{{ end -}}
{{- end -}}

{{- define "percona-valkey.selectorLabels" -}}
app.kubernetes.io/name: {{ include "percona-valkey.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Servers are told from Jobs and tests by this label: Services and the budget select on it. */}}
{{- define "percona-valkey.serverLabels" -}}
{{ include "percona-valkey.selectorLabels" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "percona-valkey.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "percona-valkey.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The name, namespace and labels of an object: a dict with root, and suffix if there is one. */}}
{{- define "percona-valkey.metadata" -}}
name: {{ include "percona-valkey.fullname" .root }}{{ .suffix }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "percona-valkey.labels" .root | nindent 2 }}
{{- end -}}

{{- define "percona-valkey.image" -}}
{{- $suffix := ternary "-hardened" "" (eq .Values.image.variant "hardened") -}}
{{- printf "%s:%s" .Values.image.repository (default (printf "%s%s" .Chart.AppVersion $suffix) .Values.image.tag) -}}
{{- end -}}

{{/* Jobs and tests need a shell, whatever the servers run. */}}
{{- define "percona-valkey.rpmImage" -}}
{{- printf "%s:%s" .Values.image.repository .Chart.AppVersion -}}
{{- end -}}

{{- define "percona-valkey.secretName" -}}
{{- default (include "percona-valkey.fullname" .) .Values.auth.existingSecret -}}
{{- end -}}

{{- define "percona-valkey.serviceAccountName" -}}
{{- default (ternary (include "percona-valkey.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* The entrypoint reads VALKEY_PASSWORD, valkey-cli reads REDISCLI_AUTH. */}}
{{- define "percona-valkey.passwordEnv" -}}
{{- if .root.Values.auth.enabled }}
{{- range $name := list "VALKEY_PASSWORD" "REDISCLI_AUTH" }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ include "percona-valkey.secretName" $.root }}
      key: valkey-password
      {{- if $.optional }}
      optional: true
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "percona-valkey.podIP" -}}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- end -}}

{{/* How the scripts find the pods. Nothing here depends on their number: scaling must restart none. */}}
{{- define "percona-valkey.podsEnv" -}}
{{- $fullname := include "percona-valkey.fullname" . -}}
- name: HOST_PREFIX
  value: {{ $fullname }}-
- name: HOST_SUFFIX
  value: .{{ $fullname }}-headless.{{ .Release.Namespace }}.svc.cluster.local
- name: PORT
  value: "6379"
- name: BUS_PORT
  value: {{ .Values.cluster.busPort | quote }}
- name: NODE_TIMEOUT_MS
  value: {{ .Values.cluster.nodeTimeout | quote }}
{{- end -}}

{{- define "percona-valkey.podDefaults" -}}
serviceAccountName: {{ include "percona-valkey.serviceAccountName" . }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{/* The container of a tool: a dict with root, name, files (the script, in parts) and env. */}}
{{- define "percona-valkey.tool" -}}
{{- $script := "" -}}
{{- range .files }}{{- $script = printf "%s%s" $script ($.root.Files.Get (printf "scripts/%s" .)) -}}{{- end -}}
- name: {{ .name }}
  image: {{ include "percona-valkey.rpmImage" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: ["sh", "-c", {{ $script | toJson }}]
  env:
    {{- .env | trim | nindent 4 }}
  securityContext:
    {{- toYaml .root.Values.containerSecurityContext | nindent 4 }}
{{- end -}}

{{/* A hook Job: a dict with root, component, event, backoffLimit, files and optional. */}}
{{- define "percona-valkey.job" -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "percona-valkey.metadata" (dict "root" .root "suffix" (printf "-%s" .component)) | nindent 2 }}
  annotations:
    helm.sh/hook: {{ .event }}
    helm.sh/hook-weight: "5"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: {{ .backoffLimit }}
  template:
    metadata:
      labels:
        {{- include "percona-valkey.selectorLabels" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
    spec:
      {{- include "percona-valkey.podDefaults" .root | nindent 6 }}
      restartPolicy: OnFailure
      containers:
        {{- $env := include "percona-valkey.passwordEnv" (dict "root" .root "optional" .optional) }}
        {{- $env = printf "%s\n%s\n%s" $env (include "percona-valkey.podsEnv" .root) (include "percona-valkey.targetEnv" .root) }}
        {{- include "percona-valkey.tool" (dict "root" .root "name" .component "files" .files "env" $env) | nindent 8 }}
{{- end -}}

{{- define "percona-valkey.targetEnv" -}}
- name: REPLICAS
  value: {{ .Values.cluster.replicas | quote }}
- name: REPLICAS_PER_PRIMARY
  value: {{ .Values.cluster.replicasPerPrimary | quote }}
- name: TIMEOUT_SECONDS
  value: {{ add 300 (mul 4 (div (add (int .Values.cluster.nodeTimeout) 999) 1000)) | quote }}
{{- end -}}

{{- define "percona-valkey.probe" -}}
initialDelaySeconds: {{ .initialDelaySeconds }}
periodSeconds: {{ .periodSeconds }}
timeoutSeconds: {{ .timeoutSeconds }}
failureThreshold: {{ .failureThreshold }}
{{- with .successThreshold }}
successThreshold: {{ . }}
{{- end }}
{{- end -}}
