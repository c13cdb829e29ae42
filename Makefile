# The commands of the project; `make` alone lists them. Needs Python >= 3.11 and a Rust toolchain, nothing else:
# what the Python side needs is installed into .venv from pyproject.toml. Stamp files in .venv say what is up to date.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 5000
# The app that `make run` serves.
APP ?= examples/responses.py
# Arguments passed on: `make pytest ARGS='-k pipelining'`, `make bench ARGS='--servers all'`.
ARGS ?=
# How long `make check-fuzz` runs each target.
FUZZ_SECONDS ?= 5
# How the extension module is built: with a profile of Cargo.toml, `release` or `quick` (while developing), or `pgo`:
# `release` laid out by what benchmarks/training.py was seen to run. That takes three times as long, so it is made when
# it is asked for (make build), and used as long as nothing changes.
PROFILE ?= $(if $(wildcard $(VENV)/.built-pgo),$(if $(shell find $(RUST_SOURCES) -newer $(VENV)/.built-pgo),release,pgo),release)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# A conda environment that happens to be active would confuse maturin.
MATURIN = env -u CONDA_PREFIX VIRTUAL_ENV="$(CURDIR)/$(VENV)" PIP_QUIET=1 $(BIN)/maturin
# Lets the same interpreter serve every cargo command that compiles the bridge, so that pyo3 is not rebuilt for each.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

BUILT = $(VENV)/.built-$(PROFILE)
RUST_SOURCES := Cargo.toml pyproject.toml $(wildcard Cargo.lock) $(shell find rust -name '*.rs')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help tools llvm-tools run test check check-rust check-python check-deps check-fuzz cargo-test pytest build wheel bench \
	perf-check conformance format clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

# --- set-up ----------------------------------------------------------------------------------------------------------

tools:  ## check that Python and Rust are there and recent enough
	@"$(PYTHON)" -c '' >/dev/null 2>&1 || { \
		echo "vibora: $(PYTHON) was not found: install Python 3.11 or newer (https://www.python.org), or name one with make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "vibora: $$("$(PYTHON)" --version 2>&1) is too old: install Python 3.11 or newer, or name one with make PYTHON=python3.12" >&2; exit 1; }
	@command -v cargo >/dev/null 2>&1 || { \
		echo "vibora: cargo was not found: install Rust from https://rustup.rs, open a new shell, and run this again" >&2; exit 1; }
	@wanted=$$(sed -n 's/^rust-version = "1\.\([0-9]*\).*"/\1/p' Cargo.toml); \
	cargo --version | awk -F '[ .]' -v wanted="$$wanted" '{ exit !($$2 > 1 || $$3 >= wanted) }' || { \
		echo "vibora: $$(cargo --version) is too old: Rust 1.$$wanted or newer is needed (rustup update, or https://rustup.rs)" >&2; exit 1; }

# pip learnt --group in 25.1.
$(VENV)/.created: | tools
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "vibora: $(PYTHON) cannot create virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.group-%: pyproject.toml $(VENV)/.created
	$(PIP) install --quiet --group $*
	@touch $@

# Every profile installs over the same file, so only the stamp of the last one stands; and a module that is missing, or
# newer than the stamp because somebody called maturin by hand, is built again.
$(BUILT): $(RUST_SOURCES) $(or $(wildcard python/vibora/_core*.so),tools) $(VENV)/.group-build | tools
	@rm -f $(VENV)/.built-*
	$(MATURIN) develop --quiet $(if $(filter pgo,$(PROFILE)),--pgo,--profile $(PROFILE) --group build)
	@touch $@

# --- every day -------------------------------------------------------------------------------------------------------

run: $(BUILT) $(if $(filter examples/todo/%,$(APP)),$(VENV)/.group-examples)  ## set up, build and serve examples/responses.py (APP=, HOST=, PORT=)
	@echo "Try, in another shell:"
	@sed -n "s/^@app\.[a-z]*(['\"]\([^'\"<]*\)['\"].*/  curl -iN http:\/\/$(HOST):$(PORT)\1/p" $(APP)
	@exec $(BIN)/vibora run $(APP) --host $(HOST) --port $(PORT) $(ARGS)

test: cargo-test pytest  ## set up, build and run every test

cargo-test: | tools  ## the Rust tests; they need no Python
	cargo test --quiet

pytest: $(BUILT) $(VENV)/.group-test  ## the Python tests, four files at a time (ARGS='-k name' for some of them)
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses=4 --dist=loadfile)

# `pgo` needs the llvm-profdata of the compiler that is used. rustup has it; where it is not to be had, `release` will do.
PROFDATA = $(shell ls "$$(rustc --print sysroot)"/lib/rustlib/*/bin/llvm-profdata 2>/dev/null)
BEST = $(if $(PROFDATA),pgo,release)

llvm-tools: | tools
	@[ -n "$(PROFDATA)" ] || rustup component add llvm-tools || \
		echo "vibora: rustup component add llvm-tools did not work: this build is one without a profile, and slower" >&2

build: llvm-tools  ## the fastest build, in .venv: .venv/bin/vibora then runs from any folder
	@$(MAKE) --no-print-directory $(VENV)/.built-$(BEST) PROFILE=$(BEST)

wheel: llvm-tools $(VENV)/.group-build  ## the fastest build as a wheel, in dist/
	$(MATURIN) build --release $(if $(PROFDATA),--pgo) --interpreter $(BIN)/python --out dist

bench: build  ## measure against other frameworks and a C floor; needs wrk, takes some minutes (ARGS='--help')
	$(BIN)/python benchmarks/run.py $(ARGS)

# A plain build: what a profile makes of the code is not the same each time.
perf-check: | tools  ## count the instructions of the hot paths against the record; needs valgrind (ARGS=--record)
	@$(MAKE) --no-print-directory $(VENV)/.built-release PROFILE=release
	$(BIN)/python benchmarks/instructions.py $(ARGS)

conformance: $(BUILT) $(VENV)/.group-test  ## replay raw requests against a live server (ARGS='--help', ARGS=corpus.jsonl)
	PYTHONPATH=tests $(BIN)/python -m conformance $(ARGS)

# --- the definition of green -----------------------------------------------------------------------------------------

check: check-rust check-python check-deps check-fuzz pytest  ## everything that must pass before a merge

OLDEST_RUST = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

check-rust: $(VENV)/.created  ## rustfmt, clippy with and without the bridge, the oldest Rust (where rustup has it), tests
	cargo fmt --check
	@if cargo +$(OLDEST_RUST) --version >/dev/null 2>&1; then cargo +$(OLDEST_RUST) check --quiet --features python; \
	else echo "Rust $(OLDEST_RUST) is not installed, and was not tried (rustup toolchain install $(OLDEST_RUST))"; fi
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --all-targets --features python -- -D warnings
	cargo test --quiet

check-python: $(BUILT) $(VENV)/.group-dev  ## ruff, mypy, pyright, and the stubs against the binary
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m mypy.stubtest vibora._core $(if $(wildcard tests/stubtest.allow),--allowlist tests/stubtest.allow)

check-deps: | tools  ## licences, advisories and sources of the crates (skipped without cargo-deny)
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --all-features check; \
	else echo "cargo-deny is not installed, dependencies were not checked (cargo install --locked cargo-deny)"; fi

check-fuzz: | tools  ## the fuzz targets compile, and run for FUZZ_SECONDS each (where cargo-fuzz is)
	cargo check --quiet --manifest-path fuzz/Cargo.toml
	@if cargo fuzz --version >/dev/null 2>&1; then \
		for target in $$(cargo fuzz list); do \
			echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
			log=$$(RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) 2>&1) || { echo "$$log" >&2; exit 1; }; \
		done; \
	else echo "cargo-fuzz is not installed, the targets were not run (cargo install cargo-fuzz)"; fi

format: $(VENV)/.group-dev  ## rustfmt, ruff format and ruff's safe fixes
	cargo fmt
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

clean:  ## remove everything that was built or installed here
	rm -rf $(VENV) benchmarks/.venv* benchmarks/.build target fuzz/target dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find python -name '_core*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
