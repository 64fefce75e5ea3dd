#!/usr/bin/env bash
# Install both charts for trying out, in the cluster that kubectl speaks to: deploy/kind/install.sh [TAG] [HELM ARGUMENTS]
#
# NAMESPACE    of the platform (quintile-system).
# PROJECT      namespace of the first project (team-a).
# CRDS=0       leaves the kinds alone: they are there already.
# REGISTRY     where nodes pull the images; empty: they are on the nodes already.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${1:-dev}
shift || true
space=${NAMESPACE:-quintile-system}
project=${PROJECT:-team-a}
for name in "$space" "$project"; do
  kubectl create namespace "$name" --dry-run=client --output yaml | kubectl apply --filename - > /dev/null
  kubectl label namespace "$name" --overwrite pod-security.kubernetes.io/enforce=restricted > /dev/null
done
kubectl label namespace "$project" --overwrite "quintile.dev/project=$project" > /dev/null
if [ "${CRDS:-1}" != 0 ]; then
  helm upgrade --install quintile-crds charts/quintile-crds --namespace "$space" --take-ownership
fi
helm upgrade --install quintile charts/quintile --namespace "$space" \
  --values deploy/values-tryout.yaml --set "projects[0].namespace=$project" \
  --set "imageRegistry=${REGISTRY:-}" --set "image.tag=$tag" --set "workers.image.tag=$tag" \
  --wait --timeout 5m "$@"
