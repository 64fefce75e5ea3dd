# A PostgreSQL for trying the chart out (postgresql.enabled) where no public image can be pulled.
#
#   docker build -f deploy/images/postgres.Dockerfile -t quintile-postgres:dev deploy/images
#
# The chart's own script makes the database and starts the server; it works with the official
# image too.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="PostgreSQL for trying out Quintile"
RUN useradd --uid 999 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin postgres && \
    apt-get update && \
    apt-get install --yes --no-install-recommends postgresql && \
    rm -rf /var/lib/apt/lists/* /var/lib/postgresql && \
    ln -s /usr/lib/postgresql/*/bin /opt/postgresql
ENV PATH=/opt/postgresql:/usr/sbin:/usr/bin:/sbin:/bin
USER 999:999
WORKDIR /tmp
EXPOSE 5432
