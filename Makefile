# Everything starts here. Each target sets up `.venv` by itself, once; it needs python3 (>= 3.11, with venv),
# make and pip, and nothing else installed by hand.

VENV ?= .venv
RECIPE ?= recipes/nano.toml
STAMP := $(VENV)/.installed
PYTHON := $(VENV)/bin/python
# A machine that brings its own torch runs the checkout as it is: make gpu GPU_PYTHON=python3
GPU_PYTHON ?= $(PYTHON)

TORCH := torch==2.13.0
PIP := $(PYTHON) -m pip --disable-pip-version-check --quiet
# Wheels only: an install never compiles anything.
INSTALL := $(PIP) install --only-binary=:all: --progress-bar off

# The newest interpreter that really can make an environment (a shim or a Debian python without venv cannot).
PYTHONS := python3.13 python3.12 python3.11 python3
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.PHONY: help run test test-all lint bench gpu docs-check lock clean

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@python=; for name in $(PYTHONS); do \
	  if $$name -c '$(USABLE)' >/dev/null 2>&1; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "no Python 3.11 or newer with venv found; on Debian or Ubuntu: sudo apt install python3 python3-venv" >&2; \
	  exit 1; \
	fi; \
	echo "setting up $(VENV) with $$($$python --version) (once, a few minutes)"; \
	$$python -m venv $(VENV)
	@echo "  installing $(TORCH)"
	@# Alone and first, so that nothing below has to choose a build of torch.
	@$(INSTALL) $(TORCH) -c constraints.txt
	@echo "  installing openk2 and what it stands on"
	@$(INSTALL) -c constraints.txt -e '.[dev]'
	@echo "  compiling the decoder"
	@$(PYTHON) -c "from openk2.engine.decoder import warm_up; warm_up()"
	@touch $@
	@echo "  done: $$($(PYTHON) -m pip list 2>/dev/null | tail -n +3 | wc -l) packages in $(VENV)"

run: $(STAMP) ## The whole story at nano scale: text in, a tool-using agent and a report out
	$(VENV)/bin/openk2 run $(RECIPE)

test: $(STAMP) ## The quick tests (13 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m 'not slow and not gpu' -n auto --maxprocesses 4 --dist loadfile --session-timeout 1200

test-all: $(STAMP) ## Every test, the slow proofs and every documented command included
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m 'not gpu'
	$(PYTHON) tests/docs_check.py --all

lint: $(STAMP) ## Form, types, and which room may import which
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports

bench: $(STAMP) ## Measure against peers on this machine; writes results/
	@for script in $(filter-out bench/__init__.py bench/adapters.py bench/gpu.py bench/gpu_rl.py bench/vllm_peer.py,$(wildcard bench/*.py)); do \
	  name=$$(basename $$script .py); echo "bench.$$name"; $(PYTHON) -m bench.$$name || exit 1; \
	done

gpu: $(if $(filter $(PYTHON),$(GPU_PYTHON)),$(STAMP)) ## The proofs and timings that need a CUDA device
	@if [ "$$($(GPU_PYTHON) -c 'import torch; print(torch.cuda.is_available())')" = True ]; then \
	  $(GPU_PYTHON) -m bench.gpu && $(GPU_PYTHON) -m bench.gpu_rl; \
	else \
	  echo "gpu: no CUDA device for $(GPU_PYTHON) here, so nothing was measured"; \
	fi

docs-check: $(STAMP) ## Run the commands the documents show
	$(PYTHON) tests/docs_check.py

# constraints.txt is a freeze of a fresh environment with every extra, resolved without constraints: torch first and
# alone, as in the install. A build suffix (+cpu) is dropped and what belongs to the environment (pip) is left out.
# What torch or another package asks for on one platform only is pinned by that package, not here.
lock: ## Resolve every dependency anew and rewrite constraints.txt
	@rm -rf build/lock && mkdir -p build
	@for name in $(PYTHONS); do $$name -c '$(USABLE)' >/dev/null 2>&1 && exec $$name -m venv build/lock; done; exit 1
	build/lock/bin/python -m pip install --quiet --only-binary=:all: $(TORCH)
	build/lock/bin/python -m pip install --quiet --only-binary=:all: $(TORCH) -e '.[dev]'
	@{ sed -n '/^#/p' constraints.txt; \
	   build/lock/bin/python -m pip freeze --all --exclude-editable --exclude pip | sed 's/+.*//' | sort -f; \
	 } > build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm -rf build/lock && git --no-pager diff --stat constraints.txt

clean: ## Remove what can be made again; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find openk2 tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
