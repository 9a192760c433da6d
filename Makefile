.DEFAULT_GOAL := help
PYTHON := .venv/bin/python

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv, with Horovod built in it
	launch/setup.sh

quickstart: ## Data, training on two ranks, evaluation, a report
	launch/quickstart.sh

test: ## The default tests (about twenty-five minutes on two cores)
	launch/test.sh

test-slow: setup ## The long forms of the tests
	launch/test.sh -m slow

test-lowest: ## The unit tests with the lowest versions that setup.py allows
	launch/test_lowest.sh

test-trackers: ## The examples that log to MLflow, Weights & Biases and Trackio
	launch/test_trackers.sh

test-other-losses: ## The losses beside sentence-transformers and pytorch-metric-learning
	launch/test_other_losses.sh

check: setup ## Style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: setup ## Put the code into the project's style
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

tree: setup ## Write the tree in docs/architecture.md anew
	$(PYTHON) -m tests.house_tree

bench: setup ## Print the figures that the docs quote
	for module in $(filter-out %/rivals.py,$(wildcard tests/benchmarks/[a-z]*.py)); do \
	  $(PYTHON) -m tests.benchmarks.$$(basename $$module .py); done

bench-rivals: ## The training speed of legacy Keras with Horovod and of PyTorch beside this project's
	launch/bench_rivals.sh

lock: setup ## Choose the newest versions that setup.py allows, for launch/requirements.txt
	.venv/bin/uv pip compile -q --upgrade setup.py --extra horovod-build --extra ray --extra dev \
	  --universal --python-version 3.11 --no-emit-index-url --no-annotate \
	  --custom-compile-command "make lock" -o launch/requirements.txt

.PHONY: help setup quickstart test test-slow test-lowest test-trackers test-other-losses check format tree bench bench-rivals lock
