{{- define "salus.labels" -}}
app.kubernetes.io/part-of: salus
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "salus.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "salus.networkConfigMap" -}}
{{ .Values.network.existingConfigMap | default (printf "%s-network" .Release.Name) }}
{{- end }}

{{- define "salus.serviceAccount" -}}
{{ .Values.serviceAccount.name | default .Release.Name }}
{{- end }}

{{/* What the services' manifests say of each, as YAML. */}}
{{- define "salus.manifests" -}}
{{ .Files.Get "manifests.yaml" }}
{{- end }}

{{/* Where a service is reached by those who read what it serves. Takes {root, name}. */}}
{{- define "salus.publicUrl" -}}
{{- if .root.Values.ingress.enabled -}}
https://{{ .name }}.{{ .root.Values.ingress.host }}
{{- else -}}
http://{{ .root.Release.Name }}-{{ .name }}
{{- end -}}
{{- end }}

{{/* What a manifest says, with its places filled in as they are in these pods. Takes {root, value, shard}. */}}
{{- define "salus.placed" -}}
{{- $value := .value | replace "{data}" "/var/lib/salus" | replace "{keys}" "/etc/salus-keys" | replace "{network}" "/etc/salus/network.json" }}
{{- $value = $value | replace "{shard}" (printf "%d" (int .shard)) | replace "{witnesses}" (include "salus.witnesses" .root) }}
{{- $root := .root }}
{{- range $name, $manifest := include "salus.manifests" .root | fromYaml }}
{{- $value = $value | replace (printf "{%s_url}" $name) (include "salus.publicUrl" (dict "root" $root "name" $name)) }}
{{- end }}
{{- $value }}
{{- end }}

{{/* Whether there is more here than a member's witness. */}}
{{- define "salus.hasPlatform" -}}
{{- if not (and .Values.witness.enabled .Values.witness.alone) }}yes{{ end -}}
{{- end }}

{{/* What listens to outsiders, as a list in JSON. */}}
{{- define "salus.exposed" -}}
{{- $names := list }}
{{- range $name, $manifest := include "salus.manifests" . | fromYaml }}
{{- $there := ternary $.Values.witness.enabled (include "salus.hasPlatform" $) (eq $manifest.instances "member") }}
{{- if and $manifest.public $there }}{{ $names = append $names $name }}{{ end }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{/* Where anchoring finds the witnesses, by key name, as JSON: the chart's own, and those of other members. */}}
{{- define "salus.witnesses" -}}
{{- $own := dict }}
{{- if .Values.witness.enabled }}{{ $own = dict .Values.witness.name (printf "http://%s-witness" .Release.Name) }}{{ end }}
{{- toJson (merge (dict) .Values.services.anchoring.witnesses $own) }}
{{- end }}

{{/* Where the object store is and what its buckets are called. */}}
{{- define "salus.storeAddress" -}}
- {name: SALUS_S3_ENDPOINT, value: {{ .Values.s3.endpoint | quote }}}
- {name: SALUS_S3_REGION, value: {{ .Values.s3.region | quote }}}
{{- range $name, $bucket := .Values.s3.buckets }}
- {name: SALUS_{{ upper $name }}_BUCKET, value: {{ $bucket | quote }}}
{{- end }}
{{- end }}

{{/* An account in the object store. Takes the name of its Secret. */}}
{{- define "salus.storeCredentials" -}}
- name: SALUS_S3_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: access-key}}
- name: SALUS_S3_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: secret-key}}
{{- end }}

{{/* Where Kafka is, and the account there. Takes {root, name}. */}}
{{- define "salus.kafkaAddress" -}}
{{- $kafka := .root.Values.kafka }}
- {name: SALUS_KAFKA_BOOTSTRAP, value: {{ $kafka.bootstrap | quote }}}
{{- if ne $kafka.protocol "PLAINTEXT" }}
- {name: SALUS_KAFKA_PROTOCOL, value: {{ $kafka.protocol | quote }}}
{{- if and $kafka.caConfigMap (hasSuffix "SSL" $kafka.protocol) }}
- {name: SALUS_KAFKA_CA_FILE, value: /etc/salus-kafka-ca/ca.crt}
{{- end }}
{{- if eq $kafka.protocol "SSL" }}
- {name: SALUS_KAFKA_CERTIFICATE_FILE, value: /etc/salus-kafka/tls.crt}
- {name: SALUS_KAFKA_KEY_FILE, value: /etc/salus-kafka/tls.key}
{{- else }}
- {name: SALUS_KAFKA_MECHANISM, value: {{ $kafka.mechanism | quote }}}
- name: SALUS_KAFKA_USER
  valueFrom: {secretKeyRef: {name: {{ $kafka.secretPrefix }}{{ .name }}, key: username}}
- {name: SALUS_KAFKA_PASSWORD_FILE, value: /etc/salus-kafka/password}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the account's files are mounted, and their volumes. Both take {root, name}. */}}
{{- define "salus.kafkaMounts" -}}
{{- $kafka := .root.Values.kafka }}
{{- if ne $kafka.protocol "PLAINTEXT" }}
- {name: kafka, mountPath: /etc/salus-kafka, readOnly: true}
{{- if and $kafka.caConfigMap (hasSuffix "SSL" $kafka.protocol) }}
- {name: kafka-ca, mountPath: /etc/salus-kafka-ca, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- define "salus.kafkaVolumes" -}}
{{- $kafka := .root.Values.kafka }}
{{- if ne $kafka.protocol "PLAINTEXT" }}
- name: kafka
  secret:
    secretName: {{ $kafka.secretPrefix }}{{ .name }}
    defaultMode: 0440
    items:
      {{- range ternary (list "tls.crt" "tls.key") (list "password") (eq $kafka.protocol "SSL") }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- if and $kafka.caConfigMap (hasSuffix "SSL" $kafka.protocol) }}
