{{/* Names, labels and images. */}}

{{- define "keymill.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "keymill.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := include "keymill.name" . -}}
{{- $of := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $of | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "keymill.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "keymill.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "keymill.selector" -}}
app.kubernetes.io/name: {{ include "keymill.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "keymill.labels" -}}
{{ include "keymill.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "keymill.image" -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository .tag -}}
{{- end -}}
{{- end }}

{{/* Whether callers come over TCP. */}}
{{- define "keymill.hasTcp" -}}
{{- if .Values.tls.secret }}yes{{ end -}}
{{- end }}
