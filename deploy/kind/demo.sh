#!/usr/bin/env bash
# The demo in the cluster that kubectl speaks to: installs the platform, runs it, removes all of it: deploy/kind/demo.sh [TAG] [HELM ARGUMENTS]
#
# NAMESPACE    of the platform (quintile-demo); PROJECT (quintile-demo-project); both are deleted at the end.
# KEEP=1       leaves everything there to be looked at.
# PYTHON       an interpreter with Quintile (.venv/bin/python).
# REGISTRY     where nodes pull the images; empty: they are on the nodes already.
set -euo pipefail
cd "$(dirname "$0")/../.."
export NAMESPACE=${NAMESPACE:-quintile-demo} PROJECT=${PROJECT:-quintile-demo-project}
python=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
forward=

finish() {
  code=$?
  [ -n "$forward" ] && kill "$forward" 2> /dev/null || true
  rm -rf "$folder"
  if [ "${KEEP:-}" != 1 ]; then
    kubectl --namespace "$PROJECT" delete experiments,labelingjobs --all --ignore-not-found > /dev/null || true
    helm uninstall quintile --namespace "$NAMESPACE" --ignore-not-found > /dev/null || true
    kubectl delete namespace "$NAMESPACE" "$PROJECT" --ignore-not-found > /dev/null || true
  fi
  exit "$code"
}
trap finish EXIT

deploy/kind/install.sh "$@" > /dev/null
export QUINTILE_PROJECT=$PROJECT QUINTILE_TOKEN
QUINTILE_TOKEN=$(kubectl --namespace "$NAMESPACE" exec deploy/quintile-api -- python -m quintile_api.main admin-token)
kubectl --namespace "$NAMESPACE" port-forward service/quintile-api :8420 > "$folder/forward" &
forward=$!
for _ in $(seq 100); do
  port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$folder/forward")
  [ -n "$port" ] && break
  sleep 0.1
done
export QUINTILE_URL=http://127.0.0.1:${port:?the port-forward did not start}
PYTHONSAFEPATH=1 "$python" -m quintile.cli demo --connect
