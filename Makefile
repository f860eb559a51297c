# make demo: from nothing to the result.   make quick: a minute of checks.   make test: all tests, with real servers.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin

.PHONY: demo quick unit test lint types bench chaos any-table soak watched mutants env schema lock clean

demo: env
	$(BIN)/python -m flows.cli.demo

quick: lint ## with types, and every test that needs no server, side by side: mypy uses one core only
	@$(MAKE) --no-print-directory -j 2 types unit

unit: env
	$(BIN)/pytest -q -n 2 -m 'not server' $(PYTEST_ARGS)

# Each worker has its own servers, and waits for them about half of the time: three keep two cores busy. In the order of the
# folders, where the long tests come first, so that no worker is left with a long file at the end.
WORKERS ?= 3
test: env
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: env
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

bench: .venv/.bench
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

chaos: env ## hundreds of faults on every TimescaleDB that can run here; 10 to 15 minutes each
	$(BIN)/python -m tests.faults.chaos $(CHAOS_ARGS)

any-table: env ## 20,000 random entries into random tables, compared with an oracle; about 10 minutes
	$(BIN)/python -m tests.any_table.campaign $(ANY_TABLE_ARGS)

soak: env ## an hour at a steady rate, with faults
	$(BIN)/python -m tests.faults.soak $(SOAK_ARGS)

watched: env ## an hour in which nothing may alert, then incidents that must; needs Prometheus and Chromium
	$(BIN)/python -m tests.faults.watched $(WATCHED_ARGS)

# A module below tasks/ or infra/ whose unit tests need no server.
MODULE ?= tasks/columns/uuids.py
mutants: .venv/.mutants ## changes in one module that its unit tests have to notice; at most 15 minutes
	$(BIN)/python -m tests.mutants $(MODULE)

env: .venv/.installed

# All of the environment comes from the lock. uv, because it installs it in seconds.
.venv/.installed: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv || { echo "error: no venv; install Python 3.11 or later with venv (Debian: python3-venv)"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $<
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

# What the benchmarks compare Spillway with, in addition to the rest.
.venv/.bench: benchmarks/requirements.lock .venv/.installed
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $<
	touch $@

.venv/.mutants: tests/mutants/requirements.lock .venv/.installed
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $<
	touch $@

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --custom-compile-command 'make lock' pyproject.toml

schema: env ## after a change below infra/schema/
	$(BIN)/python -m infra.schema.build

lock: ## after a change of the dependencies in pyproject.toml
	$(LOCK) -o requirements.lock
	$(LOCK) --extra dev --extra dask -c requirements.lock -o requirements-dev.lock
	$(LOCK) --extra bench -c requirements-dev.lock -o benchmarks/requirements.lock
	$(LOCK) --extra mutants -c requirements-dev.lock -o tests/mutants/requirements.lock

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info
