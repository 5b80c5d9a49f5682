# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# On a machine with an NVIDIA driver, the CuPy that fits it; CUDA=none turns it off.
CUDA ?= $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: \(1[23]\)\..*/cuda\1/p')
GPU  := $(filter cuda12 cuda13,$(CUDA))

comma := ,
DEMO_EXTRAS := numba$(if $(GPU),$(comma)$(GPU))
# Without a GPU the CUDA kernels are still compiled, by NVRTC.
TEST_EXTRAS := numba,test,data,export,$(or $(GPU),nvrtc)

JOBS ?= auto
# The tests run side by side: one BLAS thread each.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test test-peers test-ports vectors vectors-check campaign bench bench-gpu check unit format clean help

help:
	@echo 'make demo        install into $(VENV), train on the swiss roll, draw it (a minute)'
	@echo 'make test        install into $(VENV), run every check (minutes)'
	@echo 'make test-peers  the same against PyTorch, which is installed for it'
	@echo 'make test-ports  run the ports of examples/ports whose tools are there (node, g++, torch, jax)'
	@echo 'make vectors     write the test vectors again, byte for byte; vectors-check only compares (minutes)'
	@echo 'make campaign    kill, damage, fill and misuse it at random, and count what goes wrong (a quarter of an hour)'
	@echo 'make bench       time it beside PyTorch, on an idle machine (a quarter of an hour)'
	@echo 'make bench-gpu   the same on an NVIDIA GPU'
	@echo 'make format      rewrite the sources in the project'"'"'s style, and set the links and tables of docs'
	@echo 'make clean       remove what these made, except runs/'

demo: $(VENV)/.demo
	$(BIN)/python examples/swiss_roll.py --backend auto --animate

test: $(VENV)/.test check unit

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS)

test-peers: $(VENV)/.peers
	$(BIN)/python -m pytest -n $(JOBS) -m peers --ignore tests/test_ports.py

test-ports: $(VENV)/.peers
	$(BIN)/python -m pytest -n $(JOBS) tests/test_ports.py

vectors: $(VENV)/.test
	$(BIN)/python -m tests.vectors

vectors-check: $(VENV)/.test
	$(BIN)/python -m tests.vectors --check

campaign: $(VENV)/.test
	$(BIN)/python -m tests.campaigns

bench: $(VENV)/.peers
	$(BIN)/python tests/benchmarks/run.py

bench-gpu: $(VENV)/.peers
	$(BIN)/python tests/benchmarks/run.py --gpu

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python tests/map_links.py
	$(BIN)/python -m tests.vectors_table

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A virtual environment of our own: systems that guard their Python (PEP 668) allow that.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[$(DEMO_EXTRAS)]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[$(TEST_EXTRAS)]'
	@touch $@

$(VENV)/.peers: pyproject.toml $(VENV)/.test
	$(BIN)/python -m pip install --quiet -e '.[$(TEST_EXTRAS),peers]'
	@touch $@
