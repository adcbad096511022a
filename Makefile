# Few targets, each named for what it does. Nothing but Python 3.11+ and make is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
# One worker per core; tests of one file stay together, since they share fixtures.
PYTEST_ARGS ?= -n auto --dist loadfile --durations=15
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: setup run test faults nights grid ray leaks mutants ui types lint help

# PyPI's torch for Linux brings gigabytes of CUDA. Where no GPU is seen, the CPU build of the pinned version is taken
# first; where that index cannot be reached, the next line installs the build that can.
TORCH_FOR_THE_CPU = if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
	  echo "no GPU is seen: installing the CPU build of torch"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 --timeout 15 \
	    --index-url https://download.pytorch.org/whl/cpu "$$(grep '^torch==' requirements.lock)" \
	  || echo "the index of CPU builds was not reached; going on with the default one"; fi

help:
	@echo "make setup   create .venv with the pinned packages, and the home folder"
	@echo "make run     setup, then the whole pipeline on the embedded simulated market"
	@echo "make ui      setup, then the Dagster UI on http://localhost:3000"
	@echo "make test    setup with test packages, then all tests"
	@echo "make faults  kills, damaged bits, disk errors and crowds at every point (hours on few cores)"
	@echo "make nights  simulated years of nights, with and without a change of the market (NIGHTS=--seeds 8; minutes each)"
	@echo "make grid    every backend of the selective scan over all 672 cases (minutes)"
	@echo "make ray     data stages, search, training and audit on a Ray cluster of two nodes"
	@echo "make leaks   every leak as a patch of the source, on k4 run and k4 audit (hours; LEAKS=--only NAMES for some)"
	@echo "make mutants every weakened check against the self-tests"
	@echo "make types   types of the package (mypy)"
	@echo "make lint    style, formatting and types"

setup: $(STAMP)

# The pip cache is left alone; --no-deps on the project, because the lock holds everything it needs.
$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(TORCH_FOR_THE_CPU)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	$(BIN)/k4 init --compile
	touch $@

$(DEV_STAMP): $(STAMP) requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	touch $@

run: setup
	$(BIN)/k4 run

ui: setup
	$(BIN)/k4 ui

test: $(DEV_STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

faults: $(DEV_STAMP)
	$(BIN)/python -m k4_pipeline_tests.faults.campaign --out faults-out
	K4_FAULTS=all $(BIN)/python -m pytest $(PYTEST_ARGS) k4_pipeline_tests/faults k4_pipeline_tests/training/test_resume.py

NIGHTS ?= --seeds 8

nights: $(DEV_STAMP)
	K4_NIGHTS=252 $(BIN)/python -m pytest k4_pipeline_tests/cli/test_nightly.py --durations=5
	K4_THREADS=1 $(BIN)/python -W ignore -m k4_pipeline_tests.simulated_nights $(NIGHTS) --out nights-out.json
	K4_THREADS=1 $(BIN)/python -W ignore -m k4_pipeline_tests.simulated_year --out year-out.json

grid: $(DEV_STAMP)
	K4_GRID=all $(BIN)/python -m pytest $(PYTEST_ARGS) k4_pipeline_tests/kernels/test_scan_grid.py

ray: $(DEV_STAMP)
	K4_RAY=all $(BIN)/python -m pytest $(PYTEST_ARGS) k4_pipeline_tests/pipeline/test_sharded.py

types: $(DEV_STAMP)
	$(BIN)/mypy

lint: types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

LEAKS ?= --seeds 3

leaks: $(DEV_STAMP)
	$(BIN)/python -m k4_pipeline_tests.mutations.real_path $(LEAKS)

mutants: $(DEV_STAMP)
	$(BIN)/python -m k4_pipeline_tests.mutations.check_mutants
