{{/*
Names, labels, and values shared by the templates.
*/}}

{{- define "forge.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The selector of all pods of this release. */}}
{{- define "forge.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "forge.labels" -}}
{{ include "forge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: forge
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image reference from registry, repository, tag and digest; .tag is the default tag. */}}
{{- define "forge.image" -}}
{{- with .root.Values.global.imageRegistry }}{{ . }}/{{ end -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .tag .image.tag }}
{{- end -}}
{{- end -}}

{{/*
The enabled components, as a map from name to:
  role     its role in NATS' permissions, and the key of its secret
  user     its user, if the role names none; secret: a secret of its own
  gpu      whether it executes on GPUs
  command  the subcommand of forge
  queues   the consumers of FORGE_SHARDS from which it pulls
*/}}
{{- define "forge.components" -}}
{{- $all := dict
  "planner" (dict "values" .Values.planner "role" "planner" "command" "planner")
  "worker-cpu" (dict "values" .Values.workerCpu "role" "worker" "command" "worker" "queues" (list "workers-cpu" "workers-cpu-long" "workers-any" "workers-any-long"))
  "worker-gpu" (dict "values" .Values.workerGpu "role" "worker-gpu" "command" "worker" "gpu" true "queues" (list "workers-gpu" "workers-gpu-long" "workers-any" "workers-any-long"))
  "verifier" (dict "values" .Values.verifier "role" "verifier" "command" "verifier")
  "aggregator" (dict "values" .Values.aggregator "role" "aggregator" "command" "aggregator")
-}}
{{- range .Values.workerPools -}}
{{- $gpu := eq (default "cpu" .target) "gpu" -}}
{{- $base := ternary $.Values.workerGpu $.Values.workerCpu $gpu -}}
{{- $values := mergeOverwrite (deepCopy $base) (dict "enabled" true "pool" .name) (deepCopy .) -}}
{{- $role := printf "worker-%s" .name -}}
{{- if hasKey $all $role -}}
{{- fail (printf "workerPools: two pools are named %s" .name) -}}
{{- end -}}
{{- $own := ternary "workers-gpu" "workers-cpu" $gpu -}}
{{- $queues := list $own (printf "%s-long" $own) "workers-any" "workers-any-long" -}}
{{- $_ := set $all $role (dict "values" $values "role" $role "user" (default $role .user) "secret" .credentialsSecret "command" "worker" "gpu" $gpu "queues" $queues) -}}
{{- end -}}
{{- range $name, $component := $all -}}
{{- if not $component.values.enabled -}}{{- $_ := unset $all $name -}}{{- end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* The Secret with one key per role. */}}
{{- define "forge.natsSecret" -}}
{{- if .Values.nats.auth.plainTextPasswords -}}
{{ include "forge.fullname" . }}-nats
{{- else -}}
{{ required "nats.auth.existingSecret: which Secret has the credentials of NATS?" .Values.nats.auth.existingSecret }}
{{- end -}}
{{- end -}}

{{/* The secrets with which nodes pull images, as the field of a pod; .Values gives names or objects. */}}
{{- define "forge.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (default list .Values.global.imagePullSecrets) .Values.image.pullSecrets -}}
{{- $name := . -}}
{{- if kindIs "map" . -}}{{- $name = .name -}}{{- end -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- with uniq $names }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The service account of a component. Takes root, name and values. */}}
{{- define "forge.serviceAccount" -}}
{{- default (printf "%s-%s" (include "forge.fullname" .root) .name) .values.serviceAccountName -}}
{{- end -}}

{{/*
The NATS connection of a role: environment, mounts and volumes. Takes root and role, and for a pool
of workers its user and, if it has one of its own, its secret.
*/}}
{{- define "forge.natsEnv" -}}
{{- $nats := .root.Values.nats -}}
{{- $user := default (index $nats.auth.users .role) .user -}}
{{- $variable := dict "password" "FORGE_NATS_PASSWORD_FILE" "creds" "FORGE_NATS_CREDS" "nkey" "FORGE_NATS_NKEY_FILE" -}}
- name: FORGE_NATS_INBOX_PREFIX
  value: {{ printf "_INBOX_%s" $user | quote }}
{{- if eq $nats.auth.method "password" }}
- name: FORGE_NATS_USER
  value: {{ $user | quote }}
{{- end }}
{{- if ne $nats.auth.method "none" }}
- name: {{ index $variable $nats.auth.method }}
  value: /run/forge/nats/secret
{{- end }}
{{- if $nats.tls.caSecret }}
- name: FORGE_NATS_CA
  value: /run/forge/nats-ca/ca.crt
{{- end }}
{{- if $nats.tls.clientSecret }}
- name: FORGE_NATS_CERT
  value: /run/forge/nats-tls/tls.crt
- name: FORGE_NATS_KEY
  value: /run/forge/nats-tls/tls.key
{{- end }}
{{- end -}}

{{- define "forge.natsMounts" -}}
{{- $nats := .root.Values.nats -}}
{{- if ne $nats.auth.method "none" }}
- {name: nats-auth, mountPath: /run/forge/nats, readOnly: true}
{{- end }}
{{- if $nats.tls.caSecret }}
- {name: nats-ca, mountPath: /run/forge/nats-ca, readOnly: true}
{{- end }}
{{- if $nats.tls.clientSecret }}
- {name: nats-tls, mountPath: /run/forge/nats-tls, readOnly: true}
{{- end }}
{{- end -}}

{{- define "forge.natsVolumes" -}}
{{- $nats := .root.Values.nats -}}
{{- if ne $nats.auth.method "none" }}
- name: nats-auth
  secret:
    secretName: {{ default (include "forge.natsSecret" .root) .secret }}
    defaultMode: 0440
    items:
      - {key: {{ .role }}, path: secret}
{{- end }}
{{- if $nats.tls.caSecret }}
- name: nats-ca
  secret:
    secretName: {{ $nats.tls.caSecret }}
    defaultMode: 0444
    items:
      - {key: {{ $nats.tls.caKey | quote }}, path: ca.crt}
{{- end }}
{{- if $nats.tls.clientSecret }}
- name: nats-tls
  secret:
    secretName: {{ $nats.tls.clientSecret }}
    defaultMode: 0440
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
{{- end }}
{{- end -}}
