{{/* A server for trying out: StatefulSet, Service, ServiceAccount. Arguments: root, part, port, values, command, env, probe, folders (writable, beside /tmp and the volume). */}}
{{- define "quintile.bundled" -}}
{{- $name := printf "%s-%s" (include "quintile.name" .root) .part -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
spec:
  selector: {{- include "quintile.selector" . | nindent 4 }}
  ports:
    - {name: {{ .part }}, port: {{ .port }}, targetPort: {{ .port }}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
spec:
  replicas: 1
  serviceName: {{ $name }}
  selector:
    matchLabels: {{- include "quintile.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "quintile.labels" . | nindent 8 }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- include "quintile.pullSecrets" .root | nindent 6 }}
      securityContext: {{- include "quintile.podSecurity" (dict "user" .values.user) | nindent 8 }}
      containers:
        - name: {{ .part }}
          image: {{ include "quintile.image" (dict "root" .root "image" .values.image) }}
          imagePullPolicy: {{ .values.image.pullPolicy }}
          command: [sh, -ec, {{ .command | quote }}]
          securityContext: {{- include "quintile.containerSecurity" . | nindent 12 }}
          env: {{- .env | nindent 12 }}
          ports:
            - {name: {{ .part }}, containerPort: {{ .port }}}
          startupProbe: {{- mergeOverwrite (deepCopy .probe) (dict "periodSeconds" 2 "failureThreshold" 60) | toYaml | nindent 12 }}
          livenessProbe: {{- mergeOverwrite (deepCopy .probe) (dict "periodSeconds" 10 "failureThreshold" 6) | toYaml | nindent 12 }}
          readinessProbe: {{- mergeOverwrite (deepCopy .probe) (dict "periodSeconds" 3) | toYaml | nindent 12 }}
          resources: {{- toYaml .values.resources | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: /data}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: tmp
          emptyDir: {}
  volumeClaimTemplates:
    - metadata:
        name: data
        labels: {{- include "quintile.selector" . | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .values.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ .values.size }}}
{{- end -}}
