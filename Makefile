# `make help` lists the targets. Everything runs from .venv, which `make setup` makes.
PY ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := PYTHONSAFEPATH=1 $(BIN)
STAMP := $(VENV)/.quintile-setup
CODE := quintile api operator labeling-service trainer-image deploy tests bench examples requirements

.DEFAULT_GOAL := help
.PHONY: help setup up demo fmt lint types imports test test-unit test-parts test-e2e test-web test-postgres test-cluster crds openapi chart images kind horovod docs transcripts lock check bench bench-training bench-scale bench-peers clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv and install everything, pinned by hash (TORCH=cpu|cuda|none)
	@VENV=$(VENV) $(PY) requirements/install.py

$(STAMP): requirements/base.lock requirements/torch-cpu.lock requirements/torch-cuda.lock pyproject.toml
	@VENV=$(VENV) $(PY) requirements/install.py

up: $(STAMP) ## run the platform on this machine: one process, one port
	@$(RUN)/quintile up

demo: ## the whole job on real images: label, certify, export, train; KUBE=1: in the cluster of kubectl
ifdef KUBE
	@VENV=$(VENV) $(PY) requirements/install.py
	deploy/kind/demo.sh $(or $(TAG),dev)
else
	@begun=$$(date +%s) && VENV=$(VENV) $(PY) requirements/install.py && \
	$(RUN)/quintile demo --setup-seconds $$(($$(date +%s) - begun))
endif

fmt: $(STAMP) ## format the code
	$(RUN)/ruff format $(CODE)
	$(RUN)/ruff check --fix $(CODE)

lint: $(STAMP) ## check style and format
	$(RUN)/ruff check $(CODE)
	$(RUN)/ruff format --check $(CODE)

types: $(STAMP) ## check types, strictly
	$(RUN)/mypy

imports: $(STAMP) ## check the import floors
	$(RUN)/lint-imports --no-logo

test: test-unit test-parts test-e2e ## all tests: unit, contract, worker, service, end to end, docs

test-unit: $(STAMP) ## the pure part, in seconds
	$(RUN)/python -m pytest -q tests/unit

test-parts: $(STAMP) ## contracts, services, workers, docs: one part with the real ones that it needs
	$(RUN)/python -m pytest -q tests/contract tests/worker tests/service tests/docs

test-e2e: $(STAMP) ## real processes on this machine
	$(RUN)/python -m pytest -q tests/e2e

test-web: $(STAMP) ## the page in a real browser (needs Chromium)
	$(RUN)/python -m pytest -q tests/web

test-postgres: $(STAMP) ## contracts and services on PostgreSQL (its programs must be here)
	QUINTILE_TEST_DATABASE=postgres $(RUN)/python -m pytest -q tests/contract tests/service

test-cluster: $(STAMP) ## pods of a real cluster (KUBECONFIG, QUINTILE_TEST_IMAGE, QUINTILE_TEST_CONTROL_IMAGE)
	$(RUN)/python -m pytest -q tests/charts tests/cluster

crds: $(STAMP) ## write the CRDs from the models
	$(RUN)/python -m quintile.cli.crds charts/quintile-crds/templates

openapi: $(STAMP) ## write the REST interfaces, docs/reference/*openapi.json
	$(RUN)/python -m quintile_api.openapi docs/reference/openapi.json
	$(RUN)/python -m quintile_labeling.openapi docs/reference/labeling-openapi.json

chart: $(STAMP) ## write values, schema and values page of the chart
	$(RUN)/python deploy/chart

images: ## build the images (TAG=dev; see deploy/images/build.sh)
	deploy/images/build.sh $(or $(TAG),dev)

kind: ## a kind cluster with the images in it (TAG=dev)
	deploy/kind/up.sh $(or $(TAG),dev)

horovod: $(STAMP) ## build the Horovod wheel once and install it (needs g++ and Open MPI)
	@trainer-image/wheels/horovod.sh $(abspath $(BIN)/python) $${QUINTILE_CACHE:-$$HOME/.cache/quintile}/wheels

docs: $(STAMP) ## write the generated reference pages
	$(RUN)/python -m quintile.settings docs/reference/settings.md
	$(RUN)/python -m quintile.cli.reference docs/reference/cli.md

transcripts: $(STAMP) ## write what kubectl says into docs/how-to/kubectl.md (a cluster made ready as the page says)
	$(RUN)/python deploy/kind/transcripts.py docs/how-to/kubectl.md

lock: $(STAMP) ## resolve the lock files again (needs uv)
	$(PY) requirements/lock.py

check: lint types imports ## everything that reads only: style, types, floors, generated files, guards
	$(RUN)/python -m pytest -q tests/guards

bench: $(STAMP) ## figures of this machine: start-up, labeling
	$(RUN)/python bench/startup.py
	$(RUN)/python bench/labeling

bench-training: $(STAMP) ## figures of distributed training (20 minutes; QUICK=1: a few)
	$(RUN)/python bench/training $(if $(QUICK),--quick)

bench-scale: $(STAMP) ## what the operator costs at 1,000 Experiments (a cluster with kwok's nodes)
	$(RUN)/python bench/scale

bench-peers: $(STAMP) ## an environment with the libraries that bench-training compares with
	$(PY) requirements/peers.py

clean: ## remove what was built; .venv stays
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
