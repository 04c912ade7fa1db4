# Each target does all its own set-up: a virtual environment .venv in this checkout (see setup.sh).
.PHONY: demo test lab load bench service deploy destroy lint clean help
.DEFAULT_GOAL := help
BIN := .venv/bin
LAB_ARGS ?=
DEPLOY_ARGS ?=
DESTROY_ARGS ?=
LOAD_PORT ?= 8089

help:   ## list the targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 11

demo:   ## both regions on this machine, traffic, two moves, a region lost and restored, a verdict
	@./setup.sh demo
	@$(BIN)/python -m lab.demo

test:   ## all tests: unit, contract, lab, documentation; two at a time (one: .venv/bin/pytest)
	@./setup.sh dev
	@$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder

lab:    ## start both regions and leave them running (LAB_ARGS="…" for lab up; stop: .venv/bin/lab down)
	@./setup.sh demo
	@$(BIN)/lab up $(LAB_ARGS)

load:   ## Locust's web UI against the running lab, on http://127.0.0.1:8089 (another port: LOAD_PORT=…)
	@./setup.sh demo
	@. ./.lab/env && $(BIN)/locust -f loadtest/locustfile.py --web-host 127.0.0.1 --web-port $(LOAD_PORT)

bench:  ## every benchmark, each against its named peer in the same run
	@./setup.sh dev
	@$(BIN)/python -m bench

service: ## a new service: folder, test and its line in topology.toml (NAME=orders)
	@./setup.sh demo
	@$(BIN)/python -m infra.scaffold '$(NAME)'

deploy: ## everything to AWS, then recovery.json and the switches (DEPLOY_ARGS for infra deploy)
	@./setup.sh deploy
	@$(BIN)/infra deploy $(DEPLOY_ARGS) && $(BIN)/infra export

destroy: ## show what AWS has of it and what would be lost (DESTROY_ARGS="--confirm …" does it)
	@./setup.sh deploy
	@$(BIN)/infra destroy $(DESTROY_ARGS)

lint:   ## ruff, mypy, import rules, CloudFormation (cfn-lint, checkov)
	@./setup.sh dev
	@$(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache && $(BIN)/cfn-lint infra/templates/*.yaml
	@./setup.sh checkov
	@$(BIN)/python -m infra.scanning

clean:  ## stop the lab and remove what was made here, but .venv
	@if [ -x $(BIN)/lab ]; then $(BIN)/lab down; fi
	@rm -rf .lab reports journal .mypy_cache .ruff_cache .pytest_cache .hypothesis
