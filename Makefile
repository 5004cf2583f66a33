# make quickstart   the main job on real data, on a CPU: about 4 minutes after the install
# make test         all tests, types, style and import contracts

PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test install install-test clean

quickstart: install
	$(BIN)/vlmrecipes ingest datasets/handwriting.toml
	$(BIN)/vlmrecipes ingest datasets/easy-vqa.toml
	$(BIN)/vlmrecipes run recipes/handwriting.toml
	$(BIN)/vlmrecipes run recipes/easy-vqa.toml
	$(BIN)/vlmrecipes report --last 2 -o quickstart.html

test: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=auto

install: .venv/installed
install-test: .venv/installed-test

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("vlmrecipes needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv/installed-test: .venv/installed requirements-test.lock
	$(BIN)/python -m pip install --quiet --requirement requirements-test.lock
	touch $@

clean:
	rm -rf .venv .vlmrecipes quickstart.html
