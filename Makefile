# Stanchion's commands for people and for CI. Each installs what it needs first (tools/bootstrap.sh) and says so.
#
# Nothing is written into the checkout: builds and the tests' virtual environment live in ~/.cache/stanchion.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/stanchion/target
export VENV ?= $(HOME)/.cache/stanchion/venv
export PATH := $(HOME)/.cargo/bin:$(PATH)
export STANCHION_BIN ?= $(CARGO_TARGET_DIR)/debug/stanchion

# What to hand to `stanchion dev` and to pytest: make run ARGS="--ephemeral", make e2e ARGS="-k signal"
ARGS ?=

.PHONY: help run build test unit e2e fmt lint bench jepsen jepsen-full sim mutants golden lock bootstrap bootstrap-test

help:
	@echo 'make run      build and start `stanchion dev` (gRPC on 7233, HTTP on 8233); ARGS="--ephemeral"'
	@echo 'make test     all tests: the workspace, then the Python tests against the built server'
	@echo 'make fmt      format the code'
	@echo 'make lint     rustfmt, clippy and ruff, warnings denied'
	@echo 'make bench    short measurements (bench/run --quick)'
	@echo 'make jepsen   short fault tests on three real processes (jepsen/run quick)'
	@echo 'make jepsen-full   every workload by every fault, for FOR=1h (jepsen/run full)'
	@echo 'make sim      simulated clusters: determinism, past failures, then fresh seeds for a while (node/sim/README.md)'
	@echo 'make mutants  whether the simulation finds each planted bug, and how soon (docs/verification.md)'
	@echo 'make golden   record the real Temporal server'\''s answers anew (tests/differential/golden)'

bootstrap:
	@tools/bootstrap.sh build

bootstrap-test:
	@tools/bootstrap.sh test

build: bootstrap
	cargo build --locked --workspace

# The whole workspace even to run one binary of it: for a part of it Cargo chooses other features of shared dependencies, and with
# other features RocksDB is compiled a second time (docs/decisions/03-one-profile.md).
run: build
	$(STANCHION_BIN) dev $(ARGS)

test: unit e2e

unit: bootstrap-test
	cargo build --locked --workspace
	@if cargo nextest --version >/dev/null 2>&1; then \
	  set -x; cargo nextest run --locked --workspace --no-tests=pass; \
	else \
	  set -x; cargo test --locked --workspace; \
	fi

e2e: bootstrap-test build
	cd tests && $(VENV)/bin/python -m pytest $(ARGS)

fmt: bootstrap
	cargo fmt --all

lint: bootstrap-test
	$(VENV)/bin/ruff check -q tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

bench: bootstrap-test build
	bench/run --quick

jepsen: bootstrap-test build
	$(VENV)/bin/python -m pytest -q jepsen/tests
	jepsen/run quick

# Every workload by every fault, for FOR: a line a cell in jepsen/out/table.md.
FOR ?= 1h
jepsen-full: bootstrap-test build
	jepsen/run full --for $(FOR) $(ARGS)

# Two processes at a time. SIM_SEEDS, SIM_FOR: how many seeds are run, and for how long at most.
SIM_SEEDS ?= 80
SIM_FOR ?= 60s
sim: build
	$(CARGO_TARGET_DIR)/debug/stanchion-sim check-determinism --seeds 3
	$(CARGO_TARGET_DIR)/debug/stanchion-sim replay
	$(CARGO_TARGET_DIR)/debug/stanchion-sim soak --from 1 --seeds $(SIM_SEEDS) --for $(SIM_FOR)

# In a folder of its own, so that no binary with planted bugs lies where others look for theirs; only our own crates are built anew.
# MUTANTS_FOR: how long each bug is searched for at most.
MUTANTS_DIR ?= $(CARGO_TARGET_DIR)-mutants
MUTANTS_FOR ?= 10m
mutants: build
	@[ -d $(MUTANTS_DIR) ] || { set -e; mkdir -p $(MUTANTS_DIR); \
	  cp -al $(CARGO_TARGET_DIR)/debug $(MUTANTS_DIR)/debug; \
	  rm -rf $(MUTANTS_DIR)/debug/.cargo-lock $(MUTANTS_DIR)/debug/incremental $(MUTANTS_DIR)/debug/stanchion*; \
	  find $(MUTANTS_DIR)/debug/deps $(MUTANTS_DIR)/debug/.fingerprint -maxdepth 1 -name '*stanchion*' -exec rm -rf {} +; }
	CARGO_TARGET_DIR=$(MUTANTS_DIR) cargo build --locked --workspace --features stanchion-server/mutants,stanchion-sim/mutants
	$(MUTANTS_DIR)/debug/stanchion-sim mutants --for $(MUTANTS_FOR)

golden: bootstrap-test
	cd tests && $(VENV)/bin/python -m differential.run --record

lock: bootstrap-test
	$(VENV)/bin/python -m pip install -q uv
	$(VENV)/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  tests/requirements.in -o tests/requirements.lock
