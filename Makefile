# Every command sets up .venv first if it has to (deploy/setup.sh says what is missing and how to get it).
.DEFAULT_GOAL := help
PY := .venv/bin/python
PACKAGES := slipway_schemas slipway_kit slipway_db slipway_events slipway_storage slipway_runtime slipway_testing \
	slipway_gateway slipway_scheduler slipway_builder slipway_logs slipway_worker slipway_allinone

.PHONY: help setup run demo test check format bench chaos images lock

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## build .venv from requirements.lock
	@sh deploy/setup.sh

run: setup ## start the platform on this machine and keep it running
	@exec .venv/bin/slipway up

demo: setup ## take a sample project through the platform, from commit to model file
	@exec .venv/bin/slipway demo

test: setup ## run every test that this machine can run
	@$(PY) -m pytest tests -n 2

check: setup ## format, lint, types, import rules, dependency hygiene
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy $(addprefix -p ,$(PACKAGES))
	.venv/bin/lint-imports
	@for folder in libs/* services/* deploy/allinone; do \
		(cd $$folder && ../../.venv/bin/deptry --no-ansi . 2>&1 | grep -q Success) || \
			{ echo "$$folder: its pyproject.toml and its imports differ; run deptry there"; exit 1; }; done

format: setup ## format the code and fix what can be fixed
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: setup ## run the benchmarks and write docs/benchmarks.md
	@$(PY) -m tests.bench

chaos: setup ## break the platform for hours, in full, and add to the counts in docs/benchmarks.md
	@SLIPWAY_CHAOS=full $(PY) -m pytest tests/chaos tests/property tests/cluster/test_autoscaling.py \
		tests/cluster/test_ingress.py tests/cluster/test_steady.py tests/api/builder/test_moves_under_load.py -s

images: ## build the container images slipway and slipway-router with Docker (BASE=python:3.12-slim)
	docker build -f deploy/docker/Dockerfile $(if $(BASE),--build-arg BASE=$(BASE)) --target router -t slipway-router .
	docker build -f deploy/docker/Dockerfile $(if $(BASE),--build-arg BASE=$(BASE)) --target service -t slipway .

lock: setup ## compile requirements.in into requirements.lock
	.venv/bin/uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links requirements.in -o requirements.lock
