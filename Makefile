# Python 3.11 or newer and make are all this needs; DynamoDB Local also wants Java 17 and npm.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
GROUP ?= dev
PYTEST_ARGS ?=
# Twice as many processes as cores: many tests wait, for leases to run out and for processes to end.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
WORKERS ?= $(shell expr 2 \* $(CORES))
# For a debugger, "-n 0" or "-p no:xdist" among PYTEST_ARGS runs the tests in one process.
PARALLEL := $(if $(findstring no:xdist,$(PYTEST_ARGS)),,-n $(WORKERS) --dist worksteal)

# The tests and the demo start hundreds of processes. Where this variable is set, each would compile every module again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo drill test bench bench-quick simulate soak models mutants check format templates reference screenshots dynamodb-local wheel clean help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# `make demo` installs a small group, so that it starts soon; `make test` adds the rest to the same environment.
# pip compiles nothing: Python compiles the modules that are imported, a small part of all.
PIP_OPTIONS := --quiet --disable-pip-version-check --no-compile
PIP := $(BIN)/python -m pip install $(PIP_OPTIONS)

CREATED := $(if $(wildcard $(VENV)/.installed),,| $(VENV)/.created)

$(VENV)/.created:
	@echo "Creating a virtual environment in $(VENV) ..."
	@# The pip of $(PYTHON) installs a newer pip. Where there is none, venv brings one first, which takes seconds more.
	@$(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python install $(PIP_OPTIONS) "pip>=25.1" >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv $(VENV) && $(PIP) "pip>=25.1"; }
	@touch $@

$(VENV)/.installed: pyproject.toml $(CREATED)
	@echo "Installing the library and what its tests need into $(VENV); this takes about a minute ..."
	@$(PIP) --editable . --group $(GROUP) $(EXTRA)
	@touch $@

$(VENV)/.installed-demo: pyproject.toml $(CREATED)
	@echo "Installing what the demo needs into $(VENV); this takes some ten seconds ..."
	@$(PIP) --group demo
	@touch $@

demo: $(firstword $(wildcard $(VENV)/.installed) $(VENV)/.installed-demo) ## deliver 1,000 events with three worker processes, one of which is killed (DASHBOARD=1 to watch them)
	@PYTHONPATH=$(CURDIR)/src $(BIN)/python -m examples.demo $(if $(ENDPOINT),--endpoint $(ENDPOINT)) $(if $(EVENTS),--events $(EVENTS)) $(if $(DASHBOARD),--dashboard)

test: $(VENV)/.installed ## run the tests on all cores (THOROUGH=1 for more, EVERYTHING=1 for all of them, PYTEST_ARGS="tests/worker -k stop" for a part)
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

bench: $(VENV)/.installed ## measure the costs of the library next to bare calls, and draw the pictures of the documentation
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

bench-quick: $(VENV)/.installed ## measure a part, and fail if a promise is missed by more than half
	$(BIN)/python -m benchmarks --quick

simulate: $(VENV)/.installed ## run simulations of faults on virtual time (SEEDS=500, SEED=42 for one and its history, KEYS=1 for ordering keys in all)
	$(BIN)/python -m reliability.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),500) $(if $(FROM),--from $(FROM))) $(if $(KEYS),--keys)

soak: $(VENV)/.installed ## deliver events for MINUTES=10 among faults of all kinds, with real processes
	$(BIN)/python -m reliability.soak --minutes $(or $(MINUTES),10)

models: $(VENV)/.installed ## explore the states of the protocols of windows and queues, and their mutants (MODEL=queues, ALL=1 for more)
	$(BIN)/python -m reliability.models $(or $(MODEL),windows queues) --mutants --walks $(or $(WALKS),60) $(if $(ALL),--all) $(if $(ONLY),--only "$(ONLY)")

check: $(VENV)/.installed ## lint, type-check, and check that prose and code stay readable
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.readability

mutants: $(VENV)/.installed ## break the library in one place at a time; a test must notice
	$(BIN)/python -m reliability.mutants $(if $(ONLY),--only "$(ONLY)")

format: $(VENV)/.installed ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

templates: $(VENV)/.installed ## render the infrastructure templates
	$(BIN)/python -m dynamodb_outbox.dynamodb.schema.templates templates

reference: $(VENV)/.installed ## write docs/reference/ from the docstrings
	$(BIN)/python -m tools.reference

screenshots: $(VENV)/.installed ## take the screenshots of the dashboard for the documentation (needs chromium)
	$(BIN)/python -m tools.screenshots

dynamodb-local: ## fetch DynamoDB Local and start it on port 8000 (PORT=...)
	$(PYTHON) tools/dynamodb_local.py --port $(or $(PORT),8000)

drill: $(VENV)/.installed ## practise being on call on a table with a fault (TABLE=..., ENDPOINT=..., ARGS="--seed 7")
	@$(BIN)/python -m examples.on_call_drill --endpoint $(or $(ENDPOINT),http://127.0.0.1:8000) --table $(or $(TABLE),drill) $(ARGS)

wheel: $(VENV)/.installed ## build the wheel into dist/
	$(BIN)/python -m build --outdir dist .

clean: ## remove what was built
	rm -rf $(VENV) dist build .cache .mypy_cache .pytest_cache .ruff_cache
