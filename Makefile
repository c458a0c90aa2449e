# The same verbs for people and for the build: `make` alone lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8080
CHECK ?=
ARGS ?=

VENV := .venv
DEMO := .venv-demo
RUNTIMES := .venv-runtimes
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-runtimes check fmt bench docs clean

help: ## List these verbs
	@echo "usage: make VERB [PYTHON=python3.11]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1	\2/p' Makefile | expand -t 18

install: $(VENV)/.installed ## Make .venv, for tests and checks

demo: $(DEMO)/.installed ## Train, serve and ask the wine model; CHECK=1 compares and stops, PORT=8080
	$(DEMO)/bin/python examples/wine/demo.py --port $(PORT) $(if $(CHECK),--check)

test: $(VENV)/.installed ## Run the tests; ARGS='-k batch' narrows them
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not runtimes' $(ARGS)

test-runtimes: $(RUNTIMES)/.installed ## Run the tests that need a heavy framework, in .venv-runtimes
	HF_HUB_OFFLINE=1 $(RUNTIMES)/bin/python -m pytest -n 2 --dist loadfile -m runtimes $(ARGS)

check: $(VENV)/.installed ## Format, lint, types and layers; changes nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(VENV)/.installed ## Format, and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.installed ## Run the benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.installed ## Check that every link between the pages leads somewhere
	$(BIN)/python -m pytest -q tests/test_shape.py -k link

clean: ## Remove the environments and everything generated
	rm -rf $(VENV) $(DEMO) $(RUNTIMES) .venv-clients .demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: EXTRAS := check,bench
$(DEMO)/.installed: EXTRAS := mlflow,sklearn

# One build of PyTorch first and by pip, which knows where the machine keeps one without CUDA:
# what a resolver picks by itself brings gigabytes of it.
$(RUNTIMES)/.installed: pyproject.toml
	@echo "installing into $(RUNTIMES): PyTorch, then TensorFlow, Keras, Transformers, Spark and the rest"
	@test -x $(RUNTIMES)/bin/pip || $(PYTHON) -m venv $(RUNTIMES)
	$(RUNTIMES)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(RUNTIMES)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test-runtimes]'
	@touch $@

# Any environment: the folder of the stamp file, filled with our package and the extras above.
# A change of pyproject.toml installs again.
%/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no python3 found; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11; name another: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into $* with $(if $(UV),uv,pip), for $(EXTRAS)"
ifneq ($(UV),)
	@$(UV) venv --quiet --allow-existing --python "$(PYTHON)" $*
	$(UV) pip install --quiet --python $*/bin/python -e '.[$(EXTRAS)]'
else
	@$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
endif
	@touch $@
