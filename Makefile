# Every target sets up what it misses. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup system demo check check-web test test-all bench harbor phoenix lock clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## A .venv with the package and what its tests need

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python >= 3.11 is needed; $(PYTHON) is $$($(PYTHON) -V). Set PYTHON=..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies into $(VENV) ..."
	@scripts/install requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH_STAMP): $(STAMP) requirements-bench.lock
	@scripts/install requirements-bench.lock
	@touch $@

system:  ## What tests need from the system (Debian, Ubuntu): bubblewrap, ripgrep, chromium
	@scripts/system

demo: setup  ## The main job: real training, real promotions, under 5 minutes
	@$(BIN)/manyhands lab run examples/tinylm

check: setup  ## ruff, pyright strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	@if command -v npx >/dev/null; then $(MAKE) --no-print-directory check-web; \
	  else echo "node is not here: the page's modules are not type-checked"; fi

check-web:  ## TypeScript's checker over the page's modules (needs node)
	npx --yes --package typescript@7.0.2 tsc -p tsconfig.json

test: setup  ## The short suite, under 10 minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: system test  ## The short suite, then the long one: all crash points, all simulations
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

bench: $(BENCH_STAMP)  ## Ratios against peers, in one run
	$(BIN)/python -m tests.bench

harbor: setup  ## A .venv-harbor with Harbor (Python >= 3.12), and its tests
	@HARBOR_PYTHON="$(HARBOR_PYTHON)" scripts/harbor
	$(BIN)/python -m pytest tests/harbor

phoenix: setup  ## A .venv-phoenix with Arize Phoenix (850 MB), and the tests of telemetry against it
	@scripts/phoenix
	$(BIN)/python -m pytest tests/phoenix

lock: setup  ## Resolve the newest versions into the lock files
	@scripts/lock

clean:  ## Remove what make made
	rm -rf $(VENV) .venv-harbor .venv-phoenix .pytest_cache .ruff_cache .import_linter_cache .hypothesis
