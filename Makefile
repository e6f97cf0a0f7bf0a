# make run    the main job: the study on the embedded data (see README)
# make test   all checks          make lab    JupyterLab on the notebooks
# Everything is set up in .venv by itself; a second call starts at once. Tests run in WORKERS=2 processes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/study
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

.PHONY: run test test-fast test-jax lab setup clean

run: setup
	@$(BIN)/medlab run study --out $(OUT)

lab: setup
	@$(BIN)/jupyter lab notebooks

# Fast checks first, then notebooks and browser, and last small environments with JAX and with other packages.
test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "not notebook and not browser and not jax and not peer"
	$(PYTEST) -m "notebook or browser"
	$(PYTEST) -m "jax or peer"

test-jax: setup
	$(PYTEST) -m jax

test-fast: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "not notebook and not browser and not jax and not peer"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "medlab needs Python 3.11 or newer; name one with make PYTHON=...")'
	@echo "Setting up $(VENV) (once; TensorFlow and JupyterLab are about 1 GB to download)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade-strategy only-if-needed -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) .venv-jax .venv-peers .venv-medicai runs
