{{/* keymill.toml: the chart's own settings, and those of `config`. */}}

{{- define "keymill.settings" -}}
{{- $values := .Values -}}
{{- $tcp := ternary (printf "%s:5645" $values.listenAddress) "127.0.0.1:5645" (ne (include "keymill.hasTcp" .) "") -}}
{{- $listen := dict "tcp" $tcp "socket" "/run/keymill/keymill.sock" "admin" (printf "%s:5646" $values.listenAddress) "admin_beyond_loopback" true -}}
{{- $store := dict "url" $values.store.url "path" "/var/lib/keymill/node/keystore.db" "root_key" "/run/keymill-secrets/root.key" -}}
{{- if $values.store.passwordSecret.name }}{{ $_ := set $store "password_file" "/run/keymill-secrets/password" }}{{ end -}}
{{- if $values.store.caSecret.name }}{{ $_ := set $store "ca_file" "/etc/keymill-database/ca.crt" }}{{ end -}}
{{- $own := dict "region" $values.region "account" $values.account "listen" $listen "store" $store -}}
{{- $_ := set $own "audit" (dict "path" "/var/lib/keymill/node/audit") -}}
{{- $_ := set $own "log" (dict "format" "json") -}}
{{- if $values.tls.secret }}{{ $_ := set $own "tls" (dict "certificate" "/etc/keymill-tls/tls.crt" "key" "/etc/keymill-tls/tls.key") }}{{ end -}}
{{- with $values.webIdentity }}{{ if .enabled -}}
{{- $issuer := dict "url" .issuer "audiences" .audiences "jwks_url" .jwksUrl "ca_file" "/run/keymill-cluster/ca.crt" "bearer_token_file" "/run/keymill-cluster/token" -}}
{{- $_ := set $own "issuers" (dict "cluster" $issuer) -}}
{{- end }}{{ end -}}
{{- range $section, $settings := $values.config -}}
{{- $there := get $own $section | default dict -}}
{{- range $key, $value := $settings -}}
{{- if and (kindIs "map" $there) (hasKey $there $key) -}}
{{- fail (printf "config.%s.%s: the chart sets it by itself; take it out of config" $section $key) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $own $section (merge $there $settings) -}}
{{- end -}}
{{- $own | toJson -}}
{{- end }}

{{- define "keymill.toml.value" -}}
{{- if kindIs "bool" . -}}
{{- printf "%t" . -}}
{{- else if kindIs "slice" . -}}
[{{ range $at, $value := . }}{{ if $at }}, {{ end }}{{ include "keymill.toml.value" $value }}{{ end }}]
{{- else if kindIs "string" . -}}
{{- toJson . -}}
{{- else if and (or (kindIs "float64" .) (kindIs "int64" .) (kindIs "int" .)) (eq (float64 (int64 .)) (float64 .)) -}}
{{- printf "%d" (int64 .) -}}
{{- else -}}
{{- fail (printf "config: %v is no setting: whole numbers, texts, booleans and lists of texts are" .) -}}
{{- end -}}
{{- end }}

{{/* The keys of a table, then the tables in it. */}}
{{- define "keymill.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table }}{{ if not (kindIs "map" $value) }}
{{ toJson $key }} = {{ include "keymill.toml.value" $value }}
{{- end }}{{ end }}
{{- range $key, $value := .table }}{{ if kindIs "map" $value }}
{{- $below := append $path (toJson $key) }}

[{{ join "." $below }}]
{{- include "keymill.toml" (dict "path" $below "table" $value) }}
{{- end }}{{ end }}
{{- end }}

{{- define "keymill.file" -}}
{{- include "keymill.toml" (dict "path" list "table" (include "keymill.settings" . | fromJson)) | trim -}}
{{- end }}
