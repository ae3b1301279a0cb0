# Two commands: `make demo` shows what Residual does, `make test` checks what a change can break.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-all style types layers pages pillow fuzz browser javascript docs clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed-dev
	$(MAKE) --jobs 2 --output-sync style layers
	$(BIN)/pytest $(WORKERS) $(CEILINGS)

# What takes long by nature: types, pages, whole runs, many kills, browsers, full networks, the fuzzers.
test-all: CEILINGS := --hold-ceilings
test-all: test
	$(MAKE) --jobs 2 --output-sync types pages
	if command -v npm >/dev/null; then $(MAKE) javascript; fi
	$(BIN)/pytest $(WORKERS) -m test_all
	$(MAKE) fuzz

# Tests compute on one thread each: as many at a time as there are cores. A worker's share is a row of neighbours, so
# that most fixtures of a file or a folder are made once.
WORKERS := -n auto --dist worksteal

style types layers pages: $(VENV)/.installed-dev

style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

layers:
	$(BIN)/lint-imports

pages:
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

# Wheel and sdist in empty environments: the oldest and the newest Python, the lowest and the newest versions of what it
# needs. It loads gigabytes and is no part of what a change is checked by. FLAGS are more words for 'uv pip install',
# such as --torch-backend cpu.
FLAGS ?=

.PHONY: test-install

test-install: $(VENV)/.installed-uv
	$(VENV)/install/bin/python tests/install/fresh.py --flags '$(FLAGS)'

$(VENV)/.installed-uv: $(VENV)/.installed
	$(PYTHON) -m venv $(VENV)/install
	$(VENV)/install/bin/pip install --quiet --disable-pip-version-check build twine uv
	@touch $@

# Stored pixels against every supported version of Pillow, each in a folder that comes before the installed one.
PILLOWS := $(addprefix $(VENV)/pillow-,11 12 13)

.PHONY: $(PILLOWS)

pillow: $(PILLOWS)

$(PILLOWS): $(VENV)/pillow-%: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $@ 'Pillow==$*.*'
	PYTHONPATH=src:$@ $(BIN)/python tests/golden/resized.py --version $*
	PYTHONPATH=src:$@ $(BIN)/pytest --quiet tests/data/test_formats.py tests/data/test_decode.py \
	  tests/exporting/test_resize_graph.py

# Every test of hypothesis with TIMES times the examples, others in each run.
TIMES ?= 20
fuzz: $(VENV)/.installed-dev
	RESIDUAL_FUZZ_TIMES=$(TIMES) $(BIN)/pytest $(WORKERS) -m hypothesis

# What the tests open pages in; packages of the system, so on Debian and its kin and for the superuser.
browser:
	{ command -v chromium && command -v npm; } >/dev/null || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core npm; }
	$(MAKE) javascript

# ONNX Runtime Web for examples/javascript, in the version and with the hashes of its lockfile.
MODULES := examples/javascript/node_modules

javascript: $(MODULES)/.package-lock.json

$(MODULES)/.package-lock.json: examples/javascript/package-lock.json
	npm ci --prefix $(dir $<) --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

docs: pages
	@echo "docs/_build/index.html"

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(MODULES) demo docs/_build
