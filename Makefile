# `make demo` shows what vjepa-distill does, `make test` checks that it does it; both set up .venv when needed.
# Another Python: make test PYTHON=python3.12. Another place: VENV=folder. Part of the tests: ARGS="-k masks".
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK = 1

PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
EDITABLE := $(addprefix -e ,$(PLUGINS))
SOURCES := Makefile constraints.txt pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS))
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/.test
	$(BIN)/vjepa-distill demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest tests $(wildcard plugins/*/tests) $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

# The stamps $(VENV)/.test and $(VENV)/.dev say that the extra of that name is installed as it is declared now.
$(VENV)/.%: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install -c constraints.txt -e '.[$*]' $(EDITABLE)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 11) and sys.exit("vjepa-distill needs Python 3.11 or newer; $(PYTHON) is %d.%d. Type: make PYTHON=python3.12 …" % v[:2])'
	$(PYTHON) -m venv $(VENV)
