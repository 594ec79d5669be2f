# Each target is complete from a bare clone: it makes its own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= 2

.PHONY: leaderboard test lint docs clean

leaderboard: $(VENV)/.installed  ## install, run the molybdenum cases on two models, write the leaderboard
	$(BIN)/mfb run --models mo-ft,chgnet --cases molybdenum --fetch --out results

test: $(VENV)/.installed  ## install, run the tests in WORKERS processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## build the documentation into site/
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# torch goes first: where a CPU build is at hand pip takes it, and nothing after it replaces it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[chgnet,test]"
	touch $@

clean:
	rm -rf $(VENV) results site .mypy_cache .ruff_cache .pytest_cache
