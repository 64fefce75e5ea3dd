# A MinIO for trying the chart out (minio.enabled), around a binary of yours.
#
#   docker build -f deploy/images/minio.Dockerfile -t quintile-minio:dev --build-context binary=FOLDER .
#
# FOLDER holds the program `minio`.
ARG BASE_IMAGE=debian:bookworm-slim
FROM scratch AS binary

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="MinIO for trying out Quintile"
COPY --from=binary --chmod=755 minio /usr/local/bin/minio
USER 1000:1000
WORKDIR /tmp
EXPOSE 9000
