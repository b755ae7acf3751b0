# Every command sets up what it needs: an environment in .venv, installed from the lock, nothing global.

PYTHON ?= python3
SUBMISSION ?= exercise
OUT ?=
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
LOCKS := requirements/bootstrap.txt requirements/dev.txt

.DEFAULT_GOAL := help
.PHONY: help setup grade regrade doctor test test-kit test-exercise test-solution check lint format lock clean

##@ Use

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

grade: $(READY) ## Grade a submission: make grade SUBMISSION=path [OUT=dir] [ARGS="--quick"]
	@$(BIN)/grader run "$(SUBMISSION)" $(if $(OUT),--out "$(OUT)") $(ARGS)

regrade: $(READY) ## Judge a run's record again: make regrade RUN=dir
	@$(BIN)/grader regrade "$(RUN)"

doctor: $(READY) ## Say whether this machine can grade
	@$(BIN)/grader doctor

setup: $(READY) ## Make .venv

##@ Develop

test: $(READY) ## All tests, warnings as errors, with the coverage that is asked for
	@$(MAKE) --no-print-directory test-exercise test-solution test-kit

test-kit: $(READY) ## Tests of grader and devstack
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

test-exercise: $(READY) ## The exercise's own tests
	cd exercise && ../$(BIN)/python -m pytest tests

test-solution: $(READY) ## The solution's own tests
	cd solution && ../$(BIN)/python -m pytest tests

check: lint ## Lint, types, import rules and the quick unit tests
	$(BIN)/pytest -q -m "not integration and not slow"

lint: $(READY) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd solution && ../$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY) ## Renew the hashed lock files
	$(foreach name,bootstrap service kit dev,$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url $(if $(filter dev,$(name)),-c requirements/service.txt -c requirements/kit.txt) requirements/$(name).in -o requirements/$(name).txt &&) true

clean: ## Remove the environment and what tests leave behind
	rm -rf .venv .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache

$(READY): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "Setting up .venv (once) …"
	@$(PYTHON) -m venv --clear .venv || { echo "make: the venv module is missing; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps --editable .
	@touch $(READY)
