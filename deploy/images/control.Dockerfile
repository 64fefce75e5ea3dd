# The image of the platform's own pods: API, operator, labeling service.
#
#   docker build -f deploy/images/control.Dockerfile -t quintile-control:dev .
#
# Build arguments: BASE_IMAGE (Debian 12 with Python 3.11 and its venv), EXTRAS (what of pyproject.toml
# it holds; `embedded` stands for API, labeling service and TensorBoard).
# pip's own settings: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS as build arguments, or a
# pip.conf as `--secret id=pip,src=...`.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS packages
ARG EXTRAS=embedded,operator
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_CONFIG_FILE=/run/secrets/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/quintile/bin:$PATH
RUN python3 -m venv /opt/quintile
WORKDIR /build
COPY pyproject.toml ./
COPY requirements requirements
RUN --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    python requirements/subset.py "$EXTRAS" requirements/base.lock > control.lock && \
    python -m pip install --quiet --no-deps --require-hashes -r control.lock

FROM packages AS wheel
RUN --mount=type=secret,id=pip --mount=type=cache,target=/root/.cache/pip \
    python requirements/subset.py build-system requirements/base.lock > build.lock && \
    python -m pip install --quiet --no-deps --require-hashes -r build.lock
COPY . .
RUN python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist .

FROM packages AS installed
COPY --from=wheel /dist /dist
RUN python -m pip install --quiet --no-deps --no-index /dist/*.whl && \
    python -m pip uninstall --quiet --yes pip setuptools && \
    find /opt/quintile -type d -name tests -path '*/site-packages/*' -prune -exec rm -rf {} +

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Quintile control" \
      org.opencontainers.image.description="API, operator and labeling service of Quintile" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 65532 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin quintile
COPY --from=installed /opt/quintile /opt/quintile
ENV PATH=/opt/quintile/bin:$PATH PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1
USER 65532:65532
WORKDIR /tmp
EXPOSE 8420 9090
ENTRYPOINT []
CMD ["python", "-m", "quintile_api.main"]
