# make demo: watch dfml turn a zoo into a few-shot learner.   make test: see its tests pass.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VISION := .venv-vision

.PHONY: demo test test-slow reliability fuzz soak test-vision bench bench-long docs lock sbom lint format clean

$(BIN)/dfml: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(BIN)/dfml
	$(BIN)/dfml demo

test: $(BIN)/dfml lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 -m "not slow and not reliability" --jaxtyping-packages=dfml,beartype.beartype

# Models of timm, torchvision, transformers and ONNX: in an environment of their own, for torchvision fits no CPU build of torch.
$(VISION)/bin/dfml: pyproject.toml constraints-vision.txt
	test -x $(VISION)/bin/python || $(PYTHON) -m venv $(VISION)
	$(VISION)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vision.txt torch torchvision
	$(VISION)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vision.txt -e ".[dev,vision,onnx]"
	touch $@

test-vision: $(VISION)/bin/dfml
	$(VISION)/bin/python -m pytest tests/vision tests/contracts/test_loaders.py tests/zoo tests/test_docs.py

test-slow: $(BIN)/dfml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,app]"
	$(BIN)/python -m pytest -m slow

# Signals, kills, damaged files and disks that fail: docs/reliability.md. KILLS of each command inside of a write, and as many elsewhere.
KILLS ?= 5
reliability: $(BIN)/dfml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,reliability]"
	OMP_NUM_THREADS=1 KILLS=$(KILLS) $(BIN)/python -m pytest -m reliability tests/reliability

# Hostile inputs to every parser, MINUTES of them; says how many were tried.
MINUTES ?= 30
fuzz: $(BIN)/dfml
	OMP_NUM_THREADS=1 PYTHONPATH=tests:tests/integration $(BIN)/python tests/reliability/fuzz.py --minutes $(MINUTES)

# Servers under callers of every kind for ten minutes.
soak: $(BIN)/dfml
	PYTHONPATH=tests:tests/integration $(BIN)/python tests/reliability/soak.py --minutes 10

# Speed, side by side, in under ten minutes on 2 cores; with DATA=... also what recovered images teach.
bench: $(BIN)/dfml
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/scale.py
	$(if $(DATA),$(BIN)/python benchmarks/frontier.py --data "$(DATA)",@echo "no DATA=...: no quality-time frontier")

bench-long: bench
	$(BIN)/python benchmarks/roofline.py
	$(BIN)/python benchmarks/processes.py
	$(BIN)/python benchmarks/time_to_accuracy.py --data "$(DATA)"
	$(BIN)/python benchmarks/precision.py --data "$(DATA)"

# The documentation, in build/docs; a warning is an error.
docs: $(BIN)/dfml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . build/docs

# What dfml and its extras for users stand on, with the hash of every file: after a change of pyproject.toml or constraints.txt.
lock: $(BIN)/dfml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile pyproject.toml $(addprefix --extra ,app http hub sklearn tensorboard) -c constraints.txt --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock

# The same as a bill of materials (CycloneDX), in build/sbom.json.
sbom: $(BIN)/dfml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom
	mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-file build/sbom.json

lint: $(BIN)/dfml
	$(BIN)/ruff check src tests reproduce benchmarks examples
	$(BIN)/ruff format --check src tests reproduce benchmarks examples
	$(BIN)/mypy

format: $(BIN)/dfml
	$(BIN)/ruff check --fix src tests reproduce benchmarks examples
	$(BIN)/ruff format src tests reproduce benchmarks examples

clean:
	rm -rf $(VENV) $(VISION) build dist
