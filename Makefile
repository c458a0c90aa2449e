# The same targets for people and for CI; `make` alone lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8080
CHECK ?=
ARGS ?=
ROUNDS ?= 100
COMMIT ?= origin/main

# An interpreter given as PYTHON gets environments of its own.
NAMED := $(filter command line environment override,$(origin PYTHON))
SUFFIX := $(if $(NAMED),-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null))
VENV := .venv$(SUFFIX)
DEMO := .venv-demo$(SUFFIX)
RUNTIMES := .venv-runtimes$(SUFFIX)
FUZZ := .venv-fuzz$(SUFFIX)
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
PYTEST := -m pytest -n 2 --dist loadfile
# What the other targets for tests leave.
LIGHT := not faults and not fuzz and not runtimes and not images and not registry and not ray \
  and not examples
# Enough to try an interpreter: pure code, workers, and a server from start to stop.
SHORT := tests/unit tests/compat tests/workers/test_pool.py tests/workers/test_placement.py \
  tests/e2e/test_lifecycle.py tests/e2e/test_starts.py tests/e2e/test_mlflow_models.py

.DEFAULT_GOAL := help
.PHONY: help install demo test test-short test-runtimes test-images test-registry test-examples \
  test-ray test-endurance test-newest test-lowest faults faults-long faults-registry fuzz fuzz-long \
  check fmt bench bench-peers bench-regress bench-mlp docs lock clean

help: ## List these targets
	@echo "usage: make TARGET [PYTHON=python3.11]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1	\2/p' Makefile | expand -t 18

install: $(VENV)/.installed ## Make .venv, for tests and checks

demo: $(DEMO)/.installed ## Train, serve and query the wine model; CHECK=1 checks answers and stops; PORT=8080
	$(DEMO)/bin/python examples/wine/demo.py --port $(PORT) $(if $(CHECK),--check)

test: $(VENV)/.installed ## Run the tests; ARGS='-k batch' selects some
	$(BIN)/python $(PYTEST) -m '$(LIGHT)' $(ARGS)

test-short: $(VENV)/.installed ## Run some of the tests, to try an interpreter: PYTHON=python3.13
	$(BIN)/python $(PYTEST) -m '$(LIGHT)' $(SHORT) $(ARGS)

test-runtimes: $(RUNTIMES)/.installed ## Run the tests that need a heavy framework, in .venv-runtimes
	HF_HUB_OFFLINE=1 $(RUNTIMES)/bin/python $(PYTEST) -m runtimes $(ARGS)

test-images: $(VENV)/.installed ## Build images and start them, where buildah and mmdebstrap are
	$(BIN)/python -m pytest -m images tests/images $(ARGS)

test-registry: $(VENV)/.installed ## Run the tests that start MLflow's tracking server, and follow it
	$(BIN)/python $(PYTEST) -m registry tests/e2e $(ARGS)

test-examples: $(VENV)/.installed ## Run the tests that follow the examples' pages and train their models
	$(BIN)/python $(PYTEST) -m 'examples and not runtimes' tests/e2e $(ARGS)

test-ray: $(VENV)/.installed ## Run the tests that start a cluster of Ray, which has an environment of its own
	$(BIN)/python -m pytest -m ray tests/e2e/test_ray.py $(ARGS)

test-endurance: $(VENV)/.installed ## Repeat the tests of starts, killed workers and the store; ROUNDS=100
	HEADRACE_TEST_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest tests/e2e/test_starts.py \
	  tests/e2e/test_kills.py tests/e2e/test_service_storms.py tests/unit/store/test_processes.py \
	  tests/unit/packaging/test_bundle_processes.py $(ARGS)

faults: ROUNDS = 3
faults: $(VENV)/.installed ## Cause each fault a few times under load, in ten minutes; ARGS='-k kill' selects some
	HEADRACE_TEST_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest -m faults tests/faults $(ARGS)

faults-long: ROUNDS = 50
faults-long: $(VENV)/.installed ## The same by the hundred, in half an hour, and write the figures; ROUNDS=50
	HEADRACE_TEST_ROUNDS=$(ROUNDS) HEADRACE_TEST_RESULTS=benchmarks/results/faults \
	  $(BIN)/python -m pytest -m faults tests/faults $(ARGS); status=$$?; \
	  PYTHONPATH=tests:. $(BIN)/python -m support.reliability_page && exit $$status

faults-registry: $(VENV)/.installed ## Follow a registry that is killed, through 50 moves to good and bad versions, and write the figures
	HEADRACE_TEST_ROUNDS=50 HEADRACE_TEST_RESULTS=benchmarks/results \
	  $(BIN)/python -m pytest tests/e2e/test_follow_faults.py $(ARGS)

