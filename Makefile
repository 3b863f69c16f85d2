# On a fresh machine each target does its own set-up: `make demo`, `make docs`, `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

# Two files of tests at a time, each process with one thread: twice as fast on two cores.
TOGETHER := -n 2 --dist loadfile
test test-all: export OMP_NUM_THREADS = 1
# Without compiled files every process of the tests would compile torch again, for half a minute.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo docs test test-all check format clean

# The stamps make a second call start at once; a changed pyproject.toml installs again. Compiling all
# of torch takes longer than it will ever save here, so what is imported is compiled then.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --editable

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | $(BIN)/python
	$(INSTALL) ".[demo]"
	touch $@

.venv/installed-docs: pyproject.toml | $(BIN)/python
	$(INSTALL) ".[docs]"
	touch $@

.venv/installed-dev: pyproject.toml | $(BIN)/python
	$(INSTALL) ".[dev]"
	touch $@ .venv/installed .venv/installed-docs

demo: .venv/installed  ## install, run the main job on real photos, print the path of the report
	$(BIN)/labelwise demo --resume

# Not --quiet: without its complaints, --strict does not fail either.
docs: .venv/installed-docs  ## build the pages; a broken link or a page that nothing leads to fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo $(CURDIR)/site/index.html

test: .venv/installed-dev check  ## lint, types and the tests that take minutes
	$(BIN)/python -m pytest $(TOGETHER) -m "not slow"

test-all: .venv/installed-dev check  ## the same, with the tests that train for long
	$(BIN)/python -m pytest $(TOGETHER)

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build site *.egg-info
