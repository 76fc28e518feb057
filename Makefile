# make demo   the main job on the example documents, from nothing: installs what it needs into .venv
# make test   every test, with every optional package
# make check  format, lint, types, import directions, and that the documented commands exist
# make bench  every benchmark; make bench-NAME runs one (benchmarks/bench_NAME.py)
.DEFAULT_GOAL := help
.PHONY: help demo test check format bench clean constraints
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet install -c constraints.txt

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "需要 Python 3.11 或更高版本；可以用 make PYTHON=python3.12 指定。 / Python 3.11 or later is needed: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check --quiet --quiet install --upgrade 'pip>=25.1,<27'
	@touch $@

# The weight-free default: no torch, nothing to compile.
$(VENV)/.demo: $(VENV)/.created pyproject.toml constraints.txt
	@echo "正在安装默认组件 …… / Installing the default packages …"
	@$(PIP) --editable '.[office]'
	@touch $@

# Everything. llama-cpp-python is compiled here, which takes a C compiler and some minutes.
$(VENV)/.all: $(VENV)/.created pyproject.toml constraints.txt
	@echo "正在安装全部组件（会编译 llama.cpp，需要几分钟）…… / Installing everything (compiles llama.cpp: some minutes) …"
	@$(PIP) --editable '.[all]' --group test --group lint
	@touch $@ $(VENV)/.demo

# What benchmarks put beside the kit.
$(VENV)/.bench: $(VENV)/.all
	@$(PIP) --group bench
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py

test: $(VENV)/.all
	$(BIN)/python -m pytest

check: $(VENV)/.all
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_documented_commands.py

format: $(VENV)/.all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

bench-%: $(VENV)/.bench
	$(BIN)/python -m benchmarks $*

constraints: $(VENV)/.bench
	$(BIN)/python tools/freeze_constraints.py

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
	@echo "保留了 $(VENV)；要删除请运行 rm -rf $(VENV) / $(VENV) is kept; to remove it: rm -rf $(VENV)"
