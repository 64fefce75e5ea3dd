{{/* Rights in a project, as rules. None of them reads a Secret, escalates or binds. */}}
{{- define "quintile.apiRules" -}}
- apiGroups: [quintile.dev]
  resources: [experiments, labelingjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [quintile.dev]
  resources: [trials]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, watch, create, patch]
{{- end -}}

{{- define "quintile.labelingRules" -}}
- apiGroups: [quintile.dev]
  resources: [experiments, labelingjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [quintile.dev]
  resources: [trials]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{- define "quintile.operatorRules" -}}
- apiGroups: [quintile.dev]
  resources: [experiments, trials]
  verbs: [get, list, watch, create, patch]
- apiGroups: [quintile.dev]
  resources: [labelingjobs]
  verbs: [get, list, watch]
- apiGroups: [quintile.dev]
  resources: [experiments/status, labelingjobs/status, trials/status]
  verbs: [patch]
- apiGroups: [quintile.dev]
  resources: [experiments/finalizers, labelingjobs/finalizers, trials/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, deletecollection]
- apiGroups: [""]
  resources: [services]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, create, patch]
{{- end -}}

{{/* A Role and its binding in one namespace. Arguments: root, part, namespace, rules, suffix. */}}
{{- define "quintile.role" -}}
{{- $account := printf "%s-%s" (include "quintile.name" .root) .part -}}
{{- $name := printf "%s%s" $account (.suffix | default "") -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ .namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
rules: {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ .namespace }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ $account }}, namespace: {{ .root.Release.Namespace }}}
---
{{- end -}}

{{/* What the operator reads beside projects: the kinds of administrators, and whether CRDs are new enough. */}}
{{- define "quintile.clusterRules" -}}
- apiGroups: [quintile.dev]
  resources: [queues, clusterruntimes]
  verbs: [get, list, watch]
- apiGroups: [quintile.dev]
  resources: [queues/status]
  verbs: [patch]
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames:
    - experiments.quintile.dev
    - trials.quintile.dev
    - labelingjobs.quintile.dev
    - queues.quintile.dev
    - clusterruntimes.quintile.dev
  verbs: [get]
{{- end -}}

{{- define "quintile.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "quintile.name" . }}-operator]
  verbs: [get, patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end -}}

{{/* The same in the whole cluster; names of cluster objects carry the namespace of the release. */}}
{{- define "quintile.clusterRole" -}}
{{- $account := printf "%s-%s" (include "quintile.name" .root) .part -}}
{{- $name := printf "%s:%s%s" .root.Release.Namespace $account (.suffix | default "") -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
rules: {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels: {{- include "quintile.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name | quote }}}
subjects:
  - {kind: ServiceAccount, name: {{ $account }}, namespace: {{ .root.Release.Namespace }}}
---
{{- end -}}
