{{/* What every pod of ours has in common. Arguments: root, optionally user and group. */}}
{{- define "quintile.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user | default 65532 }}
runAsGroup: {{ .user | default 65532 }}
fsGroup: {{ .user | default 65532 }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "quintile.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "quintile.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Settings of every service. Arguments: root, part. */}}
{{- define "quintile.env" -}}
- {name: QUINTILE_HOST, value: "0.0.0.0"}
- {name: QUINTILE_PORT, value: "8420"}
- {name: QUINTILE_METRICS_PORT, value: "9090"}
- {name: QUINTILE_HOME, value: /tmp/quintile}
- {name: QUINTILE_KEYS, value: /etc/quintile/keys}
- {name: QUINTILE_PUBLIC_URL, value: {{ .root.Values.publicUrl | quote }}}
- {name: QUINTILE_API_URL, value: {{ include "quintile.address" (dict "root" .root "part" "api") }}}
- {name: QUINTILE_LABELING_URL, value: {{ include "quintile.address" (dict "root" .root "part" "labeling") }}}
- {name: QUINTILE_LOGS__LEVEL, value: {{ .root.Values.logs.level }}}
- {name: QUINTILE_LOGS__FORMAT, value: {{ .root.Values.logs.format }}}
- {name: QUINTILE_KUBERNETES__NAMESPACE, value: {{ .root.Release.Namespace }}}
{{- end -}}

{{/* Settings of the services with tables and objects: API and labeling service. */}}
{{- define "quintile.storesEnv" -}}
{{ include "quintile.tablesEnv" . }}
{{ include "quintile.objectsEnv" . }}
{{- end -}}

{{/* Who and where: projects, names, the database. */}}
{{- define "quintile.tablesEnv" -}}
- {name: QUINTILE_ADMIN, value: {{ .Values.admin }}}
- {name: QUINTILE_KUBERNETES__NAMESPACES, value: {{ include "quintile.namespaces" . | quote }}}
- {name: QUINTILE_API__ALLOWED_HOSTS, value: {{ include "quintile.hosts" . | quote }}}
- {name: QUINTILE_API__ALLOWED_ORIGINS, value: {{ join "," .Values.api.allowedOrigins | quote }}}
{{- if .Values.postgresql.enabled }}
- name: DATABASE_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "quintile.keys" . }}, key: postgresql-password}}
- name: QUINTILE_DATABASE__URL
  value: postgresql+psycopg2://quintile:$(DATABASE_PASSWORD)@{{ include "quintile.name" . }}-postgresql:5432/quintile
{{- else }}
- name: QUINTILE_DATABASE__URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret | quote }}, key: {{ .Values.database.urlKey }}}}
{{- end }}
{{- end -}}

{{- define "quintile.objectsEnv" -}}
- {name: QUINTILE_S3__BUCKET, value: {{ .Values.s3.bucket }}}
- {name: QUINTILE_S3__REGION, value: {{ .Values.s3.region }}}
{{- if .Values.minio.enabled }}
- {name: QUINTILE_S3__ENDPOINT, value: "http://{{ include "quintile.name" . }}-minio.{{ .Release.Namespace }}.svc:9000"}
- name: QUINTILE_S3__ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ include "quintile.keys" . }}, key: minio-access-key}}
- name: QUINTILE_S3__SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ include "quintile.keys" . }}, key: minio-secret-key}}
{{- else }}
- {name: QUINTILE_S3__ENDPOINT, value: {{ .Values.s3.endpoint | quote }}}
- name: QUINTILE_S3__ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.s3.existingSecret | quote }}, key: {{ .Values.s3.accessKeyKey }}}}
- name: QUINTILE_S3__SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.s3.existingSecret | quote }}, key: {{ .Values.s3.secretKeyKey }}}}
{{- end }}
{{- end -}}

{{/* Further settings, as the values name them. Arguments: a service's values. */}}
{{- define "quintile.moreEnv" -}}
{{- range $key, $value := .env }}
- {name: {{ $key }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* The Deployment of a service. Arguments: root, part, values, env, keys (files it may read), cluster (whether it speaks to Kubernetes). */}}
{{- define "quintile.deployment" -}}
{{- $name := printf "%s-%s" (include "quintile.name" .root) .part -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
spec:
  replicas: {{ .values.replicas }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels: {{- include "quintile.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- with .values.podLabels }}{{ toYaml . | nindent 8 }}{{ end }}
        {{- include "quintile.labels" . | nindent 8 }}
      {{- with .values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: {{ .cluster }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: 30
      {{- include "quintile.pullSecrets" .root | nindent 6 }}
      securityContext: {{- include "quintile.podSecurity" (dict) | nindent 8 }}
      {{- with .values.priorityClass }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "quintile.selector" . | nindent 14 }}
      containers:
        - name: {{ .part }}
          image: {{ include "quintile.image" (dict "root" .root "image" .root.Values.image) }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [python, -m, {{ printf "quintile_%s.main" .part }}]
          securityContext: {{- include "quintile.containerSecurity" . | nindent 12 }}
          env:
            {{- include "quintile.env" . | nindent 12 }}
            {{- .env | nindent 12 }}
            {{- include "quintile.moreEnv" .values | nindent 12 }}
          ports:
            - {name: http, containerPort: 8420}
            - {name: metrics, containerPort: 9090}
          startupProbe:
            httpGet: {path: /healthz, port: http, httpHeaders: [{name: Host, value: localhost}]}
            periodSeconds: 2
            failureThreshold: 90
          livenessProbe:
            httpGet: {path: /healthz, port: http, httpHeaders: [{name: Host, value: localhost}]}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: http, httpHeaders: [{name: Host, value: localhost}]}
            periodSeconds: 3
            timeoutSeconds: 5
            failureThreshold: 3
          resources: {{- toYaml .values.resources | nindent 12 }}
          volumeMounts:
            - {name: keys, mountPath: /etc/quintile/keys, readOnly: true}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: keys
          secret:
            secretName: {{ include "quintile.keys" .root }}
            defaultMode: 0440
            items:
              {{- range .keys }}
              - {key: {{ . }}, path: {{ . }}}
              {{- end }}
        - name: tmp
          emptyDir: {}
{{- end -}}

{{/* ServiceAccount, Service (if it has a type) and budget of a part. Arguments: root, part, values, cluster, type, annotations. */}}
{{- define "quintile.around" -}}
{{- $name := printf "%s-%s" (include "quintile.name" .root) .part -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
automountServiceAccountToken: {{ .cluster }}
{{- if .type }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ .type }}
  selector: {{- include "quintile.selector" . | nindent 4 }}
  ports:
    - {name: http, port: 8420, targetPort: http}
{{- end }}
{{- if and .values.disruptionBudget (gt (int .values.replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
spec:
  minAvailable: 1
  selector:
    matchLabels: {{- include "quintile.selector" . | nindent 6 }}
{{- end }}
{{- end -}}
