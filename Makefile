# Aisle: make demo | make test | make help
.DEFAULT_GOAL := help
SHELL := /bin/bash
export PYTHONDONTWRITEBYTECODE =
export TF_USE_LEGACY_KERAS = 1
AISLE := .venv/bin/aisle
PYTHON := .venv/bin/python

.PHONY: help setup demo test test-faults lint audit format bench bench-quality bench-quality-quick up down lock clean

help: ## what there is
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## the environment and the Delta jars; `make demo` and `make test` call it
	@bin/setup

demo: setup ## a year of real invoices through the whole loop in a running Airflow, then recommendations
	@$(AISLE) demo

test: setup ## all tests: quick ones first, the whole loop last
	@$(PYTHON) -m pytest tests --ignore tests/e2e --ignore tests/faults --durations 10
	@$(PYTHON) -m pytest tests/faults tests/e2e -s --durations 5

test-faults: setup ## kill -9 at twenty points of the MERGE; `make test` takes three
	@AISLE_FAULTS=all $(PYTHON) -m pytest tests/faults --timeout 3000

lint: setup ## formatter, linter, types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy

audit: setup ## known faults of locked packages, by the OSV database; skipped with a line where it cannot be reached
	@$(PYTHON) bin/audit

format: setup ## put the code in order
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

BENCHES := training search batch_scoring pipeline serving serving_overload cold_start two_tower quality

bench: setup ## all benches, the quick ones first: hours
	@for each in $(BENCHES); do $(PYTHON) -m bench.$$each || exit 1; done

bench-quality: setup ## quality beside tuned peers: SET=online_retail, gowalla, amazon_cds, beauty, sports, toys, all; else the main three
	@$(PYTHON) -m bench.quality --set "$(SET)"

bench-quality-quick: setup ## the same on Online Retail alone with seconds of tuning
	@$(PYTHON) -m bench.quality --quick

bench-%: setup ## one bench: quality, cold_start, two_tower, batch_scoring, training, pipeline, search, serving, serving_overload
	@$(PYTHON) -m bench.$*

up: setup ## start the services
	@$(AISLE) up

down: ## stop exactly what was started
	@if [ -x $(AISLE) ]; then $(AISLE) down; fi

lock: ## resolve requirements.lock anew from pyproject.toml
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url \
	  --python-version 3.12 --output-file requirements.lock --quiet

clean: down ## forget the demo's state; the environment stays
	rm -rf .aisle
