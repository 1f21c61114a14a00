{{/* The pod of a node, which both kinds have. */}}

{{- define "keymill.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "keymill.pod" -}}
metadata:
  labels:
    {{- include "keymill.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # Another configuration is another pod.
    checksum/config: {{ include "keymill.file" . | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "keymill.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.kind "StatefulSet" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{ include "keymill.selector" . | nindent 10 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    # The user of the image.
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  initContainers:
    {{- if eq .Values.kind "DaemonSet" }}
    # Folders of a host belong to root.
    - name: folders
      image: {{ include "keymill.image" .Values.initImage }}
      imagePullPolicy: {{ .Values.initImage.pullPolicy }}
      command: [chown, "10001:10001", /state, /sockets]
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        runAsGroup: 0
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          add: [CHOWN]
      resources:
        requests: {cpu: 10m, memory: 16Mi}
        limits: {memory: 64Mi}
      volumeMounts:
        - {name: state, mountPath: /state}
        - {name: sockets, mountPath: /sockets}
    {{- end }}
    # A Secret's files belong to root and are open to a group. The daemon takes its root key and the
    # password from files of its own that are closed to all others, and so is its folder of state.
    - name: secrets
      image: {{ include "keymill.image" .Values.initImage }}
      imagePullPolicy: {{ .Values.initImage.pullPolicy }}
      command:
        - sh
        - -c
        - |
          set -eu
          umask 077
          mkdir -p /var/lib/keymill/node
          cp -f /given/root-key/{{ .Values.rootKey.key }} /run/keymill-secrets/root.key
          {{- with .Values.store.passwordSecret }}{{ if .name }}
          cp -f /given/password/{{ .key }} /run/keymill-secrets/password
          {{- end }}{{ end }}
          chmod 600 /run/keymill-secrets/*
      securityContext: {{ include "keymill.confined" . | nindent 8 }}
      resources:
        requests: {cpu: 10m, memory: 16Mi}
        limits: {memory: 64Mi}
      volumeMounts:
        - {name: state, mountPath: /var/lib/keymill}
        - {name: secrets, mountPath: /run/keymill-secrets}
        - {name: root-key, mountPath: /given/root-key, readOnly: true}
        {{- if .Values.store.passwordSecret.name }}
        - {name: password, mountPath: /given/password, readOnly: true}
        {{- end }}
  containers:
    - name: keymill
      image: {{ include "keymill.image" (dict "repository" .Values.image.repository "digest" .Values.image.digest "tag" (.Values.image.tag | default .Chart.AppVersion)) }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/keymill/keymill.toml]
      ports:
        {{- if include "keymill.hasTcp" . }}
        - {name: kms, containerPort: 5645}
        {{- end }}
        - {name: admin, containerPort: 5646}
      # The first start makes the tables, and each one verifies every record: up to ten minutes.
      startupProbe:
        httpGet: {path: /live, port: admin}
        periodSeconds: 5
        failureThreshold: 120
      livenessProbe:
        httpGet: {path: /live, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      # A node that is cut off from the database is not ready, and alive.
      readinessProbe:
        httpGet: {path: /ready, port: admin}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 1
      lifecycle:
        preStop:
          # Until every Service has taken the node out.
          sleep: {seconds: 5}
      securityContext: {{ include "keymill.confined" . | nindent 8 }}
      resources: {{ toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        # The folder of a ConfigMap is open to all users, which the daemon would warn of.
        - {name: config, mountPath: /etc/keymill/keymill.toml, subPath: keymill.toml, readOnly: true}
        - {name: state, mountPath: /var/lib/keymill}
        - {name: sockets, mountPath: /run/keymill}
        - {name: secrets, mountPath: /run/keymill-secrets, readOnly: true}
        {{- if .Values.tls.secret }}
        - {name: tls, mountPath: /etc/keymill-tls, readOnly: true}
        {{- end }}
        {{- if .Values.store.caSecret.name }}
        - {name: database-ca, mountPath: /etc/keymill-database, readOnly: true}
        {{- end }}
        {{- if .Values.webIdentity.enabled }}
        - {name: cluster, mountPath: /run/keymill-cluster, readOnly: true}
        {{- end }}
        {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "keymill.fullname" . }}
        defaultMode: 0444
    # Never on a disk.
    - name: secrets
      emptyDir: {medium: Memory, sizeLimit: 1Mi}
    - name: root-key
      secret:
        secretName: {{ .Values.rootKey.secret }}
        defaultMode: 0400
        items: [{key: {{ .Values.rootKey.key }}, path: {{ .Values.rootKey.key }}}]
    {{- with .Values.store.passwordSecret }}{{ if .name }}
    - name: password
      secret:
        secretName: {{ .name }}
        defaultMode: 0400
        items: [{key: {{ .key }}, path: {{ .key }}}]
    {{- end }}{{ end }}
    {{- with .Values.store.caSecret }}{{ if .name }}
    - name: database-ca
      secret:
        secretName: {{ .name }}
        defaultMode: 0444
        items: [{key: {{ .key }}, path: ca.crt}]
    {{- end }}{{ end }}
    {{- with .Values.tls.secret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0400
    {{- end }}
    {{- if .Values.webIdentity.enabled }}
    # What shows the cluster's API server who asks for its keys.
    - name: cluster
      projected:
        defaultMode: 0400
        sources:
          - serviceAccountToken: {path: token, expirationSeconds: 3600}
          - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
    {{- end }}
    {{- if eq .Values.kind "DaemonSet" }}
    - name: state
      hostPath: {path: {{ .Values.hostPaths.state }}, type: DirectoryOrCreate}
    - name: sockets
      hostPath: {path: {{ .Values.hostPaths.run }}, type: DirectoryOrCreate}
    {{- else }}
    - name: sockets
      emptyDir: {sizeLimit: 1Mi}
    {{- end }}
    {{- with .Values.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}
