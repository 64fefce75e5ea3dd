{{/* Rules of NetworkPolicies; each define is a YAML list of rules. */}}
{{- define "quintile.dnsEgress" -}}
{{- $dns := .Values.networkPolicies.dns -}}
- to:
    - namespaceSelector:
        matchLabels: {{- toYaml $dns.namespaceLabels | nindent 10 }}
      {{- with $dns.podLabels }}
      podSelector:
        matchLabels: {{- toYaml . | nindent 10 }}
      {{- end }}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{- define "quintile.kubernetesEgress" -}}
- to:
    {{- range .Values.networkPolicies.kubernetesApi.cidrs }}
    - ipBlock:
        cidr: {{ . }}
        {{- if eq . "0.0.0.0/0" }}
        except: [169.254.0.0/16]
        {{- end }}
    {{- end }}
  ports:
    {{- range .Values.networkPolicies.kubernetesApi.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}

{{/* To one of our parts. Arguments: root, part, port. */}}
{{- define "quintile.partEgress" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: {{ .root.Release.Namespace }}}
      podSelector:
        matchLabels: {{- include "quintile.selector" . | nindent 10 }}
  ports:
    - {protocol: TCP, port: {{ .port }}}
{{- end -}}

{{- define "quintile.s3Egress" -}}
{{- if .Values.minio.enabled -}}
{{ include "quintile.partEgress" (dict "root" . "part" "minio" "port" 9000) }}
{{- else if .Values.s3.egress -}}
{{ toYaml .Values.s3.egress }}
{{- end -}}
{{- end -}}

{{- define "quintile.databaseEgress" -}}
{{- if .Values.postgresql.enabled -}}
{{ include "quintile.partEgress" (dict "root" . "part" "postgresql" "port" 5432) }}
{{- else if .Values.database.egress -}}
{{ toYaml .Values.database.egress }}
{{- end -}}
{{- end -}}

{{/* What workers reach beside each other. */}}
{{- define "quintile.workerEgress" -}}
{{ include "quintile.dnsEgress" . }}
{{ include "quintile.partEgress" (dict "root" . "part" "api" "port" 8420) }}
{{ include "quintile.s3Egress" . }}
{{- with .Values.workers.egress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Peers: the workers of all projects. */}}
{{- define "quintile.workerPeers" -}}
{{- if eq .Values.scope "cluster" -}}
- namespaceSelector: {}
  podSelector:
    matchLabels: {quintile.dev/managed-by: quintile-operator}
{{- else -}}
- namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values: {{ include "quintile.namespaces" . | splitList "," | toJson }}
  podSelector:
    matchLabels: {quintile.dev/managed-by: quintile-operator}
{{- end -}}
{{- end -}}

{{/* Peers: our own pods. Arguments: root, parts. */}}
{{- define "quintile.partPeers" -}}
{{- range .parts }}
- podSelector:
    matchLabels: {{- include "quintile.selector" (dict "root" $.root "part" .) | nindent 6 }}
{{- end }}
{{- end -}}

{{/* One policy. Arguments: root, part, ingress, egress (YAML texts of lists). */}}
{{- define "quintile.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "quintile.name" .root }}-{{ .part }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "quintile.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress: {{- if .ingress | trim }}{{ .ingress | trim | nindent 4 }}{{ else }} []{{ end }}
  egress: {{- if .egress | trim }}{{ .egress | trim | nindent 4 }}{{ else }} []{{ end }}
{{- end -}}
