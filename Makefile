# Each target does the set-up that it needs; `make demo` and `make test` are all that a fresh machine wants.
PYTHON ?= python3
BIN := .venv/bin
SEEDS ?= 10000
ROUNDS ?= 200
# Where it is set, everything that starts here would compile every library anew: a fifth of the time of `make test`.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test lint check bench rate-grid sim sim-planted crash pictures release-check lambda-package clean

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group dev --editable .
	touch $@

demo: setup
	$(BIN)/batch-cancel demo

# Without a browser the tests that need one are left out, and pytest says how many.
test: setup
	$(BIN)/python -m pytest -n 6 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# Figures, not tests: nothing here can fail for being slow.
bench: setup
	$(BIN)/python -m tests.bench

rate-grid: setup
	$(BIN)/python -m tests.bench.rate_grid

sim: setup
	$(BIN)/python -m tests.sim --seeds $(SEEDS)

sim-planted: setup
	$(BIN)/python -m tests.sim.planted

crash: setup
	$(BIN)/python -m tests.crash --rounds $(ROUNDS)

# The README's pictures, made by the program itself; wants Debian's chromium.
pictures: setup
	$(BIN)/python -m tests.pictures

# Two builds that have to be alike, and the demo from each artifact in an empty environment; wants a package index.
release-check: setup
	$(BIN)/python -m tests.release --keep dist

# What configs/deploy/organization.yaml runs: the program and what it needs, for arm64 and Python 3.13.
lambda-package: setup
	$(BIN)/python -m tests.release --lambda dist/batch-cancel-lambda.zip

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
