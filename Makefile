# Every target makes .venv itself, from the pins in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= dev
STAMP := $(VENV)/.installed-$(EXTRAS)
JOBS ?= 2

.PHONY: run test test-slow bench lint format clean

run: $(STAMP)
	$(BIN)/armfold bandit --preset quickstart
	$(BIN)/armfold bandit --preset quickstart-digits

test: lint
	$(BIN)/pytest -n $(JOBS)

test-slow: $(STAMP)
	$(BIN)/pytest -n $(JOBS) -m slow

bench:
	$(MAKE) EXTRAS=dev,peers .venv/.installed-dev,peers
	$(BIN)/python -m bench.bandits
	$(BIN)/python -m bench.hosts
	$(BIN)/python -m bench.sweep
	$(BIN)/python -m bench.games
	$(BIN)/python -m bench.armac
	$(BIN)/python -m bench.armac_lambda
	$(BIN)/python -m bench.pixels

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	touch '$@'
