#!/usr/bin/env bash
# A cluster on this machine with the images in it: deploy/kind/up.sh [TAG]
#
# Needs kind, kubectl, and the images that deploy/images/build.sh made.
# CLUSTER      name of the kind cluster (quintile).
# Afterwards:  deploy/kind/install.sh [TAG]
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${1:-dev}
cluster=${CLUSTER:-quintile}
command -v kind > /dev/null || { echo "kind is not on PATH: https://kind.sigs.k8s.io" >&2; exit 2; }
if ! kind get clusters | grep -qx "$cluster"; then
  kind create cluster --name "$cluster" --config deploy/kind/cluster.yaml --wait 120s
fi
for image in quintile-control quintile-trainer; do
  kind load docker-image --name "$cluster" "$image:$tag"
done
echo "kubectl config use-context kind-$cluster && deploy/kind/install.sh $tag"
