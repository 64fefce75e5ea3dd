#!/usr/bin/env bash
# Build the images of the platform: deploy/images/build.sh [TAG]
#
# BUILDER      docker (default), podman, or another program with their `build`.
# REGISTRY     put in front of the names, as registry.example.com/team; empty: none.
# BASE_IMAGE   base of control and trainer; empty: the Dockerfiles' own.
# BUILD_ARGS   further arguments of every build, as "--secret id=pip,src=pip.conf".
# TRAINER_ARGS of the trainer's alone, as "--build-arg TORCH=cuda --build-arg HOROVOD=1".
# TRYOUT=1     also quintile-postgres, for postgresql.enabled where no public image can be pulled.
# MINIO        folder with the program minio: also quintile-minio, for minio.enabled.
# TRYOUT_BASE  base of these two; empty: the Dockerfiles' own.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${1:-dev}
builder=${BUILDER:-docker}
prefix=${REGISTRY:+$REGISTRY/}
read -r -a more <<< "${BUILD_ARGS:-}"
read -r -a trainer <<< "${TRAINER_ARGS:-}"
[ -n "${BASE_IMAGE:-}" ] && more+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")

build() { # NAME DOCKERFILE CONTEXT [ARGUMENTS]
  local name=$prefix$1:$tag dockerfile=$2 context=$3
  shift 3
  echo "== $name" >&2
  "$builder" build --tag "$name" --file "$dockerfile" "$@" "$context"
}

build quintile-control deploy/images/control.Dockerfile . "${more[@]}"
build quintile-trainer trainer-image/Dockerfile . "${more[@]}" "${trainer[@]}"
tryout=()
[ -n "${TRYOUT_BASE:-}" ] && tryout+=(--build-arg "BASE_IMAGE=$TRYOUT_BASE")
if [ "${TRYOUT:-}" = 1 ]; then
  build quintile-postgres deploy/images/postgres.Dockerfile deploy/images "${tryout[@]}"
fi
if [ -n "${MINIO:-}" ]; then
  build quintile-minio deploy/images/minio.Dockerfile deploy/images --build-context "binary=$MINIO" "${tryout[@]}"
fi