fuzz: $(FUZZ)/.installed ## Try generated input on every decoder and route, in five minutes; ARGS='--only tar'
	PYTHONPATH=tests:. $(FUZZ)/bin/python -m fuzz $(ARGS)

fuzz-long: $(FUZZ)/.installed ## The same by the million, in under an hour, and write the figures
	PYTHONPATH=tests:. $(FUZZ)/bin/python -m fuzz --long $(ARGS)

test-newest: $(VENV)/.installed ## Run the tests with the newest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-newest
	$(BIN)/uv pip install --quiet --python .venv-newest/bin/python --upgrade -e '.[test]'
	.venv-newest/bin/python $(PYTEST) -m '$(LIGHT)' $(ARGS)

test-lowest: $(VENV)/.installed ## Run the tests with the lowest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
	  --constraints locks/lowest.txt -e '.[test]'
	.venv-lowest/bin/python $(PYTEST) -m '$(LIGHT)' $(ARGS)

check: $(VENV)/.installed ## Check format, lint, types and layers; changes nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(VENV)/.installed ## Format, and fix what ruff can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: bench-peers ## The same as bench-peers

bench-regress: $(VENV)/.installed ## Compare the hot path with COMMIT=origin/main, in instructions; needs valgrind
	$(BIN)/python -m benchmarks.regress $(COMMIT) $(ARGS)

bench-peers: $(VENV)/.installed ## Compare with other servers, side by side, in 25 minutes; ARGS='--only mosec,triton' measures some
	$(BIN)/python -m benchmarks.peers $(ARGS)

bench-mlp: $(RUNTIMES)/.installed ## Compare a PyTorch network behind the server with one in a loop
	$(RUNTIMES)/bin/python -m benchmarks.pytorch_mlp $(ARGS)

docs: $(VENV)/.installed ## Render the pages of settings and of reliability, and check every link between the pages
	PYTHONPATH=tests $(BIN)/python -m support.settings_page
	PYTHONPATH=tests:. $(BIN)/python -m support.reliability_page
	$(BIN)/python -m pytest -q tests/test_shape.py -k link

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command 'make lock' $(ARGS)
PROJECT = $(COMPILE) --group build pyproject.toml

lock: $(VENV)/.installed ## Pin what these targets install, in locks/; ARGS=--upgrade takes the newest
	$(PROJECT) --extra check --extra bench -o locks/check.txt
	$(PROJECT) --extra mlflow --extra sklearn -o locks/demo.txt
	$(PROJECT) -o locks/server.txt
	$(PROJECT) --extra ray -o locks/ray.txt
	$(PROJECT) --extra fuzz -o locks/fuzz.txt
	$(PROJECT) --extra test-runtimes --excludes locks/cuda.txt --no-emit-package torch \
	  -o locks/runtimes.txt
	for each in locks/clients/*.in; do $(COMPILE) $$each -o $${each%.in}.txt || exit 1; done

clean: ## Remove the environments and everything generated
	rm -rf .venv .venv-* .demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: LOCK := locks/check.txt
$(DEMO)/.installed: LOCK := locks/demo.txt
$(RUNTIMES)/.installed: LOCK := locks/runtimes.txt
$(FUZZ)/.installed: LOCK := locks/fuzz.txt
# With pip, which knows where the machine has a build without CUDA; uv's choice brings gigabytes.
$(RUNTIMES)/.installed: AFTER = $(RUNTIMES)/bin/python -m pip install --quiet torch==2.13.0
$(VENV)/.installed: locks/check.txt
$(DEMO)/.installed: locks/demo.txt
$(RUNTIMES)/.installed: locks/runtimes.txt
$(FUZZ)/.installed: locks/fuzz.txt

# Any environment: the folder of the stamp file, with what its lock file lists and this package.
# A change to the lock file or to pyproject.toml installs it again.
%/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no python3 found; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c '' || { echo "$(PYTHON) does not run; name another: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11; name another: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into $* with $(if $(UV),uv,pip), from $(LOCK)"
	@test -x $*/bin/pip || $(PYTHON) -m venv $*
ifneq ($(UV),)
	$(UV) pip install --quiet --python $*/bin/python --compile-bytecode --no-deps --require-hashes -r $(LOCK)
	$(UV) pip install --quiet --python $*/bin/python --no-deps --no-build-isolation -e .
else
	$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	$(AFTER)
# Where Python may not write bytecode, every worker of the tests would compile what it imports.
	@$*/bin/python -m compileall -q src
	@touch $@
