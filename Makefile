# make demo: watch dfml turn a zoo into a few-shot learner.   make test: see its tests pass.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint clean

$(BIN)/dfml: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(BIN)/dfml
	$(BIN)/dfml demo

test: $(BIN)/dfml lint
	$(BIN)/python -m pytest -m "not slow" --jaxtyping-packages=dfml,beartype.beartype

test-slow: $(BIN)/dfml
	$(BIN)/python -m pytest -m slow

lint: $(BIN)/dfml
	$(BIN)/ruff check src tests reproduce
	$(BIN)/ruff format --check src tests reproduce
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist
