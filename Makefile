# Everything from a fresh Debian 12 with Python 3.11, as root or not. Each target sets up what it needs.
#
#   make run      the suite with a demo tenant, until Ctrl-C      (ARGS="--port-offset 1000", STATE=dir)
#   make test     check, then all tests                           (ARGS="tests/config -k quota")
#   make check    ruff, mypy
#   make bench    the same load against ours and against Postfix with Dovecot, as a table
#   make fuzz     the property tests with many more examples, then coverage-guided   (EXAMPLES=1000 SECONDS=25 each)
#   make soak     the end-to-end tests over and over              (ROUNDS=50)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check bench soak fuzz clean

VENV := .venv
BIN := $(VENV)/bin
STATE := state
ROUNDS := 50
WORKERS := 2
EXAMPLES := 1000
SECONDS := 25
ARGS :=
CLIENT_PACKAGES := swaks libnet-ssleay-perl curl msmtp isync offlineimap3 fetchmail getmail6 mutt neomutt ruby thunderbird xvfb
TEST_PACKAGES := $(CLIENT_PACKAGES) systemd libmail-dkim-perl postfix clamav-daemon rspamd spamassassin spamd \
  postfix-policyd-spf-python dovecot-sieve
BENCH_PACKAGES := postfix dovecot-imapd dovecot-pop3d dovecot-lmtpd bogofilter spamassassin spamd
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

help:
	@sed -n 's/^# \{0,1\}//; 1,9p' Makefile

run: $(VENV)/.runtime
	@exec $(BIN)/postwerk up --demo --state $(STATE) $(ARGS)

check: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check $(VENV)/.tools-test
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

bench: $(VENV)/.runtime $(VENV)/.tools-bench
	$(BIN)/python -m bench $(ARGS)

fuzz: $(VENV)/.development
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -m hypothesis --hypothesis-profile=fuzz --timeout=0 tests $(ARGS)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

soak: $(VENV)/.development $(VENV)/.tools-test
	@for round in $$(seq $(ROUNDS)); do echo "== round $$round of $(ROUNDS)"; $(BIN)/pytest -q tests/end_to_end $(ARGS); done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# -- set-up ------------------------------------------------------------------------------------------------------------

# Debian splits venv off from python3; nothing but apt can bring it.
$(BIN)/python:
	@python=$$(command -v python3.11 || command -v python3 || true); \
	if [ -z "$$python" ] || ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing python3-venv."; apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3 python3-venv >/dev/null; \
	    python=$$(command -v python3.11 || command -v python3); \
	  else \
	    echo "Python 3.11 with venv is needed: as root, apt-get install python3-venv" >&2; exit 1; \
	  fi; \
	fi; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version)'; \
	"$$python" -m venv $(VENV)

# The lock files carry hashes, also of what builds packages that come as source; the package itself is a link to this directory.
$(VENV)/.runtime: $(BIN)/python requirements.lock requirements-build.lock pyproject.toml
	@$(PIP) --require-hashes -r requirements-build.lock
	@if [ ! -e $(VENV)/.development ]; then $(PIP) --require-hashes --no-build-isolation -r requirements.lock; fi
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.development: $(BIN)/python requirements-dev.lock requirements-build.lock pyproject.toml
	@$(PIP) --require-hashes -r requirements-build.lock
	@$(PIP) --require-hashes --no-build-isolation -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.runtime

# Clients and peers of other makers. Without them, or without root to install them, their tests are skipped and say so.
$(VENV)/.tools-test: PACKAGES := $(TEST_PACKAGES)
$(VENV)/.tools-bench: PACKAGES := $(BENCH_PACKAGES)
$(VENV)/.tools-test $(VENV)/.tools-bench: Makefile | $(BIN)/python
	@missing=""; \
	for package in $(PACKAGES); do \
	  [ "$$(dpkg-query -W -f '$${db:Status-Abbrev}' $$package 2>/dev/null)" = "ii " ] || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then touch $@; \
	elif [ "$$(id -u)" != 0 ]; then echo "NOTE: not root, so these are not installed and what needs them is skipped:$$missing" >&2; \
	elif ! command -v apt-get >/dev/null; then echo "NOTE: no apt-get; what needs these is skipped:$$missing" >&2; \
	else \
	  echo "Installing$$missing."; \
	  if [ ! -e /usr/sbin/policy-rc.d ]; then \
	    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; \
	    trap 'rm -f /usr/sbin/policy-rc.d' EXIT; \
	  fi; \
	  if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	  then touch $@; else echo "NOTE: apt-get failed; what needs these is skipped:$$missing" >&2; fi; \
	fi
