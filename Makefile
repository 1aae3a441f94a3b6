# Everything runs in .venv, which is made when it is missing and renewed when the requirements change.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo speedrun test test-slow test-all lint types docs bench reproduce soak fuzz clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: .venv/installed  ## watch a transformer grok addition mod 97 (about a minute)
	@$(BIN)/grok-lightning fit --config addition

speedrun: .venv/installed  ## x + y mod 97 in 11 steps (a few seconds)
	@rm -rf lightning_logs/speedrun/demo checkpoints/speedrun/demo
	@$(BIN)/grok-lightning fit --config speedrun --run demo

# mypy fills its cache, half a minute on one core, beside the tests, and says what it found after them
test: .venv/installed lint  ## lint, types, every property and a real fit (a few minutes)
	@$(BIN)/mypy > /dev/null 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -rs -n auto --maxprocesses 8 --dist worksteal -m 'not slow'; tests=$$?; \
	wait $$types; $(BIN)/mypy && exit $$tests

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

.venv/optimizers: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,optimizers]'
	@touch $@

.venv/export: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,interop]'
	@touch $@

.venv/slow: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray,docs,loggers,optimizers]'
	@touch $@

test-slow: .venv/slow  ## what make test leaves out: every config, processes, crashes, browser, docs, Ray
	@$(BIN)/python -m pytest -rs -n auto --maxprocesses 8 --dist worksteal -m slow
	@$(BIN)/python -m pytest -rs tests/ray
	@# last, for TransformerLens brings transformers, with which every start of a command takes twice as long
	@$(MAKE) --no-print-directory .venv/export
	@$(BIN)/python -m pytest -rs -n auto --maxprocesses 2 -m slow tests/test_export.py tests/models/test_hooks.py tests/commands/test_init_from_others.py

test-all: test test-slow  ## everything

lint: .venv/installed  ## ruff: style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/installed  ## mypy
	@$(BIN)/mypy

docs: .venv/docs  ## the documentation site, into site/ (no network needed)
	@$(BIN)/python -m sphinx -q -W --keep-going -b html -d site/.doctrees docs site
	@echo "open site/index.html"

bench: .venv/installed  ## training speed against a plain PyTorch loop
	@$(BIN)/python benchmarks/throughput.py

reproduce: .venv/optimizers  ## runs what is missing of docs/science/reproductions.md (hours; can be stopped and goes on)
	@$(BIN)/python benchmarks/reproduce.py

soak: .venv/installed  ## kills, limits and disturbs runs and sweeps (ten minutes, Linux; MINUTES=1 for less)
	@$(BIN)/python tests/robustness/soak.py --minutes $(or $(MINUTES),10)

fuzz: .venv/installed  ## damaged and malicious input of all kinds (ten minutes, Linux; MINUTES=1 for less)
	@$(BIN)/python tests/robustness/fuzz.py --minutes $(or $(MINUTES),10)

clean:  ## remove the environment and caches, never a run
	rm -rf .venv build site docs/reference/api docs/reference/options.md docs/reference/configs.md *.egg-info .pytest_cache .mypy_cache .ruff_cache
