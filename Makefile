# Everything a developer or CI runs. `make help` explains the targets.

SHELL := /bin/sh
BIN := .venv/bin
UV := .venv/salus-tools/uv
JOBS := 2
CODE := libs services tests tools $(wildcard benchmarks examples)
SOURCES := $(wildcard libs/*/src services/*/src examples/*/src)
empty :=
space := $(empty) $(empty)
# Some environments forbid bytecode: then each of the some thousand processes of a test run compiles our code anew.
unexport PYTHONDONTWRITEBYTECODE
export MYPYPATH := $(subst $(space),:,$(strip $(SOURCES) $(wildcard benchmarks)))

.DEFAULT_GOAL := help
.PHONY: help setup parts demo test laws compose-test check static format lint format-check types contracts declared generated generate release-schemas generators unit sanitized bench peers lock clean

help: ## This text
	@echo "Salus: two commands are enough on a fresh machine with Python 3.11 or newer and"
	@echo "either a container engine or Java 17, Maven and Go:"
	@echo
	@echo "  make demo    and    make test"
	@echo
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{ printf "  %-14s %s\n", $$1, $$2 }'

setup: ## Make .venv with the locked dependencies and the salus command
	@sh tools/bootstrap.sh

parts: setup ## Fetch Kafka's jars and build MinIO into the user's cache, once
	@$(BIN)/python -m salus.devkit

demo: setup ## Start real Kafka, real MinIO and every service, and play the story (KEEP=1 leaves them running)
	@exec $(BIN)/salus demo $(if $(KEEP),--keep) $(DEMO)

test: parts ## Every test, in two processes: unit, contracts, integration and whole-platform journeys (JOBS=0: in one)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) $(PYTEST)

laws: parts ## The long run: each law with 500 examples and more, fifty kills; hours (PYTEST=… picks some)
	@SALUS_LONG_TESTS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) $(PYTEST)

compose-test: setup ## Build the image and run docker-compose.yml for real; needs a container engine (BASE_IMAGE=… offline)
	@SALUS_COMPOSE_TEST=1 $(BIN)/python -m pytest -m compose tests/deploy $(PYTEST)

check: static unit ## Before every commit: what needs no servers

static: setup format-check lint types contracts declared generated ## Format, lint, types, imports, drift: what CI checks before the tests

format: setup ## Format the code and fix what can be fixed
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

format-check: setup ## Is the code formatted?
	@echo "== ruff format" && $(BIN)/ruff format --check $(CODE)

lint: setup ## ruff, every rule that is not opted out of
	@echo "== ruff check" && $(BIN)/ruff check $(CODE)

types: setup ## mypy --strict over everything
	@echo "== mypy" && $(BIN)/mypy $(SOURCES) tests tools $(wildcard benchmarks)

contracts: setup ## Do imports point the way they should?
	@echo "== lint-imports" && PYTHONPATH=$(MYPYPATH) $(BIN)/lint-imports

declared: setup ## Does each package declare what it imports? Each is imported with its own dependencies alone
	@echo "== isolated imports" && $(BIN)/python tools/isolated_imports.py

generated: setup ## Are the generated files up to date?
	@echo "== generated files" && $(BIN)/python tools/generated_files.py --check

generate: setup ## Write what is generated: schemas, AsyncAPI, OpenAPI, and all that lists the services
	@$(BIN)/python tools/generated_files.py

unit: setup ## The tests that need no sockets
	@echo "== unit tests" && $(BIN)/python -m pytest -q --numprocesses $(JOBS) tests/unit tests/contracts $(PYTEST)

release-schemas: generate ## Freeze today's event schemas as released ones: run it when a version is tagged, and commit
	@$(BIN)/python -m salus.events.schemas --release && git status --short libs/events/src/salus/events/schemas/released

generators: setup ## Generators of Go, Java, TypeScript and Python over our documents (needs Java, Maven, Go, Node.js)
	@echo "== generators" && $(BIN)/python -m pytest -q tests/generators $(PYTEST)

sanitized: setup ## The tests of the C code, compiled with the address and undefined behaviour sanitizers, about 2 minutes
	@$(BIN)/python tools/sanitized_tests.py

bench: parts ## Every benchmark on this machine, 5 to 15 minutes (BENCH=--quick: three; BENCH=drain: one)
	@exec $(BIN)/python benchmarks/run.py $(BENCH)

peers: parts ## immudb, Tessera and Salus, one after the other on this machine; needs Go (PEERS=--quick: small)
	@exec $(BIN)/python benchmarks/peers.py $(PEERS)

lock: setup ## Resolve the dependencies anew and write the lock files with their hashes
	@$(UV) lock --quiet
	@$(UV) export --quiet --no-emit-workspace --all-packages --all-groups --no-header \
		--format requirements-txt --output-file requirements.lock
	@$(UV) export --quiet --no-emit-workspace --all-packages --no-dev --extra pkcs11 --no-header \
		--format requirements-txt --output-file requirements-runtime.lock
	@$(UV) export --quiet --no-emit-workspace --only-group build --no-header \
		--format requirements-txt --output-file requirements-build.lock
	@echo "requirements.lock, requirements-runtime.lock and requirements-build.lock are written"

clean: ## Stop what runs, and remove .venv, .salus and every cache of this checkout
	@if [ -x $(BIN)/salus ]; then $(BIN)/salus down >/dev/null 2>&1 || true; fi
	@rm -rf .venv .salus .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find libs services tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
