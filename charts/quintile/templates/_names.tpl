{{/* Name of all objects. */}}
{{- define "quintile.name" -}}
{{- .Values.nameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What a part's own objects are found by. Arguments: root, part. */}}
{{- define "quintile.selector" -}}
app.kubernetes.io/name: quintile
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{/* Labels of an object. Arguments: root, part. */}}
{{- define "quintile.labels" -}}
{{ include "quintile.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: quintile
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* One image as a reference. Arguments: root, image. */}}
{{- define "quintile.image" -}}
{{- $registry := .image.registry | default .root.Values.imageRegistry -}}
{{- $tail := printf ":%s" (.image.tag | default .root.Chart.AppVersion) -}}
{{- if .image.digest }}{{ $tail = printf "@%s" .image.digest }}{{ end -}}
{{- with $registry }}{{ . }}/{{ end }}{{ .image.name }}{{ $tail }}
{{- end -}}

{{- define "quintile.keys" -}}
{{- .Values.keys.existingSecret | default (printf "%s-keys" (include "quintile.name" .)) -}}
{{- end -}}

{{/* Where a part answers inside the cluster. Arguments: root, part. */}}
{{- define "quintile.address" -}}
http://{{ include "quintile.name" .root }}-{{ .part }}.{{ .root.Release.Namespace }}.svc:8420
{{- end -}}

{{- define "quintile.namespaces" -}}
{{- $names := list -}}
{{- range .Values.projects }}{{ $names = append $names .namespace }}{{ end -}}
{{- join "," $names -}}
{{- end -}}

{{/* Every name that requests may name. */}}
{{- define "quintile.hosts" -}}
{{- $name := printf "%s-api" (include "quintile.name" .) -}}
{{- $space := .Release.Namespace -}}
{{- $hosts := list "localhost" "127.0.0.1" "[::1]" $name (printf "%s.%s" $name $space) -}}
{{- $hosts = concat $hosts (list (printf "%s.%s.svc" $name $space) (printf "%s.%s.svc.cluster.local" $name $space)) -}}
{{- with .Values.publicUrl }}{{ $hosts = append $hosts (regexReplaceAll ":[0-9]+$" (urlParse .).host "") }}{{ end -}}
{{- if .Values.ingress.enabled }}{{ $hosts = concat $hosts .Values.ingress.hosts }}{{ end -}}
{{- if .Values.gateway.enabled }}{{ $hosts = concat $hosts .Values.gateway.hostnames }}{{ end -}}
{{- concat $hosts .Values.api.allowedHosts | uniq | join "," -}}
{{- end -}}
