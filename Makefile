# `make demo` and `make test` need Python 3.11 or newer and nothing else. Everything is installed by pip into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
RUN ?= runs/demo
# The versions of all packages, direct or not. `make lock` resolves them again.
CONSTRAINTS ?= constraints.txt
# pytest's options: two processes fit two cores and 8 GB
TESTS ?= -n 2 -m "not slow"

.PHONY: demo test slow lint docs pages wheel lock check-newest check-lowest release-check clean

demo: $(VENV)/.installed-all
	$(BIN)/evalkit demo --run $(RUN)

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest $(TESTS)

slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# what the documentation claims, shows and links to; then the site, into build/site
docs: $(VENV)/.installed-test $(VENV)/.installed-docs
	$(BIN)/python -m pytest tests/test_docs.py tests/test_readme.py tests/test_architecture.py tests/analysis/test_notebook.py
	$(BIN)/python -m mkdocs build --strict

# the pages that are generated from the registries; each is first written under another name, so a failure keeps the old page
pages: $(VENV)/.installed-test
	$(BIN)/evalkit methods --markdown >docs/methods.md.new && mv docs/methods.md.new docs/methods.md
	$(BIN)/evalkit methods --lora-files >docs/lora-files.md.new && mv docs/lora-files.md.new docs/lora-files.md
	$(BIN)/evalkit metrics --markdown >docs/reference/metrics.md.new && mv docs/reference/metrics.md.new docs/reference/metrics.md
	$(BIN)/python -m evalkit.metrics.documentation docs/metrics.md
	$(BIN)/python -m evalkit.cli.reference_page >docs/reference/cli.md.new && mv docs/reference/cli.md.new docs/reference/cli.md

wheel: $(VENV)/.installed-test
	$(BIN)/python -m build --wheel

# build, check the metadata as the index does, then install the wheel with each extra alone and run every command
release-check: $(VENV)/.installed-test
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m pytest -m slow tests/test_wheel.py

# pip resolves in an environment of its own, so that what is installed here decides nothing
lock:
	$(MAKE) build/lock/bin/python VENV=build/lock
	build/lock/bin/python -m pip install --dry-run --ignore-installed --report build/lock/report.json ".[test,docs]"
	$(PYTHON) .ci/constraints.py lock build/lock/report.json >constraints.new
	mv constraints.new constraints.txt

# the newest versions that the ranges in pyproject.toml allow
check-newest:
	rm -rf build/newest
	mkdir -p build && : >build/newest.txt
	$(MAKE) test VENV=build/newest CONSTRAINTS=build/newest.txt

# the lowest versions of direct dependencies that they allow; without lint, whose tools no user runs
check-lowest:
	rm -rf build/lowest
	mkdir -p build && $(PYTHON) .ci/constraints.py lowest >build/lowest.txt
	$(MAKE) build/lowest/.installed-test VENV=build/lowest CONSTRAINTS=build/lowest.txt
	build/lowest/bin/python -m pytest $(TESTS)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("evalkit needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip

# an environment made before the distribution was called lora-evalkit has its commands twice
$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "Installing evalkit and its dependencies into $(VENV): several GB, minutes at first."
	$(PIP) uninstall --quiet --yes evalkit
	$(PIP) install --editable ".[$*]" --constraint $(CONSTRAINTS)
	touch $@

clean:
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
