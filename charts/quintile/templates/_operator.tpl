{{- define "quintile.operatorEnv" -}}
{{- $workers := .Values.workers -}}
- {name: QUINTILE_KUBERNETES__NAMESPACES, value: {{ eq .Values.scope "cluster" | ternary "" (include "quintile.namespaces" .) | quote }}}
- {name: QUINTILE_KUBERNETES__LEASE_NAME, value: {{ include "quintile.name" . }}-operator}
- {name: QUINTILE_KUBERNETES__WORKER_IMAGE, value: {{ include "quintile.image" (dict "root" . "image" $workers.image) }}}
- {name: QUINTILE_KUBERNETES__WORKER_PULL_POLICY, value: {{ $workers.image.pullPolicy }}}
- {name: QUINTILE_KUBERNETES__WORKER_PULL_SECRETS, value: {{ join "," $workers.pullSecrets | quote }}}
- {name: QUINTILE_KUBERNETES__WORKER_SERVICE_ACCOUNT, value: {{ $workers.serviceAccount }}}
- {name: QUINTILE_KUBERNETES__WORKER_USER, value: {{ $workers.user | quote }}}
- {name: QUINTILE_KUBERNETES__WORKER_SCRATCH_GIB, value: {{ $workers.scratchGiB | quote }}}
- {name: QUINTILE_KUBERNETES__WORKER_MEMORY_GIB, value: {{ $workers.memoryGiB | quote }}}
- {name: QUINTILE_KUBERNETES__WORKER_PENDING_DEADLINE_S, value: {{ $workers.pendingDeadlineSeconds | quote }}}
- {name: QUINTILE_KUBERNETES__NETWORK_POLICIES, value: {{ .Values.networkPolicies.enabled | quote }}}
- {name: QUINTILE_KUBERNETES__EGRESS, value: {{ include "quintile.workerEgress" . | fromYamlArray | toJson | quote }}}
{{- end -}}
