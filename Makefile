# The two commands of this repository are `make demo` and `make test`; the rest serves development.
.PHONY: setup demo test check bench faults lock down
.DEFAULT_GOAL := help
STATE ?= .state
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export GROUNDLIFT_STATE := $(abspath $(STATE))

help: ## say what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: ## system packages and .venv
	@./setup

demo: setup ## the whole way on the lab: two DVDs, a cloud, a server moved into it
	@groundlift demo

test: setup ## everything that must be true: lint, types, imports, unit, contract, lab
	@mkdir -p .state && tests/gate

check: ## the quick part of `make test`: lint, types, imports, unit, contract
	@tests/gate --quick

bench: ## one benchmark against its peer: make bench NAME=transfer ARGS="--size 8G --repeats 3"
	@python benchmarks/$(NAME).py $(ARGS)

faults: ## the long fault suite
	@pytest tests/faults --full -q

lock: ## write the hash-locked dependencies anew
	uv pip compile -q requirements-build.in --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements-build.lock
	uv pip compile -q pyproject.toml --extra dev --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.lock

down: ## stop the lab
	@groundlift lab down