- name: kafka-ca
  configMap: {name: {{ $kafka.caConfigMap }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether a service is told of a KMS that is no file beside its key. Takes {root, name}. */}}
{{- define "salus.hasKms" -}}
{{- $manifest := index (include "salus.manifests" .root | fromYaml) .name }}
{{- if and .root.Values.kms.uri (hasKey $manifest.settings "SALUS_KMS") }}yes{{ end -}}
{{- end }}

{{/* The environment of a service of the platform, as its manifest says. Takes {root, name, settings, shard}. */}}
{{- define "salus.environment" -}}
{{- $manifest := index (include "salus.manifests" .root | fromYaml) .name }}
{{- $database := .settings.database }}
- {name: SALUS_SERVICE_NAME, value: {{ .name | quote }}}
- {name: SALUS_HTTP_HOST, value: "0.0.0.0"}
- {name: SALUS_HTTP_PORT, value: "8080"}
- {name: SALUS_NETWORK_FILE, value: /etc/salus/network.json}
- {name: SALUS_SIGNING_KEY_FILE, value: /etc/salus-keys/{{ .name }}.pem}
{{ include "salus.kafkaAddress" . }}
{{- with index .root.Values.s3.secrets .name }}
{{ include "salus.storeAddress" $.root }}
{{ include "salus.storeCredentials" . }}
{{- end }}
- {name: SALUS_LOG_LEVEL, value: {{ .root.Values.telemetry.logLevel | quote }}}
{{- with .root.Values.telemetry.otlpEndpoint }}
- {name: SALUS_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- if $manifest.database }}
{{- if $database.existingSecret }}
- {name: SALUS_DATABASE_URL, valueFrom: {secretKeyRef: {name: {{ $database.existingSecret }}, key: url}}}
- {name: SALUS_RELEASE, value: {{ .root.Values.release | default .root.Release.Revision | int64 | quote }}}
{{- else }}
- {name: SALUS_DATABASE_URL, value: "sqlite+aiosqlite:////var/lib/salus/{{ .name }}.db"}
{{- end }}
{{- end }}
{{- range $setting, $value := $manifest.settings }}
{{- if and (eq $setting "SALUS_KMS") $.root.Values.kms.uri }}
- {name: {{ $setting }}, value: {{ $.root.Values.kms.uri | quote }}}
{{- else }}
- {name: {{ $setting }}, value: {{ include "salus.placed" (dict "root" $.root "value" $value "shard" ($.shard | default 0)) | toJson }}}
{{- end }}
{{- end }}
{{- end }}

{{/* The pod of a service. Takes {root, name, settings, shard (of what has one), persistent}; and, for what is no
service of the platform, {environment, files (key names), keysSecret} in place of the usual. */}}
{{- define "salus.pod" -}}
{{- $manifest := index (include "salus.manifests" .root | fromYaml) .name }}
{{- $shard := .shard | default 0 }}
{{- $root := .root }}
serviceAccountName: {{ include "salus.serviceAccount" .root }}
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
terminationGracePeriodSeconds: 30
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
containers:
  - name: {{ .name }}
    image: {{ include "salus.image" .root | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args: [python, -m, salus.{{ .name }}]
    ports:
      - {name: http, containerPort: 8080}
    env:
      {{- .environment | default (include "salus.environment" .) | nindent 6 }}
      {{- with .settings.extraEnv }}{{ toYaml . | nindent 6 }}{{ end }}
    startupProbe:
      httpGet: {path: {{ $manifest.probes.alive }}, port: http}
      periodSeconds: 2
      failureThreshold: {{ div (int $manifest.probes.startSecondsMax) 2 }}
    livenessProbe:
      httpGet: {path: {{ $manifest.probes.alive }}, port: http}
      periodSeconds: 10
      timeoutSeconds: 5
    readinessProbe:
      httpGet: {path: {{ $manifest.probes.ready }}, port: http}
      periodSeconds: 5
      timeoutSeconds: 10
    resources: {{ toYaml .settings.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts:
      - {name: network, mountPath: /etc/salus, readOnly: true}
      - {name: keys, mountPath: /etc/salus-keys, readOnly: true}
      - {name: tmp, mountPath: /tmp}
      - {name: data, mountPath: /var/lib/salus}
      {{- if not .environment }}
      {{- include "salus.kafkaMounts" . | nindent 6 }}
      {{- if and (include "salus.hasKms" .) .root.Values.kms.secret }}
      - {name: kms, mountPath: /etc/salus-kms, readOnly: true}
      {{- end }}
      {{- end }}
volumes:
  {{- if not .environment }}
  {{- include "salus.kafkaVolumes" . | nindent 2 }}
  {{- if and (include "salus.hasKms" .) .root.Values.kms.secret }}
  - name: kms
    secret: {secretName: {{ .root.Values.kms.secret }}, defaultMode: 0440}
  {{- end }}
  {{- end }}
  - name: network
    configMap: {name: {{ include "salus.networkConfigMap" .root }}}
  - name: keys
    secret:
      secretName: {{ .keysSecret | default .root.Values.network.keysSecret }}
      defaultMode: 0440
      items:
        {{- $files := .files | default $manifest.files }}
        {{- if and (not .environment) (include "salus.hasKms" .) }}{{ $files = without $files "kms" }}{{ end }}
        {{- range $files }}
        {{- $file := include "salus.placed" (dict "root" $root "value" . "shard" $shard) }}
        - {key: {{ $file }}, path: {{ $file }}}
        {{- end }}
  - name: tmp
    emptyDir: {}
  {{- if not .persistent }}
  - name: data
    emptyDir: {}
  {{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
